"""Reports of the values that modules of Flax have sown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax

import jaxboard as jb


def report_sown(sown: Iterable[tuple[tuple[Any, ...], Any]], every: int | None) -> None:
    """Report single numbers as scalars and other arrays as histograms.

    Args:
        sown: paths and values. A tuple has a value for each call of the module.
        every: see :func:`jaxboard.scalar`.
    """
    for path, value in sown:
        for call in value if type(value) is tuple else (value,):
            for keys, leaf in jax.tree_util.tree_leaves_with_path(call):
                inner = (jax.tree_util.keystr((key,), simple=True) for key in keys)
                tag = "/".join((*map(str, path), *inner))
                report = jb.histogram if getattr(leaf, "shape", ()) else jb.scalar
                report(tag, leaf, every=every)
