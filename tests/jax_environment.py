"""The environment variables of a process that runs tests."""

from __future__ import annotations

import importlib.metadata
import os

# Without XLA's fusion emitters, programs compile in half the time, and XLA fuses the same operations. Splitting
# a program, which is for idle cores, takes another quarter; optimizing its machine code, a third. jaxlib has these
# flags up to 0.10. `JAXBOARD_TEST_XLA_FLAGS= pytest` runs the tests with the default compiler; so does a newer jaxlib.
FAST_COMPILER = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0"
)


def set_variables() -> None:
    """Set what JAX, TensorFlow and the command line read."""
    jaxlib = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
    fast = FAST_COMPILER if jaxlib <= (0, 10) else ""
    flags = os.environ.get("JAXBOARD_TEST_XLA_FLAGS", fast)
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {flags}"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["MPLBACKEND"] = "agg"
    # Once a process has imported readline, its children inherit COLUMNS. Those of pytest-xdist do.
    for name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64", "COLUMNS"):
        os.environ.pop(name, None)
