"""``watch``: what is worth knowing of the leaves of a pytree, measured where they are."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp

from jaxboard import _compat
from jaxboard._emit import arguments, verbs
from jaxboard._host.channel import active
from jaxboard._trace import context

WHAT = ("norm", "rms", "max", "nonfinite", "histogram")


@functools.cache
def _measure() -> Callable[..., jax.Array]:
    from jaxboard._reduce.norms import measure

    return jax.jit(measure, static_argnames="what")


def watch(
    tag: str,
    tree: Any,
    *,
    what: str | Sequence[str] = WHAT,
    relative_to: Any = None,
    step: Any = None,
    every: int | None = None,
    where: Any = None,
    runs: Literal["vmap", False] | None = None,
) -> None:
    """Reports norms and distributions of the leaves of a pytree: parameters, gradients, activations.

    Of the whole tree under ``tag/norm``, and of each leaf under ``tag/norm/path/of/leaf``; the same for
    the rest of ``what``. Leaves that hold no floats (counters, random keys, functions) are left out. Of
    complex numbers the magnitudes are measured. On steps that aren't due the program that runs
    measures nothing.

    Several in one step (lanes, iterations) become one point: of norms the root of the mean square, of
    magnitudes the largest, of counts the sum.

    Args:
        tag: the first part of the names.
        tree: a pytree of arrays: a dict, an ``nnx.State``, a module.
        what: some of ``"norm"`` (the square root of the sum of squares), ``"rms"`` (of the mean of
            squares), ``"max"`` (the largest magnitude), ``"nonfinite"`` (how many elements are NaN or
            infinite) and ``"histogram"``.
        relative_to: a pytree with leaves of the same names. ``tag/ratio`` is then the norm divided
            by that of these: ``watch("updates", updates, relative_to=params)``.
        step: see :func:`scalar`.
        every: see :func:`scalar`.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. The norms have a ``mean``, ``min`` and ``max`` too.

    Raises:
        ReportError: there is no array of floats in ``tree``, ``relative_to`` lacks one of its leaves, or
            an argument is not what is said here.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.watch("grads", {"w": jnp.array([3.0, 4.0]), "b": jnp.zeros(2)}, what="norm")
        >>> {record.tag: float(record.value) for record in records}
        {'grads/norm': 5.0, 'grads/norm/b': 0.0, 'grads/norm/w': 5.0}
    """
    arguments.check_tag(tag)
    arguments.check_every(tag, every)
    wanted = _wanted(tag, what)
    around = context.current()
    cadence = around.every if every is None else every
    if around.silent or cadence in around.muted or not _is_due(step, cadence):
        return
    leaves = dict(_floats(tag, tree))
    if not leaves:
        raise arguments.wrong(tag, f"found no array of floats in a {type(tree).__name__}.")
    others = None
    if relative_to is not None:
        found = dict(_floats(tag, relative_to))
        missing = [name for name in leaves if name not in found]
        if missing:
            raise arguments.wrong(
                tag, f"relative_to= has no leaf of floats {missing[0]!r}, which the tree has."
            )
        others = [found[name] for name in leaves]
    asked = tuple(name for name in wanted if name != "histogram")
    if others is not None:
        asked += ("ratio",)
    if asked:
        with _compat.unchecked():
            norms = _measure()(list(leaves.values()), others, what=asked)
        verbs.report_norms(
            tag,
            norms,
            leaves=tuple((name, int(x.size)) for name, x in leaves.items()),
            what=asked,
            step=step,
            every=every,
            where=where,
            runs=runs,
        )
    if "histogram" in wanted:
        for name, leaf in leaves.items():
            values = jnp.abs(leaf) if jnp.iscomplexobj(leaf) else leaf
            place = f"{tag}/histogram/{name}" if name else f"{tag}/histogram"
            verbs.histogram(place, values, step=step, every=every, where=where, runs=runs)


def _wanted(tag: str, what: Any) -> tuple[str, ...]:
    asked = (what,) if isinstance(what, str) else tuple(what)
    unknown = [name for name in asked if name not in WHAT]
    if unknown or not asked:
        names = ", ".join(map(repr, WHAT))
        raise arguments.wrong(tag, f"expected what= to be some of {names}, got {what!r}.")
    return tuple(name for name in WHAT if name in asked)


def _is_due(step: Any, cadence: int) -> bool:
    """Whether there is anything to measure, as far as it can be told in plain Python."""
    channel = active()
    if not _compat.at_top_level() or channel is None:
        return True
    return verbs.is_due(channel, step, cadence)


def _floats(tag: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The leaves that hold floats, by their names within the tree."""
    for name, leaf in verbs.leaves(tag, tree):
        dtype = getattr(leaf, "dtype", float if isinstance(leaf, float) else None)
        if dtype is not None and jnp.issubdtype(dtype, jnp.inexact):
            yield name, jnp.asarray(leaf)
