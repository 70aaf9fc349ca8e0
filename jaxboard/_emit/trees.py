"""The leaves of a pytree, with names that read well in a dashboard."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from jaxboard._emit import arguments
from jaxboard._types import PyTree


def named_leaves(tag: str, tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a pytree with its name, the path to it joined by ``/``.

    A single array is a leaf with an empty name; so is a list of Python numbers, as one array.
    """
    arguments.check_tag(tag)
    if isinstance(tree, list) and tree and all(isinstance(x, int | float) for x in tree):
        tree = np.array(tree)
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        keys = [jax.tree_util.keystr((key,), simple=True) for key in path]
        # A Flax Variable is a node with one child, its value.
        if keys and isinstance(path[-1], jax.tree_util.GetAttrKey) and keys[-1] == "value":
            keys.pop()
        yield "/".join(keys), leaf


def tagged_leaves(tag: str, tree: PyTree) -> Iterator[tuple[str, Any]]:
    """Yield each leaf of a pytree with its tag: ``tag/name``, or ``tag`` for a single array."""
    for name, leaf in named_leaves(tag, tree):
        yield f"{tag}/{name}" if name else tag, leaf
