"""Equinox: scopes of modules, tables of parameters. Requires ``pip install equinox``."""

from __future__ import annotations

from typing import Any, TypeVar

import equinox as eqx
import jax

from jaxboard.integrations._module_paths import scoped_class
from jaxboard.integrations._parameter_table import arrays, table

Model = TypeVar("Model")


def scopes(model: Model) -> Model:
    """Return a model whose modules prefix the tags of their reports with their path: ``layers/0/rms``.

    The model itself has no prefix. A module keeps its path in every transformation, also under ``eqx.filter_vmap`` and
    after ``eqx.partition`` and ``eqx.combine``. Each module of the result has a class of its own, a subclass of its original
    class, so the result is a pytree of another structure. Call this before the optimizer is initialized, or inside the
    loss.

    Args:
        model: an ``eqx.Module``, or a pytree of several, such as a dict, whose keys begin the prefixes.

    Returns:
        A copy of the model, with the same arrays.

    Example:
        >>> import equinox as eqx, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.integrations.equinox import scopes
        >>> from jaxboard.testing import capture
        >>> class Block(eqx.Module):
        ...     def __call__(self, x, *, key=None):
        ...         jb.scalar("rms", jnp.sqrt(jnp.mean(x**2)))
        ...         return 2 * x
        >>> model = scopes(eqx.nn.Sequential([Block(), Block()]))
        >>> with capture() as records:
        ...     y = model(jnp.ones(3))
        >>> {record.tag: float(record.value) for record in records}
        {'layers/0/rms': 1.0, 'layers/1/rms': 2.0}
    """
    return _scoped(model, ())


def _scoped(node: Any, path: tuple[str, ...]) -> Any:
    def scope_module(keys: tuple[Any, ...], leaf: Any) -> Any:
        if not isinstance(leaf, eqx.Module):
            return leaf
        inner = (jax.tree_util.keystr((key,), simple=True) for key in keys)
        return _scoped(leaf, (*path, *inner))

    copy = jax.tree_util.tree_map_with_path(
        scope_module, node, is_leaf=lambda leaf: leaf is not node and isinstance(leaf, eqx.Module)
    )
    if path and isinstance(copy, eqx.Module):
        # A module is frozen, and this is not one of its fields.
        scoped = scoped_class(type(copy), path, eqx.Module, pickles_keep_path=True)
        object.__setattr__(copy, "__class__", scoped)
    return copy


def overview(model: Any) -> str:
    """Return a Markdown table of the parameters: path, shape, dtype, number of elements and bytes, and the totals.

    Args:
        model: a pytree, such as an ``eqx.Module``, or an abstract one from ``eqx.filter_eval_shape``. The table leaves out
            leaves that are not arrays.

    Example:
        >>> import equinox as eqx, jax
        >>> from jaxboard.integrations.equinox import overview
        >>> print(overview(eqx.nn.Linear(2, 3, key=jax.random.key(0))), end="")
        | array | shape | dtype | parameters | bytes |
        |---|---|---|--:|--:|
        | `weight` | (3, 2) | float32 | 6 | 24 |
        | `bias` | (3,) | float32 | 3 | 12 |
        | **total** | | | **9** | **36** |
    """
    return table(arrays(model))
