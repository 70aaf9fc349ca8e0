"""The list of slow tests names tests that exist."""

from __future__ import annotations

import ast
import pathlib

import pytest
from slow import SLOW

TESTS = pathlib.Path(__file__).parents[1]


def exists(entry: str) -> bool:
    """Return whether an entry is the path of a file of tests, or a file and a test in it."""
    path, _, name = entry.partition("::")
    tree = ast.parse((TESTS / path).read_text())
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
    return not name or name in functions


def test_slow_tests_exist() -> None:
    """Each entry names a file of tests, or a test in it."""
    assert [entry for entry in SLOW if not exists(entry)] == []
    assert not exists("contract/test_slow.py::test_that_is_not_there")


def test_slow_tests_are_marked(request: pytest.FixtureRequest) -> None:
    """The tests of the list have the marker, and others do not."""
    for item in request.session.items:
        path = item.path.relative_to(TESTS).as_posix() if item.path.is_relative_to(TESTS) else ""
        listed = bool({path, f"{path}::{item.name.partition('[')[0]}"} & SLOW)
        assert (item.get_closest_marker("slow") is not None) == listed
