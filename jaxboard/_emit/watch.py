"""``watch``: statistics of the leaves of a pytree."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import jax
import jax.numpy as jnp
import numpy as np

from jaxboard import _compat
from jaxboard._check import is_one_of
from jaxboard._emit import arguments, conversion, layers
from jaxboard._emit.reporting import is_due, report_array, selected_cadence
from jaxboard._emit.trees import named_leaves
from jaxboard._errors import ReportError
from jaxboard._frame import Composite
from jaxboard._host.active_channel import active
from jaxboard._log import describe
from jaxboard._reduce import LeafHistogramsOptions, NormsOptions
from jaxboard._safe_repr import describe_object, safe_repr
from jaxboard._trace import context
from jaxboard._types import Array, PyTree, Reportable, Runs, Step

if TYPE_CHECKING:
    from jaxboard._reduce.leaves import Measurements

STATISTICS = ("norm", "rms", "max", "nonfinite", "histogram")
"""The statistics that ``what=`` may contain, in the order of display."""


@functools.cache
def _jitted(measure: Callable[..., Measurements]) -> Callable[..., Measurements]:
    return jax.jit(measure, static_argnames=("statistics", "stacked"))


def watch(
    tag: str,
    tree: PyTree,
    *,
    what: str | Sequence[str] = STATISTICS,
    relative_to: PyTree = None,
    split: str | Sequence[str] = (),
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report norms and distributions of the leaves of a pytree: parameters, gradients, activations.

    ``tag/norm`` is the norm of the whole tree and ``tag/norm/path/of/leaf`` the norm of a leaf, if there are
    several; other statistics are named alike. Leaves that are not floats (counters, random keys, functions)
    are left out. Complex numbers are measured by their magnitudes. Leaves are measured one after the other, in one
    pass, and the program has at most one copy of the code for all leaves of the same shape and dtype. On a single
    CPU, the smallest leaves, up to 256 MB of them in float32, are copied to one array and share that code. The program
    for steps that are not due measures nothing.

    Several measurements of one step (lanes, iterations) make one point: the root mean square of norms, the
    largest of the magnitudes, the sum of the counts.

    Args:
        tag: the first part of the names.
        tree: a pytree of arrays: a dict, an ``nnx.State``, a module.
        what: one or several of ``"norm"`` (square root of the sum of squares), ``"rms"`` (root mean square),
            ``"max"`` (largest magnitude), ``"nonfinite"`` (number of NaN or infinite elements) and
            ``"histogram"``.
        relative_to: a pytree whose leaves have the same names. ``tag/ratio`` is then the norm of
            ``tree`` divided by the norm of this: ``watch("updates", updates, relative_to=params)``.
        split: the path of stacked layers, or several. With ``"blocks"``, an array ``blocks/attention/w`` of shape
            [12, ...], for example the parameters of a ``scan`` over layers, is 12 leaves ``blocks/00/attention/w``,
            ``blocks/01/attention/w`` and so on.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Norms have the summaries ``mean``, ``min`` and ``max``; histograms do not.

    Raises:
        ReportError: ``tree`` contains no array of floats, ``relative_to`` lacks one of its leaves, ``split`` names none of
            them, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.watch("grads", {"w": jnp.array([3.0, 4.0]), "b": jnp.zeros(2)}, what="norm")
        >>> {record.tag: float(record.value) for record in records}
        {'grads/norm': 5.0, 'grads/norm/b': 0.0, 'grads/norm/w': 5.0}
    """
    arguments.check_tag(tag)
    every = arguments.check_every(tag, every)
    step = None if step is None else arguments.as_step(tag, step)
    requested = _requested(tag, what)
    paths = layers.check_split(tag, split)
    surroundings = context.current()
    cadence = surroundings.every if every is None else every
    if surroundings.silent or not may_be_due(surroundings.scope + tag, step, cadence):
        return
    leaves = dict(float_leaves(tag, tree))
    if not leaves:
        raise arguments.report_error(tag, f"found no array of floats in a {type(tree).__name__}.")
    # Imported only when a tree is watched.
    from jaxboard._reduce.leaves import group_by_dtype, measure

    others = [] if relative_to is None else _matching_leaves(tag, relative_to, leaves)
    separated = layers.separate(tag, {name: x.shape for name, x in leaves.items()}, paths)
    stacked = tuple(each.stacked for each in separated.values()) if paths else ()
    _check_stacked(tag, separated, others)
    statistics = (*requested, "ratio") if relative_to is not None else requested
    arrays = list(leaves.values())
    with _compat.unchecked():
        measured = _jitted(measure)(arrays, others, statistics=statistics, stacked=stacked)
    report = functools.partial(
        report_array, check=conversion.as_array, step=step, every=every, where=where, runs=runs
    )
    norms = tuple(name for name in statistics if name != "histogram")
    if norms:
        sizes = tuple(
            (part, x.size // (separated[name].stacked or 1))
            for name, x in leaves.items()
            for part in separated[name].parts
        )
        report(Composite.NORMS, tag, measured.norms, options=NormsOptions(sizes, norms))
    names = [
        f"histogram/{part}" if part else "histogram"
        for each in separated.values()
        for part in each.parts
    ]
    parts = [x for name, x in leaves.items() for _ in separated[name].parts]
    for group, rows in zip(group_by_dtype(parts), measured.histograms, strict=False):
        options = LeafHistogramsOptions(tuple(names[n] for n in group))
        report(Composite.LEAF_HISTOGRAMS, tag, rows, options=options)


def _requested(tag: str, what: str | Sequence[str]) -> tuple[str, ...]:
    """Return the requested statistics, in the order of display."""
    requested = (what,) if isinstance(what, str) else _as_tuple(what)
    if not requested or not all(is_one_of(name, STATISTICS) for name in requested):
        names = ", ".join(map(repr, STATISTICS))
        raise arguments.report_error(
            tag, f"expected what= to be some of {names}, got {safe_repr(what)}."
        )
    return tuple(name for name in STATISTICS if name in requested)


def _as_tuple(what: object) -> tuple[object, ...]:
    """Return the items of a sequence, or none of anything else."""
    try:
        return tuple(itertools.islice(cast("Iterable[object]", what), 100))
    except Exception:
        return ()


def may_be_due(tag: str, step: Step | None, cadence: int) -> bool:
    """Return False if it is certain, in plain Python, that nothing has to be measured."""
    channel = active()
    if not _compat.at_top_level() or channel is None:
        return True
    every = selected_cadence(channel, tag, cadence, is_prefix=True)
    return every is not None and is_due(channel, step, every)


def float_leaves(tag: str, tree: PyTree) -> Iterator[tuple[str, jax.Array]]:
    """Yield the name and the array of each leaf that holds floats."""
    for name, leaf in named_leaves(tag, tree):
        array = _as_floats(tag, leaf)
        if array is not None:
            yield name, array


def _as_floats(tag: str, leaf: object) -> jax.Array | None:
    """Return a leaf as an array of floats or complex numbers, or None if it holds something else."""
    try:
        array = _float_array(tag, leaf)
        return None if array is None else conversion.as_jax(array)
    except ReportError:
        raise
    except Exception as error:  # An attribute of the leaf raises, or there is no memory for a copy.
        raise arguments.report_error(
            tag, f"cannot read {describe_object(leaf)}: {describe(error)}"
        ) from error


def _float_array(tag: str, leaf: object) -> Array | None:
    if isinstance(leaf, jax.Ref):
        leaf = leaf[...]
    dtype = float if isinstance(leaf, float) else getattr(leaf, "dtype", None)
    if not isinstance(leaf, jax.Array | np.ndarray | np.generic) and hasattr(leaf, "__array__"):
        # JAX does not know the dtypes of other libraries.
        try:
            leaf = conversion.as_array(tag, cast("Reportable", leaf))
        except ReportError:
            if hasattr(leaf, "__dlpack__"):  # a tensor, which the user expects to see
                raise
            return None
        dtype = leaf.dtype
    if not _is_inexact(dtype):
        return None
    if isinstance(leaf, jax.Array):
        arguments.check_usable(tag, leaf)
    if isinstance(leaf, np.ma.MaskedArray):
        leaf = conversion.as_array(tag, leaf)
    elif isinstance(leaf, np.ndarray | np.generic):
        leaf = conversion.as_native(np.asarray(leaf))
    elif not (isinstance(leaf, jax.Array | float) or hasattr(leaf, "__jax_array__")):
        leaf = conversion.as_array(tag, cast("Reportable", leaf))  # raises for abstract arrays
    return conversion.widened(conversion.as_jax(cast("Array", leaf)))


def _is_inexact(dtype: object) -> bool:
    try:
        return dtype is not None and jnp.issubdtype(cast("np.dtype", dtype), jnp.inexact)
    except (TypeError, ValueError):  # not a dtype
        return False


def _matching_leaves(
    tag: str, relative_to: PyTree, leaves: dict[str, jax.Array]
) -> list[jax.Array]:
    """Return the leaves of ``relative_to`` in the order of ``leaves``."""
    others = dict(float_leaves(tag, relative_to))
    missing = [name for name in leaves if name not in others]
    if missing:
        raise arguments.report_error(
            tag, f"relative_to= has no leaf of floats {missing[0]!r}, which the tree has."
        )
    return [others[name] for name in leaves]


def _check_stacked(
    tag: str, separated: dict[str, layers.Layers], others: Sequence[jax.Array]
) -> None:
    """Raise unless each array to compare with has as many layers."""
    for (name, each), other in zip(separated.items(), others, strict=False):
        if each.stacked is not None and other.shape[:1] != (each.stacked,):
            raise arguments.report_error(
                tag, f"relative_to= has {name!r} of shape {other.shape}, not {each.stacked} layers."
            )
