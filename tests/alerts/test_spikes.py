"""Text entries of spikes: the cause of a planted fault is named, and programs without a fault have none."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxboard as jb
from jaxboard._alerts.columns import Columns
from jaxboard._alerts.spike_entry import movements
from jaxboard.records import Record
from jaxboard.sinks import MemorySink

EXAMPLES = 512
BAD = (17, 301, 442)
"""The examples whose targets are wrong."""


@pytest.fixture(scope="module")
def step() -> Callable[..., Any]:
    """Return a training step that reports its loss and its gradients, and keeps the indices of its batch."""

    @jb.instrument
    @jax.jit
    def step(params, indices, x, y):
        jb.keep("batch", indices)

        def loss_fn(params):
            hidden = jnp.tanh(x @ params["first"])
            loss = jnp.mean((hidden @ params["second"] - y) ** 2)
            jb.scalar("train/loss", loss)
            return loss

        grads = jax.grad(loss_fn)(params)
        jb.watch("grads", grads, what="norm")
        jb.scalar("train/size", len(indices))
        # A clipped update, so that the network is soon as good as before.
        return jax.tree.map(lambda p, g: p - 0.02 * jnp.clip(g, -0.01, 0.01), params, grads)

    return step


def train(
    step: Callable[..., Any],
    steps: int,
    *,
    bad_at: int | None = None,
    first: int = 0,
    **options: Any,
) -> list[Record]:
    """Return the text entries of a run, in which one batch has the wrong examples."""
    rng = np.random.default_rng(first)
    x = rng.normal(size=(EXAMPLES, 4)).astype(np.float32)
    y = x.sum(axis=1, keepdims=True) / 4 + rng.normal(size=(EXAMPLES, 1)).astype(np.float32) / 10
    y[list(BAD)] = 300
    params = {"first": jnp.ones((4, 8)) / 3, "second": jnp.ones((8, 1)) / 9}
    good = np.setdiff1d(np.arange(EXAMPLES), BAD)
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], step=first, **options) as run:
        for number in range(first, first + steps):
            indices = rng.choice(good, 16, replace=False)
            if number == bad_at:
                indices = np.array([*BAD, *indices[3:]])
            params = step(params, indices, x[indices], y[indices])
            if number % 50 == 0:
                run.flush()
    return [record for record in sink.records if record.tag.startswith("jaxboard/")]


def section(text: str, title: str) -> list[list[str]]:
    """Return the cells of the table below a title."""
    lines = text.partition(f"**{title}**\n\n")[2].partition("\n\n")[0].splitlines()
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("flush_secs", [3600, 0.01])
def test_a_spiking_batch(step: Callable[..., Any], flush_secs: float) -> None:
    """One entry names exactly the batch that spiked, however reports are divided: all its indices, at its step."""
    (entry,) = train(step, 240, bad_at=200, flush_secs=flush_secs)
    assert (entry.tag, entry.step, entry.run) == ("jaxboard/spikes", 200, "")
    first_line = entry.value.partition("\n")[0]
    assert re.fullmatch(
        r"\*\*Spike:\*\* train/loss rose to \d+(\.\d+)? at step 200, from 0\.\d+ \(the median of 100 points\), and was back "
        r"at step 201; grads/norm/first spiked with it\.",
        first_line,
    )
    kept = {int(row[1]): row[2] for row in section(entry.value, "Kept by `jaxboard.keep`:")}
    assert sorted(kept) == [199, 200]
    named = re.findall(r"\d+", kept[200])
    assert len(named) == 16
    assert set(map(int, named)) & set(BAD) == set(BAD)
    assert not set(re.findall(r"\d+", kept[199])) & set(map(str, BAD))
    moved = section(entry.value, "Moved first:")
    assert {row[0] for row in moved} >= {"train/loss", "grads/norm/first"}
    assert {row[1] for row in moved} == {"200"}
    around = section(entry.value, "Steps around it:")
    assert [int(row[0]) for row in around] == list(range(195, 202))
    assert float(around[5][1]) > 100 * float(around[4][1])


def test_no_fault_no_entry(step: Callable[..., Any]) -> None:
    """A run without a fault has no entry, and neither has one that is resumed in the middle."""
    assert train(step, 300) == []
    assert train(step, 150, first=1000) == []


def test_no_entries_without_telemetry(step: Callable[..., Any]) -> None:
    """``telemetry=False`` switches the entries off."""
    assert train(step, 240, bad_at=200, telemetry=False) == []


def test_the_layer_that_moved_first() -> None:
    """The layers are in the order in which they moved, before the loss did."""
    rng = np.random.default_rng(0)
    steps = np.arange(1000, 1200)
    values = rng.normal(1, 0.05, (200, 4))
    values[150:, 2] += 5  # step 1150
    values[152:, 0] += 4
    values[153:, 3] += 3  # the loss
    names = ("grads/norm/a", "grads/norm/b", "grads/norm/c", "loss")
    columns = Columns("", names, steps, values)
    found = movements([columns], 1153, 1155)
    assert [(each.tag, each.step) for each in found] == [
        ("grads/norm/c", 1150),
        ("grads/norm/a", 1152),
        ("loss", 1153),
    ]
    assert found[0].value == values[150, 2]
    assert found[0].median == pytest.approx(np.median(values[43:143, 2]))


def plain_loop(values: np.ndarray, **options: Any) -> list[Record]:
    """Return the records under ``jaxboard/`` of a loop in plain Python with some tags."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], **options) as run:
        for run.step, row in enumerate(values.tolist()):
            jb.scalars("train", {f"tag_{k}": value for k, value in enumerate(row)})
            jb.keep("file", run.step % 10)
            if run.step % 23 == 5:
                run.flush()
    return [record for record in sink.records if record.tag.startswith("jaxboard/")]


