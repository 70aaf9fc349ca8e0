"""How every test runs: on eight CPU devices, strictly, and with nothing taken from the shell."""

from __future__ import annotations

import os
import pathlib

# JAX and TensorFlow read these once, when they are first imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get('TEST_XLA','--xla_force_host_platform_device_count=8')
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MPLBACKEND"] = "agg"
for _name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64"):
    os.environ.pop(_name, None)

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def logdir(tmp_path: pathlib.Path) -> str:
    """A log directory that does not exist yet."""
    return str(tmp_path / "logs" / "run")
