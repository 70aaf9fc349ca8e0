"""The exceptions: one documented tree, named as users import them."""

from __future__ import annotations

import re

import pytest

import jaxboard
from jaxboard import _errors

EXCEPTIONS = [
    value
    for value in map(jaxboard.__dict__.get, jaxboard.__all__)
    if isinstance(value, type) and issubclass(value, BaseException)
]


def documented_tree() -> tuple[dict[str, str], dict[str, list[str]]]:
    """Parse the module docstring: the parent of each class, and the builtin bases that it names."""
    parents: dict[str, str] = {}
    builtin_bases: dict[str, list[str]] = {}
    path: list[str] = []
    pattern = re.compile(r"^ {4}(?P<branch>[│├└─ ]*)(?P<name>Jaxboard\w+|\w+Error)  +(?P<text>.*)$")
    for line in (_errors.__doc__ or "").splitlines():
        if match := pattern.match(line):
            del path[len(match["branch"]) // 4 :]
            parents[match["name"]] = path[-1] if path else ""
            path.append(match["name"])
            builtin_bases[match["name"]] = re.findall(r"\ban? ([A-Z]\w+)", match["text"])
    return parents, builtin_bases


def test_the_public_exceptions_are_those_of_the_module() -> None:
    """Every exception of jaxboard is public."""
    defined = [
        value
        for value in vars(_errors).values()
        if isinstance(value, type) and issubclass(value, BaseException)
    ]
    assert len(EXCEPTIONS) > 1
    assert set(defined) == set(EXCEPTIONS)


@pytest.mark.parametrize("exception", EXCEPTIONS, ids=lambda exception: exception.__name__)
def test_tracebacks_show_the_public_name(exception: type[BaseException]) -> None:
    """The module of an exception is jaxboard, where users import it from."""
    assert exception.__module__ == "jaxboard"
    assert exception.__qualname__ == exception.__name__


def test_the_documented_tree_is_the_class_tree() -> None:
    """The docstring of the module names every exception, its parent, and its builtin base."""
    parents, builtin_bases = documented_tree()
    actual_parents = {}
    actual_builtins = {}
    for exception in EXCEPTIONS:
        ours = [base for base in exception.__bases__ if base.__module__ == "jaxboard"]
        assert len(ours) <= 1
        actual_parents[exception.__name__] = ours[0].__name__ if ours else ""
        actual_builtins[exception.__name__] = [
            base.__name__
            for base in exception.__bases__
            if base.__module__ == "builtins" and base is not Exception
        ]
    assert parents == actual_parents
    assert builtin_bases == actual_builtins
