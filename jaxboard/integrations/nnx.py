"""Flax NNX: scopes of modules, sown values, tables of parameters. Requires ``pip install 'jaxboard-tb[flax]'``."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator, Iterator
from typing import Any

import jax
from flax import nnx

from jaxboard.integrations._module_paths import scoped_class
from jaxboard.integrations._parameter_table import arrays, table
from jaxboard.integrations._sown_values import report_sown

_lock = threading.Lock()
_opened: dict[int, dict[object, type]] = {}
"""The class of a module, by id, and after it the one of each open block. Blocks of several threads end in any order."""


@contextlib.contextmanager
def scopes(model: Any) -> Generator[None]:
    """Prefix the tags of a ``with`` block with the path of the NNX module that reports: ``blocks/0/rms``.

    Put it around the calls of the model, inside or outside of the jitted function: the tags are chosen while JAX traces.
    The model itself has no prefix. A module that is called under ``nnx.scan``, ``nnx.vmap``, ``nnx.remat`` or ``nnx.grad``
    keeps its path, and a module at several paths has the first one.

    In the block, each module has a class of its own, a subclass of its original class. ``isinstance`` holds there, and
    ``type(layer) is Block`` does not. ``nnx.jit`` traces a function anew when it is called in a block. Copies made with
    ``nnx.clone`` or ``nnx.merge`` keep the prefix after the block; pickled models and graph definitions do not.

    Args:
        model: an ``nnx.Module``, or a pytree of several, such as a dict, whose keys begin the prefixes.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.integrations.nnx import scopes
        >>> from jaxboard.testing import capture
        >>> class Block(nnx.Module):
        ...     def __call__(self, x):
        ...         jb.scalar("rms", jnp.sqrt(jnp.mean(x**2)))
        ...         return 2 * x
        >>> model = nnx.Sequential(Block(), Block())
        >>> with capture() as records, scopes(model):
        ...     y = model(jnp.ones(3))
        >>> {record.tag: float(record.value) for record in records}
        {'layers/0/rms': 1.0, 'layers/1/rms': 2.0}
    """
    modules = [(path, node) for path, node in nnx.iter_graph(model) if isinstance(node, nnx.Module)]
    with contextlib.ExitStack() as stack:
        for path, module in modules:
            if path:
                stack.enter_context(_in_scoped_class(module, tuple(map(str, path))))
        yield


@contextlib.contextmanager
def _in_scoped_class(module: nnx.Module, path: tuple[str, ...]) -> Iterator[None]:
    is_pytree = not jax.tree_util.all_leaves([module])
    cls = type(module)
    scoped = scoped_class(cls, path, nnx.Module, pickles_keep_path=False, pytree=is_pytree)
    block = object()
    with _lock:
        opened = _opened.setdefault(id(module), {None: type(module)})
        opened[block] = scoped
        _set_class(module, scoped)
    try:
        yield
    finally:
        with _lock:
            del opened[block]
            _set_class(module, list(opened.values())[-1])
            if len(opened) == 1:
                del _opened[id(module)]


def _set_class(module: nnx.Module, cls: type) -> None:
    # Flax refuses to set an attribute of a module that was made in another trace.
    object.__setattr__(module, "__class__", cls)


def sown(model: Any, *, only: Any = nnx.Intermediate, every: int | None = None) -> None:
    """Report the values that modules have sown, under their paths: ``blocks/0/features``.

    A single number is a scalar, any other array a histogram. Values that a module has sown in several calls make one
    point.

    Args:
        model: the state that ``nnx.capture`` or ``nnx.pop`` returns, or a module that holds the values.
        only: an NNX filter that selects the values to report.
        every: see :func:`jaxboard.scalar`.

    Raises:
        ReportError: a value is not made of numbers, or an argument is invalid.

    Example:
        >>> from flax import nnx
        >>> import jax.numpy as jnp
        >>> from jaxboard.integrations.nnx import sown
        >>> from jaxboard.testing import capture
        >>> state = nnx.State({"block": {"rms": nnx.Intermediate((jnp.float32(2.0),))}})
        >>> with capture() as records:
        ...     sown(state)
        >>> {record.tag: float(record.value) for record in records}
        {'block/rms': 2.0}
    """
    report_sown(
        ((path, _value(variable)) for path, variable in _variables(model, only)),
        every,
    )


def overview(model: Any, *, only: Any = nnx.Param) -> str:
    """Return a Markdown table of the parameters: path, shape, dtype, number of elements and bytes, and the totals.

    Args:
        model: an ``nnx.Module``, also an abstract one from ``nnx.eval_shape``, or an ``nnx.State``.
        only: an NNX filter that selects the variables to list. ``...`` selects all.

    Example:
        >>> from flax import nnx
        >>> from jaxboard.integrations.nnx import overview
        >>> print(overview(nnx.Linear(2, 3, rngs=nnx.Rngs(0))), end="")
        | array | shape | dtype | parameters | bytes |
        |---|---|---|--:|--:|
        | `bias` | (3,) | float32 | 3 | 12 |
        | `kernel` | (2, 3) | float32 | 6 | 24 |
        | **total** | | | **9** | **36** |
    """
    variables = _variables(model, only)
    return table(
        named
        for path, variable in variables
        for named in arrays(_value(variable), "/".join(map(str, path)))
    )


def _variables(model: Any, only: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield the path and the variable of what a filter selects."""
    state = model if isinstance(model, nnx.State) else nnx.state(model)
    yield from nnx.to_flat_state(nnx.filter_state(state, only))


def _value(variable: Any) -> Any:
    return variable.get_value() if isinstance(variable, nnx.Variable) else variable
