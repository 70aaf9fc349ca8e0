"""A training that a test interrupts: it reports in every way that a state must continue."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxboard as jb


class Ratio(NamedTuple):
    """A metric with two results."""

    above: Any
    below: Any

    def merge(self, other: Ratio) -> Ratio:
        return Ratio(self.above + other.above, self.below + other.below)

    def compute(self) -> dict[str, Any]:
        return {"ratio": self.above / self.below, "below": self.below}


def make_functions(run: jb.Run) -> dict[str, Callable[..., Any]]:
    """Return new instrumented functions, as a new process has."""

    @jb.instrument
    @jax.jit
    def train(w: jax.Array) -> jax.Array:
        grad = jnp.sin(1.1 * w)
        for reduce in ("mean", "sum", "min", "max", "std", "count", "last"):
            jb.scalar(f"window/{reduce}", grad[0], every=7, reduce=reduce)
        jb.scalar("weighted", grad[1], weight=grad[2], where=grad[2] > 0, every=7)
        jb.scalar("long", grad[1], every=1000)
        jb.scalar("finished", grad[1], every=7, finish=lambda mean: mean**2)
        jb.metric("metric", Ratio(grad[0], 1 + grad[1] ** 2), every=7)
        jb.scalar("loss", grad.sum())
        jb.histogram("histogram", grad, every=9)
        jb.watch("grad", {"a": grad, "b": 2 * grad}, every=10)
        jax.vmap(lambda x: jb.scalar("seed", x, every=7, runs="vmap"))(grad)
        run.child("named").scalar("window", grad[3], every=7)
        return w - 0.1 * grad

    @jb.instrument(advance=False)
    @jax.jit
    def evaluate(w: jax.Array) -> None:
        jb.scalar("eval/loss", w.mean())
        jb.scalar("eval/window", w.sum(), every=50)
        jb.histogram("eval/histogram", w)

    @jb.instrument(advance=False)
    def plain(w: np.ndarray) -> None:
        jb.scalar("plain/window", w[0], every=7, reduce="std")
        jb.scalar("plain/each", w[0])

    return {"train": train, "evaluate": evaluate, "plain": plain}


def train(
    run: jb.Run,
    w: Any,
    first: int,
    last: int,
    functions: dict[str, Callable[..., Any]] | None = None,
) -> Any:
    """Train from step ``first`` to before ``last``, and return the weights."""
    functions = functions or make_functions(run)
    for step in range(first, last):
        w = functions["train"](w)
        host = np.asarray(w)
        functions["plain"](host)
        jb.scalar("host", host[1])
        jb.scalar("host/window", host[1], every=7)
        jb.metric("host/metric", Ratio(host[0], host[1]), every=7, finish=lambda x: x["ratio"])
        jb.scalar("host/own step", host[2], step=10 * step)
        run.child("host").scalar("window", host[0], every=7)
        if step % 12 == 0:
            for shift in range(3):
                functions["evaluate"](w + shift)
                with run.child("eval"):
                    functions["evaluate"](w + shift)
    return w


def initial() -> jax.Array:
    """Return the first weights."""
    return jnp.linspace(0.3, 4.0, 6)


def save(path: pathlib.Path, w: Any, state: Any) -> None:
    """Store weights and state in one file, without pickle."""
    np.savez(path, w=np.asarray(w), **{f"run_{name}": x for name, x in state.items()})


def load(path: pathlib.Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return what :func:`save` stored."""
    with np.load(path, allow_pickle=False) as stored:
        state = {n.removeprefix("run_"): stored[n] for n in stored.files if n.startswith("run_")}
        return stored["w"], state
