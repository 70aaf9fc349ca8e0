"""The options of ``jax.jit``, adapted to a program that wraps the user's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import jax

from jaxboard._types import PyTree

Merge: TypeAlias = Callable[[PyTree], tuple[tuple[Any, ...], dict[str, Any]]]
"""dynamic arguments -> the positional and the keyword arguments of a call, with its static ones."""

RESULT_OPTIONS = ("out_shardings", "donate_argnums", "donate_argnames")
"""The options of ``jax.jit`` for the results and for the memory that they may reuse."""


def traceable(fn: Any, jit_options: dict[str, Any]) -> Callable[..., PyTree]:
    """Return a function that can be traced inside a program: without the options that only an outermost ``jit`` may have."""
    shardings = jax.tree.leaves([jit_options.get(f"{side}_shardings") for side in ("in", "out")])
    has_layouts = any(hasattr(sharding, "layout") for sharding in shardings)
    if "compiler_options" not in jit_options and not has_layouts:
        return fn
    static = {n: v for n, v in jit_options.items() if n in ("static_argnums", "static_argnames")}
    return jax.jit(fn.__wrapped__, **static)


def shift_options(options: dict[str, Any], num_args: int) -> dict[str, Any]:
    """Return the options of ``jax.jit`` for a function with one argument before ``num_args`` others."""
    options = dict(options)
    static = options.get("static_argnums", ())
    for name in ("static_argnums", "donate_argnums"):
        if name in options:
            options[name] = tuple(n if n < 0 else n + 1 for n in options[name])
    if "in_shardings" in options:
        shardings = options["in_shardings"]
        if not isinstance(shardings, tuple):  # one for all dynamic arguments
            num_static = len({n % num_args for n in static if -num_args <= n < num_args})
            shardings = (shardings,) * (num_args - num_static)
        options["in_shardings"] = (None, *shardings)
    return options


def split_arguments(
    jit_options: dict[str, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[PyTree, Merge]:
    """Return the arguments of a call that are not static, and a function that puts others in their place."""
    static_positions = {
        n % len(args) for n in jit_options.get("static_argnums", ()) if -len(args) <= n < len(args)
    }
    static_names = jit_options.get("static_argnames", ())
    dynamic = (
        {i: x for i, x in enumerate(args) if i not in static_positions},
        {name: x for name, x in kwargs.items() if name not in static_names},
    )

    def merge(dynamic: PyTree) -> tuple[tuple[Any, ...], dict[str, Any]]:
        by_position, by_name = dynamic
        return tuple(by_position.get(i, x) for i, x in enumerate(args)), {**kwargs, **by_name}

    return dynamic, merge
