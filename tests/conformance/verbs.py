"""A call of every verb, and the records that NumPy expects of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from conformance.case import Observed, Report

import jaxboard as jb
from jaxboard.records import EncodedImage, Kind, Record

REDUCTIONS = {
    "mean": np.mean,
    "sum": np.sum,
    "min": np.min,
    "max": np.max,
    "std": np.std,
    "last": lambda values: values[-1],
    "count": len,
}
# Each of two watched arrays is [x, -x]: the squares of one observation sum to 2 x^2.
WATCHED = {
    "norm": lambda values: np.sqrt(2 * np.mean(np.square(values))),
    "rms": lambda values: np.sqrt(np.mean(np.square(values))),
    "max": lambda values: np.max(np.abs(values)),
    "nonfinite": lambda values: 0,
}
LEAVES = ("w", "b")
# The gradients and the updates of two layers are [x, -x] each, their weights are [1, 1].
HEALTH = {
    "ratio": lambda values: np.sqrt(np.mean(np.square(values))),
    "gradient_norm": lambda values: 2 * np.sqrt(np.mean(np.square(values))),
    "zeros": lambda values: np.mean(np.equal(values, 0)),
    "rms": lambda values: 1,
    "nonfinite": lambda values: 0,
}
ITEMS = ("image", "audio", "mesh")
"""The verbs whose point is the first items of the batch that was reported last."""
LAST = ("/last", *(f"/{name}" for name in ITEMS))
"""Ends of the tags whose point is the value that was reported last."""
ROUNDED = (
    "/std",
    "/norm",
    "/rms",
    "/ratio",
    "/gradient_norm",
    "/zeros",
    *("/signal", "/noise", "/scale"),
    *(f"/{leaf}" for leaf in LEAVES),
)
"""Ends of the tags whose values are square roots, or their differences, which are not exact."""


class Average(NamedTuple):
    """A metric: a sum and a count."""

    total: Any
    count: Any

    def merge(self, other: Average) -> Average:
        return Average(self.total + other.total, self.count + other.count)

    def compute(self) -> Any:
        return self.total / self.count


def report_in_order(tag: str, value: Any) -> None:
    """Report a value with a reduction that depends on the order, one that does not, and as an image."""
    _report_scalars(tag, value, "mean", "last")
    jb.image(f"{tag}/image", jnp.full((2, 2, 1), value).astype(jnp.uint8))


def report_sums(tag: str, value: Any) -> None:
    """Report a value with reductions that are made of sums, and as a sound."""
    _report_scalars(tag, value, "sum", "std")
    jb.audio(f"{tag}/audio", jnp.full(2, value).astype(jnp.int16), 8000)


def report_extremes(tag: str, value: Any) -> None:
    """Report a value with reductions that compare or count values."""
    _report_scalars(tag, value, "min", "max", "count")


def _report_scalars(tag: str, value: Any, *reductions: str) -> None:
    for name in reductions:
        jb.scalar(f"{tag}/{name}", value, reduce=name)


def report_ranges(tag: str, value: Any) -> None:
    """Report the range of a value and its negative."""
    jb.histogram(f"{tag}/histogram", _both(value))
    jb.mesh(f"{tag}/mesh", jnp.full((1, 3), value))


def report_layers(tag: str, value: Any) -> None:
    """Report a value as the gradients of two layers."""
    both = _both(value)
    jb.watch(f"{tag}/watch", dict.fromkeys(LEAVES, both), what=tuple(WATCHED))
    weights, changes = dict.fromkeys(LEAVES, jnp.ones(2)), dict.fromkeys(LEAVES, both)
    jb.health(weights, changes, changes, tag=f"{tag}/health", every=1)
    jb.noise_scale(f"{tag}/noise_scale", both, jnp.ones(2), 1, 2)


def report_metrics(tag: str, value: Any) -> None:
    """Report a value as metrics, some of a classifier that predicts whether the value is odd.

    The classifier sees a positive and a negative sample.
    """
    jb.scalars(f"{tag}/scalars", {"a": value, "b": jnp.negative(value)}, reduce="sum")
    jb.metric(f"{tag}/metric", Average(jnp.asarray(value, jnp.float32), 1))
    labels, odd = jnp.arange(2) == 0, _both(value) % 2 == 1
    jb.pr_curve(f"{tag}/pr_curve", labels, odd.astype(jnp.float32), num_thresholds=2)
    jb.confusion_matrix(f"{tag}/confusion", labels, odd, classes=2)


def _both(value: Any) -> Any:
    return jnp.stack([jnp.asarray(value), jnp.negative(value)])


class Group(NamedTuple):
    """Verbs that are reported together.

    Attributes:
        report: reports a value with each of the verbs, at tags that start with the given one.
        names: what follows the given tag in theirs.
    """

    report: Report
    names: tuple[str, ...]


DTYPES = (
    Group(report_in_order, ("mean", "last", "image")),
    Group(report_sums, ("sum", "std", "audio")),
    Group(report_extremes, ("min", "max", "count")),
)
"""Verbs whose accumulators together have every dtype that a frame packs."""

GROUPS = (
    Group(report_ranges, ("histogram", "mesh")),
    Group(report_layers, ("watch", "health", "noise_scale")),
    Group(report_metrics, ("scalars", "metric", "pr_curve", "confusion")),
)
"""With those of ``DTYPES``, every verb that works in traced code.

