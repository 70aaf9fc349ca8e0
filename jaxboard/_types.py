"""Type aliases that jaxboard's annotations use."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

import jax
import numpy as np
from jax.typing import ArrayLike

Array: TypeAlias = jax.Array | np.ndarray
"""An array on a device, on the host, or a tracer for one."""

PyTree: TypeAlias = Any
"""Any nesting of containers that JAX knows, with arrays as leaves."""


class SupportsJaxArray(Protocol):
    """An object that converts itself to a JAX array, such as a Flax variable."""

    def __jax_array__(self) -> jax.Array: ...


class SupportsArray(Protocol):
    """An object that converts itself to a NumPy array, such as a tensor of another library."""

    def __array__(self) -> np.ndarray: ...


Reportable: TypeAlias = ArrayLike | SupportsJaxArray | SupportsArray
"""The values that a verb accepts as a number or an array of numbers."""

Step: TypeAlias = int | np.integer | Array
"""The values of ``step=``: an integer, or an integer array of rank 0, traced or not."""

Runs: TypeAlias = Literal["vmap", False] | None
"""The values of ``runs=``: lanes of a ``vmap`` become runs, or merge; None uses the setting of ``instrument``."""
