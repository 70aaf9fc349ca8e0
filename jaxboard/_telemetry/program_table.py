"""A table of the versions, the devices and the flags that the results of a program may depend on."""

from __future__ import annotations

import collections
import importlib.metadata
import os
import platform
import sys
from collections.abc import Iterator

import jax

from jaxboard._telemetry.collector import Collector, CompilationEvent
from jaxboard._telemetry.reporter import Reporter

_HEADER = ["setting", "value"]

_LIBRARIES = (
    "jax",
    "jaxlib",
    "numpy",
    "flax",
    "optax",
    "equinox",
    "haiku",
    "orbax-checkpoint",
    "jaxboard-tb",
)

_VARIABLES = ("JAX_", "XLA_", "LIBTPU_", "TPU_", "NCCL_", "TF_XLA_", "CUDA_VISIBLE_DEVICES")
"""The beginnings of the names of environment variables that JAX or XLA reads."""

_OPTIONS = (
    "jax_enable_x64",
    "jax_default_matmul_precision",
    "jax_default_prng_impl",
    "jax_threefry_partitionable",
    "jax_numpy_dtype_promotion",
    "jax_debug_nans",
    "jax_disable_jit",
)
"""The options of JAX that change results."""


class ProgramTable(Collector):
    """The text ``program``: a table that is written at the first call of an instrumented function.

    ``python -m jaxboard diff`` compares the tables of two runs.

    Args:
        reporter: the writer.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._is_written = False

    def record_compilation(self, event: CompilationEvent) -> None:
        """Write the table if it is not there yet. JAX has started its devices by now."""
        if not self._is_written:
            self._is_written = True
            self._reporter.text(event.step, "program", [_HEADER, *map(list, _rows())])


def _rows() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    yield "platform", platform.platform()
    for library in _LIBRARIES:
        try:
            yield library, importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue
    kinds = collections.Counter(f"{d.platform} {d.device_kind}" for d in jax.devices())
    yield "devices", ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
    yield "processes", str(jax.process_count())
    for option in _OPTIONS:
        yield option, str(getattr(jax.config, option, "unknown"))
    yield "program", sys.argv[0] if sys.argv else ""
    for name in sorted(os.environ):
        if name.startswith(_VARIABLES):
            yield name, os.environ[name]