A video has the reducer of an image, and a ROC curve that of a PR curve.
"""


def reporting(groups: Iterable[Group]) -> Report:
    """Return a function that reports a value with the verbs of all groups."""

    def report(tag: str, value: Any) -> None:
        for group in groups:
            group.report(tag, value)

    return report


def ignore(tag: str, value: Any) -> None:
    """Report nothing: a program with this ``report`` is the program without jaxboard."""


def observations(records: Iterable[Record]) -> list[tuple[str, int, Any]]:
    """Return records as sorted (tag, step, value).

    The value of a histogram is its exact part, its range and its count; that of an image is one pixel,
    that of a sound one sample, that of a mesh one coordinate; that of classifiers is the number of samples, and of those
    that are positive. Pictures of layers, of runs of several steps, are left out.
    """

    def observation(record: Record) -> Any:
        if record.kind is Kind.HISTOGRAM:
            edges, counts = record.value.edges, record.value.counts
            return float(edges[0]), float(edges[-1]), int(counts.sum())
        if record.kind is Kind.IMAGE:
            return int(record.value[0, 0, 0, 0])
        if record.kind is Kind.AUDIO:
            return int(record.value.samples[0, 0, 0])
        if record.kind is Kind.MESH:
            return float(record.value.vertices[0, 0, 0])
        if record.kind is Kind.PR_CURVE:
            return record.value.positives, int(record.value.true_positives[1])
        if record.kind is Kind.CONFUSION_MATRIX:
            return record.value.counts.tolist()
        return float(record.value)

    shown = (record for record in records if not isinstance(record.value, EncodedImage))
    return sorted((record.tag, record.step, observation(record)) for record in shown)


def expected(observed: Observed, step: int, groups: Iterable[Group]) -> list[tuple[str, int, Any]]:
    """Return the observations of the verbs of all groups when all executions and their lanes make one point."""
    names = [name for group in groups for name in group.names]
    starts = tuple(f"{tag}/{name}" for tag in observed for name in names)
    return [point for point in _expected(observed, step) if point[0].startswith(starts)]


def _expected(observed: Observed, step: int) -> list[tuple[str, int, Any]]:
    points: list[tuple[str, int, Any]] = []
    for tag, executions in observed.items():
        values = [value for lanes in executions for value in lanes]
        points += [
            (f"{tag}/{name}", step, float(np.float32(f(values)))) for name, f in REDUCTIONS.items()
        ]
        total, high = float(np.sum(values)), float(np.max(values))
        points.append((f"{tag}/metric", step, float(np.float32(np.mean(values)))))
        points += [(f"{tag}/scalars/a", step, total), (f"{tag}/scalars/b", step, -total)]
        points.append((f"{tag}/histogram", step, (-high, high, 2 * len(values))))
        for statistic, f in WATCHED.items():
            value = float(f(values))
            points += [(f"{tag}/watch/{statistic}/{leaf}", step, value) for leaf in LEAVES]
            tree = value * np.sqrt(len(LEAVES)) if statistic == "norm" else value
            points.append((f"{tag}/watch/{statistic}", step, float(tree)))
        for statistic, f in HEALTH.items():
            points.append((f"{tag}/health/{statistic}", step, float(f(values))))
        squares = float(np.mean(np.square(values)))  # |g|^2 is twice that, and |G|^2 is 2
        signal, noise = 4 - 2 * squares, 4 * squares - 4
        noises = {"signal": signal, "noise": noise}
        if signal > 0 and noise >= 0:
            noises["scale"] = noise / signal
        points += [(f"{tag}/noise_scale/{name}", step, value) for name, value in noises.items()]
        odd = sum(value % 2 == 1 for value in values)
        even = len(values) - odd
        points.append((f"{tag}/pr_curve", step, (len(values), odd)))
        points.append((f"{tag}/confusion", step, [[even, odd], [even, odd]]))
        # Lanes are a batch of images, sounds, …. jaxboard keeps the first few; `observations` reads the first.
        points += [(f"{tag}/{name}", step, int(executions[-1][0])) for name in ITEMS]
    return sorted(points)
