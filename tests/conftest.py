"""Settings of every test: eight CPU devices, strict promotion, and no settings from the shell."""

from __future__ import annotations

import contextlib
import functools
import os
import pathlib
import signal
from collections.abc import Callable, Iterator

import jax_environment

jax_environment.set_variables()

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
