"""Scopes of Haiku modules: three blocks that report ``rms`` have three curves. Requires ``pip install dm-haiku``."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator
from typing import Any

from jaxboard.integrations._module_paths import method_scope


@contextlib.contextmanager
def scopes() -> Generator[None]:
    """Prefix the tags of a ``with`` block with the name of the Haiku module that reports: ``mlp/linear_0/rms``.

    The name is that of its parameters, without ``~``. Put the block around ``init`` and ``apply``, or into the
    transformed function: the tags are chosen while JAX traces.

    Example::

        from jaxboard.integrations import haiku


        class Block(hk.Module):
            def __call__(self, x):
                jb.scalar("rms", jnp.sqrt(jnp.mean(x**2)))
                return 2 * x


        model = hk.without_apply_rng(hk.transform(lambda x: Block()(Block()(x))))
        with haiku.scopes():
            model.apply({}, x)  # reports block/rms and block_1/rms
    """
    hk: Any = importlib.import_module("haiku")
    with hk.intercept_methods(_in_scope):
        yield


def _in_scope(
    method: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], context: Any
) -> Any:
    # A module has no name until its __init__ has called that of hk.Module.
    names = getattr(context.module, "module_name", "").split("/")
    with method_scope(tuple(name for name in names if name not in ("", "~"))):
        return method(*args, **kwargs)
