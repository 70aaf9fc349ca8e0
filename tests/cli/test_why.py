"""``python -m jaxboard why`` names the cause of each planted fault."""

from __future__ import annotations

import json
import time

import jax
import numpy as np
import pytest
from timed_runs import Clock, timed_run

import jaxboard as jb
from jaxboard._cli.main import main
from jaxboard._why import sections
from jaxboard._why.evidence import read_evidence
from jaxboard._why.sections import explain
from jaxboard.records import Kind, Record
from jaxboard.sinks import TensorBoardSink


def test_nonfinite_values_and_recompiles(tmp_path, capsys):
    """A NaN and a recompile are each named with their step, as text and as JSON."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        jb.scalar("loss", x.mean())
        return x + 1

    with jb.Run(tmp_path / "a", on_nonfinite=lambda text: None):
        train_step(np.ones(2, np.float32))
        train_step(np.ones(3, np.float32))
        train_step(np.full(3, np.nan, np.float32))
    with jb.Run(tmp_path / "good"):
        jb.scalar("loss", 1.0)
    assert main(["why", str(tmp_path), "--json"]) == 0
    explained = json.loads(capsys.readouterr().out)
    assert explained["logdir"] == str(tmp_path)
    bad, good = explained["runs"]
    assert [bad["run"], good["run"], good["findings"]] == ["a", "good", []]
    (nonfinite, recompile) = bad["findings"]
    assert nonfinite["section"] == "nonfinite"
    assert nonfinite["step"] == 2
    assert nonfinite["sentence"].startswith("Not finite: loss is nan at step 2;")
    assert recompile["section"] == "recompiles"
    assert recompile["step"] == 1
    assert recompile["figures"] == {"tag": "recompiles/train_step", "entries": 1}
    assert "x: float32[2] -> float32[3] (shape)" in recompile["details"]

    assert main(["why", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith(
        "== a ==\n\nNaN or infinite values (step 2)\n  Not finite: loss is nan at step 2"
    )
    assert "Compiled again (step 1)\n  train_step was compiled again at step 1" in text
    assert "good" not in text


def test_a_dead_layer(tmp_path):
    """A layer that dies is named, with its step."""
    params = {f"layer_{n}": np.ones(4) for n in range(3)}
    with jb.Run(tmp_path):
        for step in range(20):
            grads = params | {"layer_1": np.full(4, float(step < 5))}
            jb.health(params, grads, every=1, step=step)
    (evidence,) = read_evidence(tmp_path)
    (finding,) = explain(evidence)
    assert (finding.section, finding.step) == ("health", 14)
    assert finding.sentence == (
        "health, step 14: Layer layer_1 is dead: its gradient has been zero everywhere since step 5."
    )


def test_a_spiking_batch(tmp_path):
    """A spike is named with its step and the batch that was kept, and so is what a rule found."""
    losses = np.random.default_rng(0).normal(2, 0.1, 130)
    losses[120] = 30
    with jb.Run(tmp_path, alerts=["loss > 20"]) as run:
        for run.step, loss in enumerate(losses.tolist()):
            jb.keep("batch", np.array([run.step, 1000 + run.step]))
            jb.scalar("loss", loss)
    (evidence,) = read_evidence(tmp_path)
    spike, alert = explain(evidence)
    assert (spike.section, spike.step) == ("spikes", 120)
    assert spike.sentence.startswith("Spike: loss rose to 30 at step 120, from ")
    assert "| `batch` | 120 | `[120, 1120]` |" in spike.details
    assert (alert.section, alert.step) == ("alerts", 120)
    assert alert.sentence == "loss > 20: it is 30 at step 120."
    assert alert.figures == {"tag": "alerts/loss > 20", "entries": 1}


def test_a_process_that_hangs(tmp_path):
    """The process that the others wait for is named, and so is another program."""
    hang = "No step has finished for 300 s. The others wait for process 2 (host b)."
    with jb.Run(tmp_path):
        jb.text("jaxboard/processes/programs", "f is another program", step=1)
        jb.text("jaxboard/processes/hang", f"{hang}\n\n| process |", step=41)
    (evidence,) = read_evidence(tmp_path)
    programs, found = explain(evidence)
    assert (programs.section, programs.step) == ("processes", 1)
    assert (found.sentence, found.details) == (hang, "| process |")
    assert found.figures == {"tag": "processes/hang", "entries": 2}


def test_only_the_first_entries_are_shown(tmp_path):
    """The first entries of a kind are shown; all are counted."""
    with jb.Run(tmp_path):
        for step in range(8):
            jb.text(
                "jaxboard/out_of_memory", f"**Out of memory** in `f`, {step}\n\nrest", step=step
            )
    (evidence,) = read_evidence(tmp_path)
    findings = explain(evidence)
    assert [(f.step, f.sentence, f.details) for f in findings] == [
        (step, f"Out of memory in f, {step}", "rest") for step in range(5)
    ]
    assert findings[0].figures == {"tag": "out_of_memory", "entries": 8}


def test_a_section_that_fails(tmp_path, monkeypatch, caplog):
    """A section that raises is logged; the others are shown."""

    def broken(evidence):
        raise KeyError(evidence.run)

    monkeypatch.setattr(sections, "SECTIONS", (broken, *sections.SECTIONS))
    with jb.Run(tmp_path):
        jb.text("jaxboard/autopsy", "the step")
    (evidence,) = read_evidence(tmp_path)
    assert [finding.section for finding in explain(evidence)] == ["autopsy"]
    (record,) = caplog.records
    assert record.getMessage() == "jaxboard: broken of run . failed: KeyError: '.'"


def test_hidden_points_are_left_out(tmp_path):
    """Points that a resumed run hides explain nothing."""
    with jb.Run(tmp_path):
        jb.text("jaxboard/autopsy", "before", step=3)
        jb.text("jaxboard/autopsy", "after", step=7)
        jb.scalar("jaxboard/x", 1.0, step=7)
    with jb.Run(tmp_path, step=5):
        jb.scalar("loss", 1.0)
    (evidence,) = read_evidence(tmp_path)
    assert [entry.text for entry in evidence.entries["autopsy"]] == ["before"]
    assert evidence.curves == {}


@pytest.mark.parametrize("name", ["nothing", "empty"])
def test_nothing_to_read(tmp_path, capsys, name):
    """Without event files, the exit status is 1 and the message is on standard error."""
    (tmp_path / "empty").mkdir()
    assert main(["why", str(tmp_path / name)]) == 1
    output = capsys.readouterr()
    assert not output.out
    assert str(tmp_path / name) in output.err


def test_nothing_to_explain(tmp_path, capsys):
    """A run without anything to explain leads to telemetry."""
    sink = TensorBoardSink(tmp_path)
    sink.write([Record(Kind.SCALAR, "loss", 0, 1.7e9, np.float64(1))])
    sink.close()
    assert main(["why", str(tmp_path)]) == 0
    assert "jb.Run(telemetry=True)" in capsys.readouterr().out


def test_profiles(tmp_path, capsys):
    """The last profile, and the one with the worst slowdown, are shown with their verdicts and figures."""
    with jb.Run(tmp_path):
        for step, ratio in (4, None), (14, 3.0), (24, 1.05), (34, 0.3):
            jb.text("profile/verdict", f"**Steps to {step}: input-bound.** 72 %\n\nrest", step=step)
            jb.scalar("profile/time_percent/between_steps", step + 0.5, step=step)
            jb.scalar("profile/communication_percent", 0.0, step=step)
            if ratio is not None:
                jb.scalar("profile/step_time_ratio", ratio, step=step)
    (evidence,) = read_evidence(tmp_path)
    slow, last = explain(evidence)
    assert (slow.section, slow.step, last.section, last.step) == ("profile", 14, "profile", 34)
    assert slow.sentence == "Steps to 14: input-bound. 72 %"
    assert slow.details == "rest"
    assert slow.figures == {
        "tag": "profile/verdict",
        "entries": 4,
        "between_steps_percent": 14.5,
        "communication_percent": 0.0,
        "step_time_ratio": 3.0,
    }
    assert last.figures["step_time_ratio"] == pytest.approx(0.3)
    assert main(["why", str(tmp_path)]) == 0
    assert (
        "The last profile (step 34)\n  Steps to 34: input-bound. 72 %\n  rest"
        in capsys.readouterr().out
    )


def test_a_narrow_terminal(tmp_path, capsys, monkeypatch):
    """Sentences are wrapped and indented, and rows of tables are not."""
    monkeypatch.setenv("COLUMNS", "40")
    row = "| 72.0 % | 6.000 | the devices are idle between the steps |"
    with jb.Run(tmp_path):
        text = f"**Steps 3-4: input-bound.** The devices wait for the loop.\n\n{row}"
        jb.text("profile/verdict", text, step=4)
    assert main(["why", str(tmp_path)]) == 0
    assert capsys.readouterr().out == (
        "The last profile (step 4)\n  Steps 3-4: input-bound. The devices\n  wait for the loop.\n"
        f"  {row}\n\n"
    )


def test_one_profile(tmp_path):
    """A run with one profile has one finding."""
    with jb.Run(tmp_path):
        jb.text("profile/verdict", "**Steps 3-4: unknown limit.** No operations.", step=4)
    (evidence,) = read_evidence(tmp_path)
    (finding,) = explain(evidence)
    assert finding.title == "The last profile"
    assert finding.figures == {"tag": "profile/verdict", "entries": 1}


def findings_of(logdir, capsys) -> list[dict]:
    """Return what the command finds in a directory with one run."""
    assert main(["why", str(logdir), "--json"]) == 0
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    return run["findings"]


@jb.instrument
def train_step(clock):
    clock.now += 1


def test_a_slow_loader(tmp_path, capsys):
    """A loader that takes three times as long as the step is named as the cause, with its share."""
    clock = Clock()
    with timed_run(tmp_path, clock, window=20):
        for batch in range(100):
            train_step(clock)
            clock.now += 9 if batch == 70 else 3
    (finding,) = findings_of(tmp_path, capsys)
    assert finding["section"] == "time"
    assert finding["sentence"] == ("75 % of the time waits for input, 25 % dispatches steps.")
    figures = finding["figures"]
    assert figures["largest_loss"] == "input"
    assert figures["seconds"] == {"input": 99 * 3 + 6, "dispatch": 100, "outside": 3}
    assert figures["wall_seconds"] == clock.now - 100 == sum(figures["seconds"].values())
    assert figures["longest_wait_seconds"] == 9
    assert 71 <= figures["longest_wait_until_step"] <= 75
    assert main(["why", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    assert text.startswith("Where the time went\n  75 % of the time waits for input, 25 %")
    assert "| input | 303.00 | 74.6 % |" in text
    assert "Load the next batches while it computes" in text


def test_a_slow_checkpoint(tmp_path, capsys):
    """Saving that takes longer than everything else is named as the cause."""
    clock = Clock()
    with timed_run(tmp_path, clock):
        for _ in range(10):
            train_step(clock)
            clock.now += 4
            jax.monitoring.record_event_duration_secs("/jax/orbax/write/total_duration_secs", 4.0)
        train_step(clock)
    (finding,) = findings_of(tmp_path, capsys)
    assert finding["sentence"] == (
        "78 % of the time saves and restores checkpoints, 22 % dispatches steps."
    )
    assert finding["figures"]["largest_loss"] == "checkpoint"
    assert "Save less often" in finding["details"]


def test_lost_steps(tmp_path, capsys):
    """Steps that were trained again after a restart are named as the cause."""
    clock = Clock()
    for first, count in ((0, 10), (2, 3)):
        with timed_run(tmp_path, clock, window=1, step=first):
            for _ in range(count):
                train_step(clock)
    (finding,) = findings_of(tmp_path, capsys)
    assert finding["sentence"] == (
        "62 % of the time is lost to steps that were trained again after a restart, 38 % dispatches steps."
    )
    assert finding["figures"]["seconds"] == {"redone": 8, "dispatch": 5}


def test_recompiles(tmp_path, capsys):
    """A step that compiles at each call is named as the cause, with the phases of its compilation."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        jb.scalar("loss", x.mean())
        return jax.lax.fori_loop(0, 3, lambda _, x: x * 2, x)

    with jb.Run(tmp_path, telemetry=True) as run:
        jb.scalar("ready", 1.0)
        run.flush()
        for rows in range(1, 9):
            train_step(np.ones(rows, np.float32))
    time_spent, *recompiles = findings_of(tmp_path, capsys)
    parts = [name for name in time_spent["figures"]["shares"] if name != "outside"]
    assert parts[0] == "compile"
    phases = time_spent["figures"]["compile_seconds_by_function"]["train_step"]
    assert list(phases) == ["trace", "lowering", "xla"]
    assert min(phases.values()) > 0
    compiled = time_spent["figures"]["seconds"]["compile"]
    assert compiled == pytest.approx(sum(phases.values()), rel=0.1)
    assert "| train_step |" in time_spent["details"]
    assert [each["step"] for each in recompiles] == [1, 2, 3, 4, 5]


def test_orbax(tmp_path):
    """The time of a real checkpoint is found from the events of Orbax."""
    ocp = pytest.importorskip("orbax.checkpoint")
    spent = 0.0
    with jb.Run(tmp_path / "run", telemetry=True), ocp.PyTreeCheckpointer() as checkpointer:
        train_step(Clock())
        for number in range(3):
            began = time.perf_counter()
            checkpointer.save(tmp_path / str(number), {"w": np.ones((500, 500))})
            spent += time.perf_counter() - began
            train_step(Clock())
    (evidence,) = read_evidence(tmp_path / "run")
    saved = evidence.curves["time/seconds/checkpoint"].last
    assert spent / 2 < saved <= spent
