"""Scopes prefix the tags of their block only: in each thread, task and generator, and in compiled code."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading

import jax
import jax.numpy as jnp
import pytest

import jaxboard as jb
from jaxboard.testing import capture


def tags(records):
    return sorted(record.tag for record in records)


def report(x):
    jb.scalar("x", x)
    return x


def test_scopes_of_tasks_are_separate():
    """A scope entered in one asyncio task does not reach another task, and ends with its block."""

    async def evaluate(name, turns):
        with jb.scope(name):
            jb.scalar("first", 1.0)
            for _ in range(turns):
                await asyncio.sleep(0)
            jb.scalar("second", 1.0)

    async def main():
        await asyncio.gather(evaluate("a", 1), evaluate("b", 3))

    with capture() as records:
        asyncio.run(main())
        jb.scalar("after", 1.0)
    assert tags(records) == ["a/first", "a/second", "after", "b/first", "b/second"]
    with capture() as records:
        jb.scalar("later", 1.0)
    assert tags(records) == ["later"]


def test_instrumented_functions_in_tasks():
    """A compiled function that several tasks call in turn reports in the scope of its caller."""
    step = jb.instrument(jax.jit(report))

    async def evaluate(name):
        with jb.scope(name):
            for _ in range(3):
                step(jnp.float32(1))
                await asyncio.sleep(0)

    async def plain():
        for _ in range(3):
            step(jnp.float32(1))
            await asyncio.sleep(0)

    async def main():
        await asyncio.gather(evaluate("a"), plain(), evaluate("b"))

    with capture() as records:
        asyncio.run(main())
        step(jnp.float32(1))
    assert tags(records) == ["a/x"] * 3 + ["b/x"] * 3 + ["x"] * 4


def test_tasks_that_a_block_starts():
    """A task that starts in the block has the scope, also after the block has ended."""

    async def main():
        with jb.scope("outer"):
            task = asyncio.create_task(asyncio.to_thread(jb.scalar, "x", 1.0))
        jb.scalar("y", 1.0)
        await task

    with capture() as records:
        asyncio.run(main())
    assert tags(records) == ["outer/x", "y"]


def test_a_scope_in_a_generator_ends_with_it():
    """A scope that a suspended generator holds open does not prefix its caller's tags."""

    def batches():
        with jb.scope("data"):
            jb.scalar("read", 1.0)
            yield 1
            jb.scalar("read_again", 1.0)

    with capture() as records:
        reader = batches()
        next(reader)
        jb.scalar("outside", 1.0)
        reader.close()
        jb.scalar("after", 1.0)
    assert tags(records) == ["after", "data/read", "outside"]


def test_two_generators_in_turn():
    """Scopes of generators that run in turn stay separate, inside the scope of their caller."""

    def batches(name):
        with jb.scope(name):
            for _ in range(2):
                report(1.0)
                yield

    with capture() as records, jb.scope("train"):
        for _ in zip(batches("a"), batches("b"), strict=True):
            jb.instrument(jax.jit(report))(jnp.float32(1))
    assert sorted(set(tags(records))) == ["train/a/x", "train/b/x", "train/x"]


@pytest.mark.parametrize("end", ["close", "drop", "exhaust"])
def test_a_generator_that_ends_in_another_context(end):
    """A generator that ends in another context, or is dropped, leaves no prefix behind."""

    def batches():
        with jb.scope("data"):
            yield 1

    reader = batches()
    next(reader)
    if end == "drop":
        del reader
    else:
        finish = reader.close if end == "close" else lambda: list(reader)
        contextvars.copy_context().run(finish)
    with capture() as records:
        report(1.0)
    assert tags(records) == ["x"]


def test_an_async_generator():
    """The scope of an asynchronous generator holds in its body only."""

    async def batches():
        with jb.scope("data"):
            for _ in range(2):
                await asyncio.sleep(0)
                report(1.0)
                yield

    async def main():
        async for _ in batches():
            jb.scalar("outside", 1.0)

    with capture() as records:
        asyncio.run(main())
    assert sorted(set(tags(records))) == ["data/x", "outside"]


