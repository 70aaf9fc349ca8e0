"""The verbs: what a user writes where a value is."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import jax
import numpy as np

from jaxboard import _compat
from jaxboard._emit import arguments
from jaxboard._frame import Observation, ReportSpec
from jaxboard._host.channel import Channel, active
from jaxboard._reduce import reducer
from jaxboard._trace import context
from jaxboard._trace.advice import warn_no_run
from jaxboard._trace.primitives import report
from jaxboard.records import EncodedImage, Kind, Record

_MAX_STEP = 2**31 - 1
"""Of what is on a device: with it goes a step of 32 bits."""


def scalar(
    tag: str,
    value: Any,
    *,
    step: Any = None,
    every: int | None = None,
    reduce: str = "mean",
    weight: Any = None,
    where: Any = None,
    runs: Literal["vmap", False] | None = None,
) -> None:
    """Reports one number.

    Without ``step``, all values of one tag in one step of the run make one point, whichever evaluations
    or lines of plain Python they are from; what a training step reports is a point when its call is over.
    With ``step``, a value reported from plain Python is a point of its own; in an instrumented function, values
    of one report that name the same step are one.

    Args:
        tag: its name; ``/`` groups names in TensorBoard.
        value: a scalar of any real dtype: a Python number, a NumPy or JAX scalar, traced or not.
        step: the step it belongs to, instead of that of the call. May be traced.
        every: make one point of this many steps, at the steps that are multiples of it. It holds the
            values of all steps since the last one; with ``reduce="last"``, of that step alone.
        reduce: how several values of one point (its steps, lanes of a vmap, iterations of a loop,
            repeated reports) become one: ``"mean"``, ``"last"``, ``"sum"``, ``"min"``, ``"max"``,
            ``"std"`` or ``"count"``. With ``"stack"`` lanes, iterations and devices stay apart, as ``tag/0``,
            ``tag/1`` and so on, of the step that is due; trips of a while loop, repeated reports, and
            iterations that no ``instrument`` is around become their mean.
        weight: a number of 0 or more, perhaps traced: how much the value counts in a mean, a sum or a
            standard deviation (the number of tokens that a mean loss is of, say). With 0 or NaN it is
            left out.
        where: a bool scalar, perhaps traced: False leaves the value out. Under ``vmap`` it may be
            another in each lane.
        runs: ``"vmap"`` makes each lane a run of its own, beneath the run: ``seed_0``, ``seed_1``, … With
            them go ``mean``, ``min`` and ``max``, over the lanes that have a point. Lanes are those of the
            outermost ``vmap`` that the value depends on, in a ``shard_map`` of all devices; maps
            inside of it merge as ``reduce`` says. A value that depends on none stays in the run.
            Lanes may be at different steps (``step``); where they are, they have no mean. None is what
            :func:`instrument` was given, False that lanes merge all the same.

    Raises:
        ReportError: an argument is not what is said here, or there are more than 256 lanes to make
            runs of. Under ``jit``, while tracing.

    Example:
        >>> import jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.scalar("loss", 0.25, step=7)
        >>> records[0].tag, records[0].step, float(records[0].value)
        ('loss', 7, 0.25)
        >>> with capture() as records:
        ...     losses = jax.vmap(lambda x: jb.scalar("loss", x, runs="vmap"))(jnp.array([1.0, 3.0]))
        >>> {record.run: float(record.value) for record in records}
        {'seed_0': 1.0, 'seed_1': 3.0, 'mean': 2.0, 'min': 1.0, 'max': 3.0}
    """
    arguments.check_reduce(tag, reduce)
    _report(
        Kind.STACK if reduce == "stack" else Kind.SCALAR,
        tag,
        value,
        arguments.as_scalar,
        step=step,
        every=every,
        reduce=reduce,
        weight=weight,
        where=where,
        runs=runs,
    )


def scalars(
    prefix: str,
    tree: Any,
    *,
    step: Any = None,
    every: int | None = None,
    reduce: str = "mean",
    runs: Literal["vmap", False] | None = None,
) -> None:
    """Reports a number for each leaf of a pytree, as ``prefix/path/of/leaf``.

    Args:
        prefix: the first part of the tags.
        tree: a pytree of scalars.
        step: see :func:`scalar`.
        every: see :func:`scalar`.
        reduce: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: a leaf is not a scalar, or an argument is not what is said here.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.scalars("losses", {"generator": 1.0, "critic": 2.0}, step=0)
        >>> sorted(record.tag for record in records)
        ['losses/critic', 'losses/generator']
    """
    arguments.check_every(prefix, every)
    arguments.check_reduce(prefix, reduce)
    for tag, leaf in _leaves(prefix, tree):
        scalar(tag, leaf, step=step, every=every, reduce=reduce, runs=runs)


def histogram(
    tag: str,
    values: Any,
    *,
    step: Any = None,
    every: int | None = None,
    where: Any = None,
    runs: Literal["vmap", False] | None = None,
) -> None:
    """Reports how the elements of an array are distributed, or those of each leaf of a pytree.

    The array is counted where it is, into at most 128 equal buckets, so half a kilobyte leaves the
    device. Elements that are NaN or infinite are counted apart. Several in one step (lanes,
    iterations, devices) become one histogram, that of all elements, exactly.

    Args:
        tag: its name; of a pytree, the first part of the names.
        values: an array of any shape and any real dtype, or a pytree of such.
        step: see :func:`scalar`.
        every: see :func:`scalar`. On other steps the histogram isn't in the program that runs.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane has its histogram; there is none over all.

    Raises:
        ReportError: a leaf holds no real numbers, or an argument is not what is said here.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.histogram("weights", np.arange(10.0), step=0)
        >>> int(records[0].value.counts.sum())
        10
    """
    arguments.check_every(tag, every)
    for name, leaf in _leaves(tag, values):
        _report(
            Kind.HISTOGRAM,
            name,
            leaf,
            arguments.as_array,
            step=step,
            every=every,
            where=where,
            runs=runs,
        )


def image(
    tag: str,
    value: Any,
    *,
    step: Any = None,
    every: int | None = None,
    max_images: int = 3,
    where: Any = None,
    runs: Literal["vmap", False] | None = None,
) -> None:
    """Reports a picture, or the first few of a batch.

    Args:
        tag: its name.
        value: [H, W, C] or [N, H, W, C] with 1 (grey), 3 (RGB) or 4 (RGBA) channels; uint8, bool, or
            floats from 0 to 1, which are clipped.
        step: see :func:`scalar`.
        every: see :func:`scalar`. On other steps the image isn't in the program that runs.
        max_images: how many of a batch are kept.
        where: see :func:`scalar`.
        runs: see :func:`scalar`. Each lane has its pictures; there are none over all.

    Raises:
        ReportError: the rank, the channels or the dtype are not those of an image.

    Example:
        >>> import numpy as np, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.image("noise", np.ones((8, 4, 1)), step=0)
        >>> records[0].value.shape, int(records[0].value.max())
        ((1, 8, 4, 1), 255)
    """
    _report(
        Kind.IMAGE,
        tag,
        value,
        arguments.as_images,
        step=step,
        every=every,
        max_images=max_images,
        where=where,
        runs=runs,
    )


def text(
    tag: str,
    value: str | Sequence[Sequence[str]],
    *,
    step: int | None = None,
    every: int | None = None,
) -> None:
    """Reports text. From plain Python only.

    Args:
        tag: its name.
        value: Markdown, or a table: a list of rows of strings, its header first.
        step: the step it belongs to, instead of the last one taken.
        every: keep it only on steps that are multiples of this.

    Raises:
        ReportError: it is called in traced code, or an argument is not what is said here.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.text("notes", "**first** try")
        >>> records[0].value
        '**first** try'
    """
    arguments.check_tag(tag)
    if isinstance(value, str):
        content: Any = value
    else:
        try:
            content = [[str(cell) for cell in row] for row in value]
        except TypeError as error:
            problem = f"expected a string or rows of strings, got {arguments.shown(value)}."
            raise arguments.wrong(tag, problem) from error
    _record("text", Kind.TEXT, tag, lambda: content, step=step, every=every)


def figure(
    tag: str, value: Any, *, step: int | None = None, every: int | None = None, close: bool = True
) -> None:
    """Reports a matplotlib figure as an image. From plain Python only.

    Args:
        tag: its name.
        value: the figure, or a function that makes it, which is called only when it is due.
        step: the step it belongs to, instead of the last one taken.
        every: keep it only on steps that are multiples of this.
        close: close the figure afterwards, so that pyplot doesn't collect them.

    Raises:
        ReportError: it is called in traced code, or ``value`` is no figure.

    Example:
        >>> from matplotlib.figure import Figure
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.figure("empty", Figure(figsize=(2, 1), dpi=100))
        >>> records[0].value.width, records[0].value.height
        (200, 100)
    """

    def render() -> EncodedImage:
        fig: Any = value() if callable(value) else value
        if not hasattr(fig, "savefig"):
            raise arguments.wrong(tag, f"expected a matplotlib figure, got {arguments.shown(fig)}.")
        file = io.BytesIO()
        fig.savefig(file, format="png", dpi=fig.dpi, pil_kwargs={"compress_level": 1})
        if close:
            from matplotlib import pyplot as plt

            plt.close(fig)
        data = file.getvalue()
        # PNG, section 11.2.2: width and height are the first two words of the header chunk.
        width, height = (int.from_bytes(data[i : i + 4], "big") for i in (16, 20))
        return EncodedImage(data, width, height)

    arguments.check_tag(tag)
    _record("figure", Kind.IMAGE, tag, render, step=step, every=every)


def scope(name: str) -> contextlib.AbstractContextManager[None]:
    """Puts ``name/`` before the tags of a block.

    Args:
        name: the prefix, without its slash. Scopes nest.

    Raises:
        ReportError: ``name`` is not a string, or empty.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records, jb.scope("encoder"):
        ...     jb.scalar("norm", 1.0)
        >>> records[0].tag
        'encoder/norm'
    """
    arguments.check_tag(name)
    return _scoped(name)


@contextlib.contextmanager
def _scoped(name: str) -> Iterator[None]:
    with context.override(scope=f"{context.current().scope}{name}/"):
        yield


def _leaves(tag: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a pytree, each with its full tag. An array is its only leaf, under the tag itself."""
    for name, leaf in leaves(tag, tree):
        yield f"{tag}/{name}" if name else tag, leaf


