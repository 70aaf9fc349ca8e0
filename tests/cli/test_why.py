"""``python -m jaxboard why`` names the cause of each planted fault."""

from __future__ import annotations

import json

import jax
import numpy as np
import pytest

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


def test_one_profile(tmp_path):
    """A run with one profile has one finding."""
    with jb.Run(tmp_path):
        jb.text("profile/verdict", "**Steps 3-4: unknown limit.** No operations.", step=4)
    (evidence,) = read_evidence(tmp_path)
    (finding,) = explain(evidence)
    assert finding.title == "The last profile"
    assert finding.figures == {"tag": "profile/verdict", "entries": 1}