def test_scopes_in_other_context_managers():
    """A context manager may enter a scope for its block, also in a generator and on an exit stack."""

    @contextlib.contextmanager
    def phase():
        with jb.scope("phase"):
            yield

    def batches():
        with phase():
            report(1.0)
            yield

    with capture() as records:
        with phase():
            jb.scalar("a", 1.0)
        with contextlib.ExitStack() as stack:
            stack.enter_context(phase())
            stack.enter_context(jb.scope("inner"))
            jb.scalar("b", 1.0)
        for _ in batches():
            jb.scalar("c", 1.0)
    assert tags(records) == ["c", "phase/a", "phase/inner/b", "phase/x"]


def test_a_scope_as_decorator():
    """A scope decorates a function, and may be entered again."""
    scope = jb.scope("model")
    decorated = scope(report)
    with capture() as records:
        decorated(1.0)
        with scope, scope:
            report(1.0)
        report(1.0)
    assert tags(records) == ["model/model/x", "model/x", "x"]


def test_threads_have_scopes_of_their_own():
    """A scope does not reach another thread."""
    with capture() as records, jb.scope("main"):
        thread = threading.Thread(target=report, args=(1.0,))
        thread.start()
        thread.join()
    assert tags(records) == ["x"]


def test_scopes_and_compiled_programs():
    """A jitted function is traced again in another scope, and not again in the same one."""
    traced = []

    @jax.jit
    def step(x):
        traced.append(1)
        return report(x)

    with capture() as records:
        for _ in range(2):
            step(1.0)
            with jb.scope("a"):
                step(1.0)
            with jb.scope("b"):
                step(1.0)
    assert len(traced) == 3
    assert set(tags(records)) == {"x", "a/x", "b/x"}


def test_silent():
    """Reports in the block make nothing, in plain Python, in jitted functions and in instrumented ones, which take no step."""
    jitted = jax.jit(report)
    step = jb.instrument(jax.jit(report))
    loop = jb.instrument(lambda x: jitted(x) + 0)

    def all_of_them(x):
        jb.scalar("plain", x)
        jb.text("text", "x")
        jb.watch("watch", jnp.ones(3), what="norm")
        jitted(x)
        step(x)
        loop(x)

    with capture() as records:
        with jb.silent():
            all_of_them(1.0)
        jb.silent()(all_of_them)(2.0)
        assert records == []
        all_of_them(3.0)
    assert {record.step for record in records} == {0, 1}  # two calls of instrumented functions
    assert set(tags(records)) == {"plain", "text", "watch/norm", "x"}
    assert {float(record.value) for record in records if record.tag == "x"} == {3.0}


def test_silent_while_tracing():
    """In a function that JAX traces, the block is part of the program."""

    @jb.instrument
    @jax.jit
    def step(x):
        with jb.silent():
            report(x)
            jax.lax.scan(lambda c, v: (c, report(v)), 0.0, jnp.ones(3))
        return report(x)

    with capture() as records:
        step(1.0)
    assert [(record.tag, float(record.value)) for record in records] == [("x", 1.0)]


def test_silent_is_of_one_task():
    """Another task that takes its turn during the block still reports."""

    async def init(begun, reported):
        with jb.silent():
            begun.set()
            await reported.wait()
            jb.scalar("init", 1.0)

    async def train(begun, reported):
        await begun.wait()
        jb.scalar("train", 1.0)
        reported.set()

    async def main():
        events = asyncio.Event(), asyncio.Event()
        await asyncio.gather(init(*events), train(*events))

    with capture() as records:
        asyncio.run(main())
    assert tags(records) == ["train"]


def test_silent_without_a_run():
    """There is no warning, as nothing would be reported with a run."""
    with jb.silent():
        jb.instrument(jax.jit(report))(1.0)
        report(1.0)
