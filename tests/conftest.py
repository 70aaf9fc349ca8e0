"""Settings of every test: eight CPU devices, strict promotion, and no settings from the shell."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import pathlib
import signal
from collections.abc import Callable, Iterator

# Without XLA's fusion emitters, programs compile in half the time, and XLA fuses the same operations. Splitting
# a program, which is for idle cores, takes another quarter; optimizing its machine code, a third. jaxlib has these
# flags up to 0.10. `JAXBOARD_TEST_XLA_FLAGS= pytest` runs the tests with the default compiler; so does a newer jaxlib.
_jaxlib = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2]))
_fast_compiler = (
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1 "
    "--xla_backend_optimization_level=0"
    if _jaxlib <= (0, 10)
    else ""
)
_flags = os.environ.get("JAXBOARD_TEST_XLA_FLAGS", _fast_compiler)

# JAX and TensorFlow read these when they are first imported.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count=8 {_flags}"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["MPLBACKEND"] = "agg"
for _name in ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_X64"):
    os.environ.pop(_name, None)

# A background job of a shell ignores Ctrl-C, and so would the processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import jax
import pytest
from slow import SLOW
from tensorboard_server import Loader, Server, tensorboard

jax.config.update("jax_numpy_rank_promotion", "raise")

# `.ci/run tomorrow` runs the conformance tests with each flag that turns on a part of a later JAX.
for _flag in filter(None, os.environ.get("JAXBOARD_TEST_JAX_FLAGS", "").split(",")):
    jax.config.update(_flag, True)

TESTS = pathlib.Path(__file__).parent


def pytest_xdist_auto_num_workers() -> int:
    """Return one process more than there are cores, because some tests wait for other processes."""
    return (os.cpu_count() or 1) + 1


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark slow tests before pytest applies ``-m``."""
    for item in items:
        path = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
        if {path, f"{path}::{item.name.partition('[')[0]}"} & SLOW:
            item.add_marker(pytest.mark.slow)


_shared_servers: list[Server] = []


@pytest.fixture(scope="session")
def shared_tensorboard(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Callable[[Loader], Server]]:
    """Return a function that returns a TensorBoard, which is started once for each loader.

    ``server.show(tmp_path)`` adds the runs of a test.
    """
    with contextlib.ExitStack() as stack:

        @functools.cache
        def start(loader: Loader) -> Server:
            logdir = tmp_path_factory.mktemp(loader)
            server = stack.enter_context(tensorboard(logdir, loader=loader))
            _shared_servers.append(server)
            return server

        yield start
        _shared_servers.clear()


def pytest_runtest_teardown() -> None:
    """Let TensorBoard take no processor time from tests that do not look at it."""
    for server in _shared_servers:
        server.suspend()


@pytest.fixture
def logdir(tmp_path: pathlib.Path) -> str:
    """Return a log directory that does not exist yet."""
    return str(tmp_path / "logs" / "run")
