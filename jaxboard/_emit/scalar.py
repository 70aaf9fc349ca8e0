"""The verbs for numbers: ``scalar`` and ``scalars``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, SupportsFloat

from jaxboard._emit import arguments, conversion
from jaxboard._emit.reporting import report_array
from jaxboard._emit.trees import tagged_leaves
from jaxboard._frame import Composite
from jaxboard._reduce import StackOptions
from jaxboard._types import PyTree, Reportable, Runs, Step
from jaxboard.records import Kind


def scalar(
    tag: str,
    value: Reportable,
    *,
    step: Step | None = None,
    every: int | None = None,
    reduce: str = "mean",
    weight: Reportable | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
    finish: Literal["exp", "sqrt"] | Callable[[Any], SupportsFloat] | None = None,
) -> None:
    """Report one number.

    All values of one tag in one step of the run make one point, also if they come from several
    evaluation calls or lines of plain Python. The point of a training step is complete when the call
    returns.

    With ``step``, a value from plain Python makes a point of its own. In an instrumented function, values of
    one report with the same ``step`` make one point.

    Args:
        tag: the name of the curve. TensorBoard groups names by the part before ``/``.
        value: a scalar of any real dtype: a Python number, a NumPy scalar, or a JAX array, traced or
            not.
        step: the step of the value, instead of the step of the call. An integer, traced or not.
        every: make one point of this many steps, at the steps that are multiples of it. The point
            contains the values of all steps since the previous one; with ``reduce="last"``, only the
            values of its own step.
        reduce: how the values of one point become one number. A point has several values if it covers
            several steps, lanes of a ``vmap``, iterations of a loop, or repeated reports. One of
            ``"mean"``, ``"last"``, ``"sum"``, ``"min"``, ``"max"``, ``"std"``, ``"count"`` and ``"stack"``.
            ``"stack"`` keeps devices, iterations of a scan and lanes separate, as ``tag/device_00``,
            ``tag/iteration_03`` or ``tag/device_00/lane_01``, or with the index in place of ``{}`` in the tag, as
            ``blocks/03/rms`` of ``blocks/{}/rms``, which also makes one image of all layers and steps;
            iterations of a while loop or outside of an instrumented function, and repeated reports, are averaged.
        weight: a number of at least 0, traced or not: the weight of the value in a mean, a sum or a
            standard deviation, for example the number of tokens that a mean loss covers. A value whose weight is 0,
            NaN or, in a JAX array, negative is left out.
        where: a bool scalar, traced or not. False leaves the value out. Under ``vmap`` each lane may have its
            own.
        runs: ``"vmap"`` makes each lane a run inside the run: ``seed_0``, ``seed_1``, and so on. The runs
            ``mean``, ``min`` and ``max`` summarize the lanes that have a point, if these are at the same
            step. The lanes are those of the outermost ``vmap`` that the value depends on (in a
            ``shard_map``, of all devices); inner maps merge according to ``reduce``. A value that depends on
            no ``vmap`` stays in the run. False merges the lanes. None uses the setting of
            :func:`instrument`.
        finish: a function of the reduced value, whose result is the point: ``"exp"`` for the perplexity of a mean
            loss, ``"sqrt"`` for a root mean square, or a function of a float64 scalar that returns a number. The
            run's own thread calls it, once for each point, so it should use NumPy and not JAX. If it raises, that
            point is lost, and :meth:`Run.flush` raises an error that names the tag.

    Raises:
        ReportError: an argument is invalid, or ``runs="vmap"`` would make more than 256 runs. Under
            ``jit`` this is raised while JAX traces.

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
        >>> with capture() as records:
        ...     _ = jax.vmap(lambda x: jb.scalar("rms", x**2, finish="sqrt"))(jnp.array([3.0, 4.0]))
        >>> float(records[0].value) == 12.5**0.5
        True
    """
    arguments.check_reduce(tag, reduce)
    finish_key = arguments.check_finish(tag, finish)
    report_array(
        Composite.STACK if reduce == "stack" else Kind.SCALAR,
        tag,
        value,
        conversion.as_scalar,
        step=step,
        every=every,
        reduce=reduce,
        weight=weight,
        where=where,
        runs=runs,
        options=StackOptions() if reduce == "stack" else None,
        finish=finish_key,
    )


class _NoPrefix:
    """The default of ``tree``."""

    def __repr__(self) -> str:
        return "<no prefix>"


_NO_PREFIX = _NoPrefix()


def scalars(
    prefix: PyTree,
    tree: PyTree = _NO_PREFIX,
    *,
    step: Step | None = None,
    every: int | None = None,
    reduce: str = "mean",
    runs: Runs = None,
) -> None:
    """Report a number for each leaf of a pytree, under the tag ``prefix/path/of/leaf``.

    ``scalars(tree)`` reports them without a prefix, under the tag ``path/of/leaf``.

    Args:
        prefix: the first part of the tags; or the tree, if it is the only argument.
        tree: a pytree of scalars of any real dtype, traced or not.
        step: see :func:`scalar`.
        every: see :func:`scalar`.
        reduce: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: a leaf is not a scalar, or an argument is invalid.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records:
        ...     jb.scalars("losses", {"generator": 1.0, "critic": 2.0}, step=0)
        >>> sorted(record.tag for record in records)
        ['losses/critic', 'losses/generator']
        >>> with capture() as records:
        ...     jb.scalars({"train": {"loss": 1.0}}, step=0)
        >>> records[0].tag
        'train/loss'
    """
    if tree is _NO_PREFIX:
        if isinstance(prefix, str):
            raise arguments.report_error(prefix, "expected a tree of numbers after the prefix.")
        prefix, tree = "", prefix
    else:
        arguments.check_tag(prefix)
    arguments.check_every(prefix, every)
    arguments.check_reduce(prefix, reduce)
    for tag, leaf in tagged_leaves(prefix, tree):
        scalar(tag, leaf, step=step, every=every, reduce=reduce, runs=runs)
