"""Flax Linen: scopes of modules, sown values, tables of parameters. Requires ``pip install 'jaxboard-tb[flax]'``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping
from typing import Any

import flax.linen as nn
from flax import traverse_util

from jaxboard.integrations._module_paths import method_scope
from jaxboard.integrations._parameter_table import arrays, table
from jaxboard.integrations._sown_values import report_sown


@contextlib.contextmanager
def scopes() -> Generator[None]:
    """Prefix the tags of a ``with`` block with the path of the Linen module that reports: ``encoder/block_1/rms``.

    Put it around ``init`` and ``apply``, inside or outside of the jitted function: the tags are chosen while JAX
    traces. The outermost module has no prefix. A module that is shared has the prefix of the method around its call, too.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp, jaxboard as jb
        >>> from jaxboard.integrations import linen
        >>> from jaxboard.testing import capture
        >>> class Block(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         jb.scalar("rms", jnp.sqrt(jnp.mean(x**2)))
        ...         return 2 * x
        >>> model = nn.Sequential([Block(), Block()])
        >>> with capture() as records, linen.scopes():
        ...     y = model.apply({}, jnp.ones(3))
        >>> {record.tag: float(record.value) for record in records}
        {'layers_0/rms': 1.0, 'layers_1/rms': 2.0}
    """
    with nn.intercept_methods(_in_scope):
        yield


def _in_scope(
    method: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    context: nn.module.InterceptorContext,
) -> Any:
    with method_scope(tuple(context.module.path)):
        return method(*args, **kwargs)


def sown(
    variables: Mapping[str, Any], *, collection: str = "intermediates", every: int | None = None
) -> None:
    """Report the values that modules have sown, under their paths: ``block_0/features``.

    A single number is a scalar, any other array a histogram. Values that a module has sown in several calls make one
    point.

    Args:
        variables: the variables that ``apply`` returns with ``mutable=["intermediates"]``.
        collection: the collection to report. Nothing is reported if there is none, as in a model that sows nothing.
        every: see :func:`jaxboard.scalar`.

    Raises:
        ReportError: a value is not made of numbers, or an argument is invalid.

    Example:
        >>> import flax.linen as nn, jax.numpy as jnp
        >>> from jaxboard.integrations.linen import sown
        >>> from jaxboard.testing import capture
        >>> class Block(nn.Module):
        ...     @nn.compact
        ...     def __call__(self, x):
        ...         self.sow("intermediates", "rms", jnp.sqrt(jnp.mean(x**2)))
        ...         return 2 * x
        >>> model = nn.Sequential([Block(), Block()])
        >>> y, state = model.apply({}, jnp.ones(3), mutable=["intermediates"])
        >>> with capture() as records:
        ...     sown(state)
        >>> {record.tag: float(record.value) for record in records}
        {'layers_0/rms': 1.0, 'layers_1/rms': 2.0}
    """
    report_sown(traverse_util.flatten_dict(variables.get(collection, {})).items(), every)


def overview(params: Any) -> str:
    """Return a Markdown table of the parameters: path, shape, dtype, number of elements and bytes, and the totals.

    Args:
        params: a pytree of parameters, also abstract ones from ``jax.eval_shape``. Given all variables of a model, the table
            has the other collections, too.

    Example:
        >>> import flax.linen as nn, jax, jax.numpy as jnp
        >>> from jaxboard.integrations.linen import overview
        >>> variables = jax.eval_shape(nn.Dense(3).init, jax.random.key(0), jnp.ones(2))
        >>> print(overview(variables["params"]), end="")
        | array | shape | dtype | parameters | bytes |
        |---|---|---|--:|--:|
        | `bias` | (3,) | float32 | 3 | 12 |
        | `kernel` | (2, 3) | float32 | 6 | 24 |
        | **total** | | | **9** | **36** |
    """
    return table(arrays(nn.unbox(params)))
