"""The types of JAX and NumPy under the names that jaxboard's annotations use."""

from __future__ import annotations

from typing import Any, TypeAlias

import jax
import numpy as np

Array: TypeAlias = jax.Array | np.ndarray
"""An array on a device, on the host, or a tracer for one."""

PyTree: TypeAlias = Any
"""Any nesting of containers that JAX knows, with arrays as leaves."""
