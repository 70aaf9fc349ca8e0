"""A program in which nothing counts the steps is warned once, with the tag and the cures."""

import jax
import jax.numpy as jnp
import pytest

import jaxboard as jb
from jaxboard.sinks import MemorySink

MESSAGE = "values of 'loss' are merged into one point at step"


def warnings_in(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records]


@pytest.mark.parametrize("program", ["floats", "arrays", "jit without instrument", "windows"])
def test_many_values_without_a_step(program, caplog):
    """One warning for the whole run names the run, the tag, the step and what to do."""

    def step(x):
        jb.scalar("loss", x, every=10 if program == "windows" else 1)
        return x + 1

    step = jax.jit(step) if program == "jit without instrument" else step
    with jb.Run(None, sinks=[MemorySink()], step=3):
        x = 0.0 if program == "floats" else jnp.float32(0)
        for _ in range(100):
            x = step(x)
    (warning,) = (text for text in warnings_in(caplog) if MESSAGE in text)
    assert f" {MESSAGE} 3, because nothing counts the steps" in warning
    for cure in ("@jaxboard.instrument", "for run.step in range(n)", "step="):
        assert cure in warning


def report(x, **options):
    jb.scalar("loss", x, **options)
    return x


def loop(function, steps=50):
    for step in range(steps):
        function(jnp.float32(step))


def with_run_step():
    run = jb.current_run()
    assert run is not None
    for run.step in range(50):
        report(1.0)


def test_each_run_is_warned(caplog):
    """Each run of a process has its own warning, runs in memory too."""
    for _ in range(2):
        with jb.Run(None, sinks=[MemorySink()]):
            loop(report)
    assert len([text for text in warnings_in(caplog) if MESSAGE in text]) == 2


PROGRAMS = {
    "instrument": lambda: loop(jb.instrument(jax.jit(report))),
    "instrumented plain function": lambda: loop(jb.instrument(report)),
    "evaluation": lambda: loop(jb.instrument(jax.jit(report), advance=False)),
    "evaluation by callback": lambda: loop(
        jb.instrument(jax.jit(report), advance=False, delivery="callback")
    ),
    "callback": lambda: loop(jb.instrument(jax.jit(report), delivery="callback")),
    "run.step": with_run_step,
    "step=": lambda: loop(lambda x: report(x, step=int(x))),
    "few values": lambda: loop(report, 19),
    "many tags": lambda: [jb.scalar(f"tag {i}", 1.0) for i in range(50)],
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_programs_with_steps(program, caplog):
    """A program that counts its steps, evaluates, or reports little is not warned."""
    with jb.Run(None, sinks=[MemorySink()]):
        PROGRAMS[program]()
    assert warnings_in(caplog) == []