def leaves(tag: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """The leaves of a pytree, each with the name that its path makes; that of a lone array is empty."""
    arguments.check_tag(tag)
    if isinstance(tree, list) and tree and all(isinstance(x, int | float) for x in tree):
        tree = np.array(tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        names = [jax.tree_util.keystr((key,), simple=True) for key in path]
        # A Flax Variable is a node of its own, around its value.
        if names and isinstance(path[-1], jax.tree_util.GetAttrKey) and names[-1] == "value":
            names.pop()
        yield "/".join(names), leaf


def _report(
    kind: Kind,
    tag: str,
    value: Any,
    check: Callable[[str, Any], Any],
    *,
    step: Any,
    every: int | None,
    reduce: str = "last",
    max_images: int = 3,
    weight: Any = None,
    where: Any = None,
    runs: Any = None,
    **more: Any,
) -> None:
    """What the verbs for arrays share. ``more`` is of the report's :class:`ReportSpec`."""
    arguments.check_tag(tag)
    arguments.check_every(tag, every)
    lanes = arguments.lanes(tag, runs)
    around = context.current()
    cadence = around.every if every is None else every
    if around.silent:
        return
    value = check(tag, value)
    spec = ReportSpec(
        kind, around.scope + tag, reduce, cadence, max_images, value.ndim, lanes=lanes, **more
    )
    if cadence in around.muted and not spec.windowed:
        return
    step = None if step is None else arguments.as_step(tag, step)
    counts = arguments.as_weight(tag, weight, where)
    large = isinstance(step, int) and step > _MAX_STEP
    if not _compat.at_top_level():
        if large:
            raise arguments.wrong(
                tag,
                f"step={step} is larger than a compiled program has steps, {_MAX_STEP} at most.",
            )
        report(
            spec,
            *(x if x is None else jax.numpy.asarray(_narrow(x)) for x in (value, counts, step)),
        )
        return
    channel = active()
    if channel is None:
        warn_no_run(f"report {tag!r} ({arguments.call_site()})")
    elif spec.windowed or is_due(channel, step, cadence):
        if large and isinstance(value, jax.Array):
            with jax.transfer_guard_device_to_host("allow"):
                value = np.asarray(value)
        if isinstance(value, jax.Array):
            report(spec, *map(_on_device, (value, counts, step)))
        else:
            counts = None if counts is None else np.asarray(counts)
            state = reducer(spec).start(value, counts, spec.rank)
            own = step is not None
            at = int(step) if own else channel.current
            channel.put(Observation(spec, state, at, time.time(), own))


def _on_device(x: Any) -> Any:
    """As a device array, put there in so many words: transfers that nobody asked for may be forbidden."""
    return x if x is None or isinstance(x, jax.Array) else jax.device_put(_narrow(np.asarray(x)))


def _narrow(x: Any) -> Any:
    """Integers of 64 bits as floats, if JAX, which has 32 then, would take them for others."""
    if not isinstance(x, np.ndarray) or x.dtype.kind not in "iu" or x.dtype.itemsize < 8:
        return x
    info = np.iinfo(jax.dtypes.canonicalize_dtype(x.dtype))
    fits = not x.size or (x.min() >= info.min and x.max() <= info.max)
    return x if fits else x.astype(np.float32)


def report_norms(
    tag: str,
    measured: Any,
    *,
    leaves: tuple[tuple[str, int], ...],
    what: tuple[str, ...],
    step: Any,
    every: int | None,
    where: Any,
    runs: Any,
) -> None:
    """Reports what :func:`jaxboard._reduce.measure` measured."""
    _report(
        Kind.NORMS,
        tag,
        measured,
        arguments.as_array,
        step=step,
        every=every,
        where=where,
        runs=runs,
        leaves=leaves,
        what=what,
    )


def _record(
    verb: str,
    kind: Kind,
    tag: str,
    make: Callable[[], Any],
    *,
    step: int | None,
    every: int | None,
) -> None:
    """What the verbs of plain Python share."""
    arguments.check_every(tag, every)
    if not _compat.at_top_level():
        raise arguments.wrong(
            tag,
            f"{verb} is for plain Python, and JAX is tracing here: it would be reported once, while "
            "compiling. Report it outside of the traced function.",
        )
    around = context.current()
    if around.silent:
        return
    channel = active()
    if channel is None:
        warn_no_run(f"report {tag!r} ({arguments.call_site()})")
    elif is_due(channel, step, around.every if every is None else every):
        _put(channel, kind, around.scope + tag, make(), step)


def is_due(channel: Channel, step: Any, every: int) -> bool:
    """Whether a report is due, as far as it can be told without waiting for a device."""
    if isinstance(step, jax.Array):
        return True
    return (channel.current if step is None else int(step)) % every == 0


def _put(channel: Channel, kind: Kind, tag: str, value: Any, step: Any) -> None:
    at = channel.current if step is None else int(step)
    channel.put(Record(kind, tag, at, time.time(), value))