def test_a_plain_loop() -> None:
    """Scalars of plain Python spike too: one entry for several tags, another for a later spike."""
    values = np.random.default_rng(0).normal(3, 0.1, (400, 3))
    values[203:207, 1] = [9, 11, 12, 10]
    values[205, 2] = 50
    values[350, 0] = -20
    first, second = plain_loop(values)
    assert [first.step, second.step] == [203, 350]
    assert "train/tag_1 rose to 12 at step 205" in first.value
    assert "and was back at step 207; train/tag_2 spiked with it." in first.value
    assert [row[2] for row in section(first.value, "Kept by `jaxboard.keep`:")] == [
        "2",
        "3",
        "4",
        "5",
    ]
    assert "train/tag_0 fell to -20 at step 350" in second.value


def test_runs_below() -> None:
    """The spike of a run below is written there, and seed runs are checked, not their summaries."""
    sink = MemorySink()
    values = np.random.default_rng(0).normal(3, 0.1, (150, 2)).astype(np.float32)
    values[120, 1] = 40

    @jb.instrument
    @jax.jit
    def seeds(x):
        jax.vmap(lambda x: jb.scalar("loss", x, runs="vmap"))(x)

    with jb.Run(None, sinks=[sink]) as run:
        for row in values:
            seeds(row)
            run.child("eval").scalar("loss", row[1])
    entries = [record for record in sink.records if record.tag == "jaxboard/spikes"]
    assert sorted((entry.run, entry.step) for entry in entries) == [("eval", 120), ("seed_1", 120)]


def test_schedules_and_steps() -> None:
    """Learning-rate schedules, constants, binary metrics and levels that change make no entry."""
    steps, rng = np.arange(800), np.random.default_rng(0)
    schedules = (
        optax.warmup_cosine_decay_schedule(0.0, 0.1, 100, 800),
        optax.exponential_decay(0.1, 150, 0.1, staircase=True),
        optax.piecewise_constant_schedule(0.1, {200: 0.1, 500: 10.0}),
        optax.cosine_onecycle_schedule(800, 0.1),
        optax.sgdr_schedule(
            [{"init_value": 0.0, "peak_value": 0.1, "decay_steps": 250, "warmup_steps": 20}] * 4
        ),
    )
    others = (
        np.full(800, 0.3),
        rng.random(800) < 0.5,
        rng.random(800) < 0.02,
        np.where(steps < 400, 1.0, 5.0) + rng.normal(0, 0.1, 800),
        8 * np.exp(-steps / 30) + rng.normal(0, 0.02, 800),
    )
    curves = jax.jit(jax.vmap(lambda n: [schedule(n) for schedule in schedules]))(steps)
    assert plain_loop(np.stack([*curves, *others], axis=1).astype(float)) == []


def test_a_tag_that_spikes_regularly() -> None:
    """It has few entries, so that a later spike of another tag has one, and a much higher one of its own, too."""
    values = np.random.default_rng(0).normal(1, 0.05, (12_200, 2)).astype(np.float32)
    values[200:12_000:200, 0] = 20  # an evaluation, for example
    values[12_050, 1] = 30
    values[12_150, 0] = 80
    entries = plain_loop(values, flush_secs=3600)
    assert [entry.step for entry in entries] == [*range(200, 2001, 200), 12_050, 12_150]
    notes = [
        entry.step for entry in entries if "Spiked 10 times or more: train/tag_0." in entry.value
    ]
    assert notes == [2000, 12_150]


def test_a_tag_with_characters_of_markdown() -> None:
    """The tables stay whole: a cell is one line, with as many columns as the others."""
    values = np.random.default_rng(0).normal(0, 1, 120)
    values[110] = 100
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]) as run:
        for run.step, value in enumerate(values.tolist()):
            jb.scalar("a`b\n| c", value)
    (entry,) = [record.value for record in sink.records if record.tag == "jaxboard/spikes"]
    (row,) = [line for line in entry.splitlines() if line.startswith("| `a b ") and "111 |" in line]
    assert row.startswith("| `a b \\| c` | 110 | 110 | 100 |")
