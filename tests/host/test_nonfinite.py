"""What is not finite: told once for each tag, with where it began and what was before."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.sinks import MemorySink


@jb.instrument
@jax.jit
def step(w, x):
    jb.scalar("loss", jnp.sum(w * x))
    jb.scalar("fine", 1.0)
    jb.watch("grads", {"a": w * x, "b": w}, what=("norm", "nonfinite"))
    return w


def run(values, **options):
    """The records of a run of so many steps, and what closing it raised."""
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


def test_one_entry_names_all(caplog):
    """Tag, leaf, step and last good value, in one text entry, though it goes on for many steps."""
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
    # And they are written as they are.
    assert [float(r.value) for r in records if r.tag == "loss"][2:4] == pytest.approx(
        [np.nan, np.inf], nan_ok=True
    )


def test_many_steps_at_once():
    """The first of many steps that reach the host together is told, with the step before it."""
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
    """What never was finite says so; histograms tell of what kinds the elements are."""
    told = []
    with jb.Run(None, sinks=[MemorySink()], on_nonfinite=told.append) as open_run:
        jb.scalar("first", np.nan)
        open_run.flush()
        jb.histogram("h", np.array([1.0, 2.0]), step=0)
        open_run.flush()
        jb.histogram("h", np.array([1.0, np.nan, np.inf, np.nan]), step=1)
    end = ". The text entry 'jaxboard/nonfinite' has all."
    assert told == [
        "first is nan at step 0, and never was finite" + end,
        "h is not finite in 3 of 4 elements (2 NaN, 1 +inf) at step 1; "
        "at step 0 it was between 1 and 2" + end,
    ]


def test_raise():
    """on_nonfinite="raise" raises at the next flush, when all is written, and not again."""
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


def test_ignore(caplog):
    """on_nonfinite="ignore" writes the values and says nothing."""
    records, error = run([np.nan], on_nonfinite="ignore")
    assert error is None
    assert entries(records) == []
    assert caplog.records == []
    assert np.isnan(next(r.value for r in records if r.tag == "loss"))


def test_a_function_that_raises(caplog):
    """A fault in the user's function is logged once and loses nothing."""

    def fail(_):
        raise ZeroDivisionError("mine")

    records, error = run([np.nan, 1.0], on_nonfinite=fail)
    assert error is None
    assert [r.step for r in records if r.tag == "loss"] == [0, 1]
    assert "on_nonfinite raised ZeroDivisionError: mine" in caplog.text


def test_a_wrong_policy():
    """Anything but the three names and a function is refused when the run is opened."""
    message = "Run(on_nonfinite='stop'): expected 'warn', 'raise', 'ignore' or a function."
    with pytest.raises(jb.UsageError) as refused:
        jb.Run(None, sinks=[MemorySink()], on_nonfinite="stop")  # pyright: ignore[reportArgumentType]
    assert str(refused.value) == message
