"""The arrays of a model as a Markdown table."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import jax

Array = Any
"""Anything with a shape and a dtype."""


def arrays(tree: Any, above: str = "") -> Iterator[tuple[str, Array]]:
    """Yield the path and the array of each leaf of a pytree. The paths begin with ``above``; arrays may be abstract."""
    for keys, leaf in jax.tree_util.tree_leaves_with_path(tree):
        if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
            path = jax.tree_util.keystr(keys, simple=True, separator="/")
            yield "/".join(part for part in (above, path) if part), leaf


def table(named: Iterable[tuple[str, Array]]) -> str:
    """Return a table with a row for each array, and the total."""
    lines = ["| array | shape | dtype | parameters | bytes |", "|---|---|---|--:|--:|"]
    parameters = total = 0
    for name, array in named:
        count = math.prod(array.shape)
        size = count * array.dtype.itemsize
        code = name.replace("|", "\\|")
        lines.append(f"| `{code}` | {tuple(array.shape)} | {array.dtype} | {count:,} | {size:,} |")
        parameters += count
        total += size
    lines.append(f"| **total** | | | **{parameters:,}** | **{total:,}** |")
    return "\n".join(lines) + "\n"
