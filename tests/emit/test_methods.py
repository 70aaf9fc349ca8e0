"""The verbs as methods of a run."""

from __future__ import annotations

import subprocess
import sys

import jax
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.sinks import MemorySink


def test_tap_is_a_method():
    """run.tap returns its argument and reports the gradient, like jaxboard.tap."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]) as run:
        assert jax.grad(lambda x: 3 * run.tap("gradient", x))(1.0) == 3.0
    assert [(record.tag, float(record.value)) for record in sink.records] == [("gradient", 3.0)]


def test_tap_of_a_closed_run():
    """Every verb of a closed run raises, also one that would report only later."""
    run = jb.Run(None, sinks=[MemorySink()])
    run.close()
    with pytest.raises(jb.RunError, match="run in memory is closed"):
        run.tap("gradient", 1.0)


def test_every_accepts_numpy_integers():
    """every= is an integer of any type, as a method and as a function."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]) as run:
        for step in range(5):
            run.histogram("h", np.ones(3), step=step, every=np.int64(2))  # pyright: ignore[reportArgumentType]
    assert [record.step for record in sink.records] == [0, 2, 4]


def test_submodules_are_imported_on_first_use():
    """jaxboard.records, jaxboard.sinks and jaxboard.testing need no import of their own."""
    program = (
        "import jaxboard as jb; print(jb.records.Kind, jb.sinks.MemorySink, jb.testing.capture)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
