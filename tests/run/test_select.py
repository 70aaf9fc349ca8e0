"""Run(select=): cadences by patterns of tags, for reports of compiled functions and of plain Python."""

# pyright: reportAttributeAccessIssue=false, reportFunctionMemberAccess=false

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations

import jaxboard as jb
from jaxboard import _compat
from jaxboard._host.selection import Selection
from jaxboard._run import channel_of
from jaxboard._trace.pruning import select as select_reports
from jaxboard.sinks import MemorySink

STEPS = 9


def program(x):
    jb.scalar("loss", x)
    jb.scalar("act/mean", x, every=2)
    jb.scalar("act/last", x, every=2, reduce="last")
    jb.histogram("debug/histogram", x * jnp.ones(3))
    jb.watch("grads", {"w": x * jnp.ones(2)}, what="norm", every=4)
    return x + 1


def open_run(select, **options):
    sink = MemorySink()
    run = jb.Run(None, sinks=[sink], telemetry=False, flush_secs=3600, select=select, **options)
    return run, sink


def points(sink):
    """Return the steps of each tag, and the values of scalars."""
    found = {}
    for record in sorted(sink.records, key=lambda record: record.step):
        value = float(record.value) if record.kind is jb.records.Kind.SCALAR else None
        found.setdefault(record.tag, []).append((record.step, value))
    return found


def steps(sink):
    return {tag: [step for step, _ in found] for tag, found in points(sink).items()}


def deliveries():
    """Return the step with each delivery, as a function of the number and of its step."""
    jitted = jax.jit(program)
    plain = jb.instrument(program)
    output, callback = jb.instrument(jitted), jb.instrument(jitted, delivery="callback")
    gated, exact = jb.instrument(jitted, gate="cond"), jb.instrument(jitted, exact=True)
    counted = jb.instrument(jax.jit(lambda x, n: program(x)), step=lambda x, n: n)
    inner = jb.instrument(jax.jit(program))
    outer = jax.jit(lambda x: inner(x) * 1)
    return {
        "output": lambda x, n: output(x),
        "gate": lambda x, n: gated(x),
        "exact": lambda x, n: exact(x),
        "callback": lambda x, n: callback(x),
        "device step": lambda x, n: counted(x, jnp.int32(n)),
        "in a trace": lambda x, n: outer(x),
        "plain": lambda x, n: plain(x),
    }


@pytest.mark.parametrize("delivery", deliveries())
def test_every_delivery(delivery):
    """Cadences are those of the last pattern that matches, whatever the delivery; windows have their values."""
    step = deliveries()[delivery]
    run, sink = open_run({"*": None, "act/*": 3, "loss": 1, "grads/*": 6})
    with run:
        for n in range(STEPS):
            step(np.float32(n), n)
    each = [(n, float(n)) for n in range(STEPS)]
    found = points(sink)
    assert found.pop("loss") == each
    assert found.pop("act/mean") == [(0, 0.0), (3, 2.0), (6, 5.0), (8, 7.5)]
    assert found.pop("act/last") == each[::3]
    assert [step for step, _ in found.pop("grads/norm")] == [0, 6]
    assert found == {}


def test_plain_python():
    """Reports of plain Python have the selected cadence, and what describes the run stays."""
    run, sink = open_run({"*": None, "eval/*": 2}, hparams={"lr": 0.1})
    with run:
        for n in range(5):
            run.step = n
            jb.scalar("eval/loss", float(n), reduce="last")
            jb.scalar("noise", 1.0)
            with jb.scope("eval"):
                jb.text("note", str(n))
            jb.histogram("eval/values", np.arange(3.0))
            jb.watch("eval/params", {"w": jnp.ones(2)}, what="norm")
            jb.watch("params", {"w": jnp.ones(2)}, what="norm")
        jb.layout({"training": {"loss": ["loss"]}})
    tags = ["eval/loss", "eval/note", "eval/values", "eval/params/norm"]
    found = steps(sink)
    assert {tag: found.pop(tag) for tag in tags} == {tag: [0, 2, 4] for tag in tags}
    assert found == {"hparams": [0], "layout": [4]}


