"""``health``: statistics of the layers of a model, as one picture, with a sentence when a layer fails."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax

from jaxboard import _compat
from jaxboard._emit import arguments, conversion, layers
from jaxboard._emit.reporting import report_array
from jaxboard._emit.trees import named_leaves
from jaxboard._emit.watch import float_leaves, may_be_due
from jaxboard._frame import Composite
from jaxboard._reduce import LayerHealthOptions, Part
from jaxboard._safe_repr import describe_array, describe_object
from jaxboard._trace import context
from jaxboard._types import Array, PyTree, Reportable, Runs, Step

_EVERY = 10
"""The default of ``every``: the sums read all parameters, gradients and updates once more."""


@functools.cache
def _jitted():  # noqa: ANN202 (JAX does not export the type)
    # Imported only when layers are reported.
    from jaxboard._reduce.layer_sums import layer_sums

    return jax.jit(layer_sums, static_argnames="counts")


def health(
    params: PyTree,
    grads: PyTree = None,
    updates: PyTree = None,
    activations: PyTree = None,
    *,
    tag: str = "health",
    split: str | Sequence[str] = (),
    depth: int | None = None,
    curves: bool = False,
    step: Step | None = None,
    every: int | None = None,
    where: Reportable | None = None,
    runs: Runs = None,
) -> None:
    """Report the health of each layer of a model, and name a layer that dies, explodes or drifts.

    One image, ``tag/layers``, shows all layers over the steps: the update-to-weight ratio (norm of the update divided by the
    norm of the weights), the norm of the gradient, the fraction of its elements that are zero, and the root mean square
    of the weights. Zeros are black, elements that are not finite red. The text entry ``jaxboard/health`` has a sentence for each layer
    that

    - **dies**: its gradient, or its output, becomes zero everywhere, and stays so for 10 steps and 5 reports;
    - **explodes**: its weights grow 10-fold within 30 reports, or its gradient 100-fold while those of other layers do not;
    - **drifts**: its weights grow or shrink steadily, 8-fold in the second half of the run; or its updates are a tenth of
      its weights, ten times the median of the layers, for 10 reports.

    Layers with fewer than 16 parameters do not explode or drift: a single number may change by any factor.

    Leaves with the same parent are a layer: ``dense_1/kernel`` and ``dense_1/bias`` are the layer ``dense_1``. The curves
    ``tag/ratio``, ``tag/gradient_norm``, ``tag/zeros``, ``tag/rms`` and ``tag/nonfinite`` are those of the whole model.
    Leaves that are not floats are left out. The sums are computed in the step, where the arrays are; sharded arrays are
    not gathered. The program for steps that are not due computes nothing.

    Several reports of one step (lanes, iterations) make one point, as those of :func:`watch` do.

    Args:
        params: the parameters: a pytree of arrays of any shapes.
        grads: the gradients. Leaves are found by their names, and have the shapes of the parameters; those that it lacks
            have no gradient.
        updates: what is added to the parameters. As for ``grads``.
        activations: the outputs of layers, by the name of the layer: ``{"dense_1": y}``. They show which layer dies where
            gradients alone do not: if a layer outputs only zeros, the layers before and after it have no gradient either.
        tag: the first part of the names.
        split: the path of stacked layers, or several. With ``"blocks"``, an array ``blocks/attention/w`` of shape
            [12, ...], for example the parameters of a ``scan`` over layers, is 12 arrays ``blocks/00/attention/w``,
            ``blocks/01/attention/w`` and so on.
        depth: the most keys of the name of a layer: with ``depth=2``, ``blocks/03/attention`` is part of ``blocks/03``.
        curves: whether each layer has curves of its own too: ``tag/ratio/blocks/03``.
        step: see :func:`scalar`.
        every: report only at steps that are multiples of this. By default 10, or the setting of :func:`instrument`.
        where: see :func:`scalar`.
        runs: see :func:`scalar`.

    Raises:
        ReportError: ``params`` contains no array of floats, ``grads`` or ``updates`` has a leaf that ``params`` lacks or has
            in another shape, ``split`` names no leaf, or an argument is invalid.

    Example:
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> params = {"dense": {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.zeros(2)}}
        >>> updates = {"dense": {"kernel": jnp.full((2, 2), 0.1), "bias": jnp.zeros(2)}}
        >>> with capture() as records:
        ...     jb.health(params, updates=updates)
        >>> {record.tag: round(float(record.value), 3) for record in records}
        {'health/ratio': 0.05, 'health/rms': 1.633, 'health/nonfinite': 0.0}
    """
    arguments.check_tag(tag)
    every = arguments.check_every(tag, every)
    step = None if step is None else arguments.as_step(tag, step)
    paths = layers.check_split(tag, split)
    depth = None if depth is None else arguments.check_positive(tag, "depth", depth)
    curves = arguments.check_bool(tag, "curves", curves)
    surroundings = context.current()
    if every is None:
        every = _EVERY if surroundings.every == 1 else surroundings.every
    if surroundings.silent or not may_be_due(surroundings.scope + tag, step, every):
        return
    parameters = dict(float_leaves(tag, params))
    if not parameters:
        raise arguments.report_error(
            tag, f"expected params= to contain arrays of floats, got {describe_object(params)}."
        )
    separated = layers.separate(tag, {name: x.shape for name, x in parameters.items()}, paths)
    shapes = {
        name: parameters[name].shape if name in parameters else None
        for name, _ in named_leaves(tag, params)
    }
    gradients = _matching(tag, "grads", grads, shapes)
    added = _matching(tag, "updates", updates, shapes)
    rows = [
        _Row(each, each.names, (parameters[name], gradients.get(name), added.get(name), None))
        for name, each in separated.items()
    ]
    rows += _outputs(tag, activations, paths)
    counts = tuple(row.layers.stacked for row in rows)
    parts = tuple(part for row in rows for part in row.parts(depth))
    trees = [list(tree) for tree in zip(*(row.arrays for row in rows), strict=True)]
    with _compat.unchecked():
        sums = _jitted()(trees, counts=counts)
    report_array(
        Composite.LAYER_HEALTH,
        tag,
        sums,
        conversion.as_array,
        step=step,
        every=every,
        where=where,
        runs=runs,
        options=LayerHealthOptions(parts, curves),
    )


class _Row(NamedTuple):
    """Arrays with the same parts.

    Attributes:
        layers: the parts.
        names: the name of the layer that each part belongs to.
        arrays: the arrays of each of the trees, None for a missing one.
    """

    layers: layers.Layers
    names: Sequence[str]
    arrays: tuple[Array | None, ...]

    def parts(self, depth: int | None) -> Iterator[Part]:
        """Yield the parts. Names of layers have at most ``depth`` keys."""
        count = self.layers.stacked or 1
        sizes = tuple(0 if x is None else x.size // count for x in self.arrays)
        for part, layer in zip(self.layers.parts, self.names, strict=True):
            yield Part(part, layers.shortened(layer, depth), sizes)


def _matching(
    tag: str, argument: str, tree: PyTree, shapes: Mapping[str, tuple[int, ...] | None]
) -> Mapping[str, Array]:
    """Return the leaves of a tree that belong to parameters.

    Args:
        tag: the tag, for messages.
        argument: the name of the tree.
        tree: the tree, or None.
        shapes: the names of all leaves of the parameters, with their shapes; None for one that does not hold floats.

    Raises:
        ReportError: a leaf has another name, or another shape.
    """
    if tree is None:
        return {}
    found = dict(float_leaves(tag, tree))
    if not found:
        raise arguments.report_error(
            tag,
            f"expected {argument}= to contain arrays of floats, got {describe_object(tree)}.",
        )
    for name, leaf in found.items():
        if name not in shapes:
            raise arguments.report_error(
                tag,
                f"{argument}= has a leaf {name!r}, which params= does not have. Pass the same tree of parameters to both.",
            )
        expected = shapes[name]
        if expected is not None and leaf.shape != expected:
            raise arguments.report_error(
                tag,
                f"expected the leaf {name!r} of {argument}= to have the shape {list(expected)} of that in params=, got "
                f"{describe_array(leaf)}.",
            )
    return {name: leaf for name, leaf in found.items() if shapes[name] is not None}


def _outputs(tag: str, activations: PyTree, paths: Sequence[str]) -> Iterator[_Row]:
    """Yield the outputs of layers. The name of a part is that of its layer."""
    if activations is None:
        return
    leaves = dict(float_leaves(tag, activations))
    shapes = {name: x.shape for name, x in leaves.items()}
    for name, each in layers.separate(tag, shapes, paths, all_used=False).items():
        yield _Row(each, each.parts, (None, None, None, leaves[name]))
