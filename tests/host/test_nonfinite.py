"""The monitor of non-finite values: one finding for each tag, with the first bad step and the last good value."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._host.complete_points import Assembled, NormsPoint
from jaxboard._host.nonfinite import NonFiniteMonitor
from jaxboard._reduce.norms import Norms
from jaxboard.sinks import MemorySink


@jb.instrument
@jax.jit
def step(w, x):
    jb.scalar("loss", jnp.sum(w * x))
    jb.scalar("fine", 1.0)
    jb.watch("grads", {"a": w * x, "b": w}, what=("norm", "nonfinite"))
    return w


def run(values, **options):
    """Return the records of a run with one step per value, and the error of closing it."""
    sink, error = MemorySink(), None
    w = jnp.ones(2)
    try:
        with jb.Run(None, sinks=[sink], **options) as run:
            for x in values:
                step(w, x)
                run.flush()
    except jb.NonFiniteError as fault:
        error = fault
    return sink.records, error


def entries(records):
    return [(r.step, r.value) for r in records if r.tag == "jaxboard/nonfinite"]


def test_one_entry_lists_all_findings(caplog):
    """Tag, leaf, step and last finite value are in one text entry, even if later steps are not finite either."""
    records, _ = run([1.0, 2.0, np.nan, np.inf, np.nan, 1.0, np.nan])
    ((at, text),) = entries(records)
    assert at == 2
    assert text == (
        "**Not finite:** loss is nan at step 2; at step 1 it was 4.\n"
        "\n"
        "| for the first time | step | is | was | at step |\n"
        "| --- | ---: | --- | --- | ---: |\n"
        "| `loss` | 2 | nan | 4 | 1 |\n"
        "| `grads/a` | 2 | not finite in 2 of 2 elements | finite, its norm 2.82843 | 1 |"
    )
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == (
        "jaxboard, run in memory: loss is nan at step 2; at step 1 it was 4; and 1 more. "
        "The text entry 'jaxboard/nonfinite' has all."
    )
    # The values themselves are written unchanged.
    assert [float(r.value) for r in records if r.tag == "loss"][2:4] == pytest.approx(
        [np.nan, np.inf], nan_ok=True
    )


def test_many_steps_in_one_batch():
    """If many steps reach the host together, the finding is the first bad one, with the step before it."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], on_nonfinite=lambda _: None, flush_secs=1000):
        for i, x in enumerate([1.0, 2.0, 3.0, np.inf, np.nan]):
            jb.scalar("x", x, step=i)
            step(jnp.ones(2), x)
    ((at, text),) = entries(sink.records)
    assert at == 3
    assert "| `loss` | 3 | inf | 6 | 2 |" in text
    assert "| `x` | 3 | inf | 3 | 2 |" in text


def test_never_finite_and_histograms():
    """A tag that never was finite is reported as such; histograms list the kinds of their elements."""
    texts = []
    with jb.Run(None, sinks=[MemorySink()], on_nonfinite=texts.append) as open_run:
        jb.scalar("first", np.nan)
        open_run.flush()
        jb.histogram("h", np.array([1.0, 2.0]), step=0)
        open_run.flush()
        jb.histogram("h", np.array([1.0, np.nan, np.inf, np.nan]), step=1)
    end = ". The text entry 'jaxboard/nonfinite' has all."
    assert texts == [
        "first is nan at step 0, and never was finite" + end,
        "h is not finite in 3 of 4 elements (2 NaN, 1 +inf) at step 1; "
        "at step 0 it was between 1 and 2" + end,
    ]


def test_raise():
    """on_nonfinite="raise" raises once, at the next flush, after everything is written."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], on_nonfinite="raise") as open_run:
        jb.scalar("x", 1.0, step=0)
        jb.scalar("x", np.nan, step=1)
        with pytest.raises(jb.NonFiniteError, match="x is nan at step 1; at step 0 it was 1"):
            open_run.flush()
        jb.scalar("x", np.nan, step=2)
        open_run.flush()
    assert [r.step for r in sink.records if r.tag == "x"] == [0, 1, 2]
    records, error = run([1.0, np.nan], on_nonfinite="raise")
    assert "loss is nan at step 1" in str(error)
    assert [r.step for r in records if r.tag == "loss"] == [0, 1]


def test_the_leaf_of_a_seed_run():
    """A finding in the norms of a seed run names the leaf and then the run."""
    bad = np.array([1.0, np.nan])
    norms = Norms(("a", "b"), np.array([4, 4]), ("norm",), bad, bad, bad, np.array([0, 2]))
    texts = []
    monitor = NonFiniteMonitor(texts.append)
    (entry,) = monitor.observe(Assembled([], [NormsPoint("grads", 3, 1.0, norms, "seed_1")]))
    assert entry.step == 3
    assert texts[0].startswith("grads/b of seed_1 is not finite in 2 of 4 elements at step 3")


def test_ignore(caplog):
    """on_nonfinite="ignore" writes the values, logs nothing and adds no text."""
    records, error = run([np.nan], on_nonfinite="ignore")
    assert error is None
    assert entries(records) == []
    assert caplog.records == []
    assert np.isnan(next(r.value for r in records if r.tag == "loss"))


def test_a_function_that_raises(caplog):
    """If the user's function raises, that is logged once and no report is lost."""

    def fail(_):
        raise ZeroDivisionError("mine")

    records, error = run([np.nan, 1.0], on_nonfinite=fail)
    assert error is None
    assert [r.step for r in records if r.tag == "loss"] == [0, 1]
    assert "on_nonfinite raised ZeroDivisionError: mine" in caplog.text


def test_a_wrong_policy():
    """Only the three names and functions are valid; anything else raises when the run is opened."""
    message = (
        "Run(on_nonfinite='stop'): expected 'warn', 'raise', 'autopsy', 'ignore' or a function."
    )
    with pytest.raises(jb.UsageError) as refused:
        jb.Run(None, sinks=[MemorySink()], on_nonfinite="stop")  # pyright: ignore[reportArgumentType]
    assert str(refused.value) == message