def test_runs_below():
    """The selection holds in the runs below the run."""
    step = jb.instrument(jax.jit(lambda x: jb.scalar("debug/a", x)))
    run, sink = open_run({"debug/*": None})
    with run, run.child("eval"):
        step(1.0)
        jb.scalar("debug/b", 1.0)
        jb.scalar("c", 1.0)
    assert [(record.run, record.tag) for record in sink.records] == [("eval", "c")]


def test_left_out_reports_are_not_in_the_program():
    """The program is that of the function without the reports that are left out, and its results are the same bits."""

    def bare(x):
        return x + 1

    jaxpr = jax.make_jaxpr(program)(jnp.float32(1))
    selected = select_reports(jaxpr, Selection({"*": None}).selected)
    assert str(_compat.open_jaxpr(selected)[0]) == str(jax.make_jaxpr(bare)(jnp.float32(1)).jaxpr)


def test_programs_are_reused():
    """A selection compiles two programs at most, and none if it changes nothing in the function."""
    step = jb.instrument(jax.jit(program))

    def compiled(select):
        run, _ = open_run(select)
        with compilations("program") as found, run:
            for n in range(STEPS):
                step(np.float32(n))
        return len(found)

    assert compiled(None) == 2
    assert compiled({"unrelated/*": 7, "loss": 1}) == 0
    assert compiled({"act/*": 5, "grads/*": 5}) == 2
    assert compiled({"a*": 5, "grads": 5}) == 0
    assert compiled({"*": None}) == 1
    assert compiled(None) == 0


def test_a_change_of_cadences():
    """From the step of a change on, reports have the new cadence. A window ends there, with the values so far."""
    step = jb.instrument(jax.jit(program))
    run, sink = open_run({"debug/*": None})
    with run:
        channel = channel_of(run)

        def change(_):
            selection = channel.selection
            assert selection is not None
            channel.select(selection.including([("debug/*", "code"), ("act/*", 4)]))

        channel.schedule(4, change)
        for n in range(10):
            step(np.float32(n))
    found = points(sink)
    assert [step for step, _ in found["debug/histogram"]] == list(range(4, 10))
    # Windows of two steps end at step 2; that of step 3 ends with the change.
    assert found["act/mean"] == [(0, 0.0), (2, 1.5), (3, 3.0), (4, 4.0), (8, 6.5), (9, 9.0)]
    assert [step for step, _ in found["act/last"]] == [0, 2, 4, 8]
    assert [step for step, _ in found["loss"]] == list(range(10))
    assert [step for step, _ in found["grads/norm"]] == [0, 4, 8]


def test_a_change_does_not_split_other_windows():
    """A change of one cadence leaves the windows of other reports as they are."""

    @jb.instrument
    @jax.jit
    def step(x):
        jb.scalar("a", x, every=4)
        jb.scalar("b", x, every=4)

    run, sink = open_run({})
    with run:
        channel = channel_of(run)
        channel.schedule(3, lambda _: channel.select(Selection({}).including([("b", 2)])))
        for n in range(9):
            step(np.float32(n))
    found = points(sink)
    assert found["a"] == [(0, 0.0), (4, 2.5), (8, 6.5)]
    assert found["b"] == [(0, 0.0), (2, 1.5), (4, 3.5), (6, 5.5), (8, 7.5)]


def test_patterns_that_match_nothing(caplog):
    """A pattern that matched no tag is logged when the run closes."""
    run, _ = open_run({"debgu/*": None, "loss": 2, "*": 1})
    with caplog.at_level(logging.WARNING, logger="jaxboard"), run:
        jb.scalar("loss", 1.0)
    (message,) = [record.getMessage() for record in caplog.records]
    assert message == (
        "jaxboard, run in memory: select: no report has a tag that matches 'debgu/*'."
    )


@pytest.mark.parametrize(
    "select",
    ["debug", 3, ["debug/*"], {1: 2}, {"": 1}, {"a": 0}, {"a": -1}, {"a": "off"}, {"a": 1.5}],
    ids=repr,
)
def test_invalid_selections(select):
    """An invalid selection raises when the run is opened."""
    with pytest.raises(jb.UsageError, match=r"Run\(select="):
        jb.Run(None, sinks=[MemorySink()], select=select)
