"""The names that users import."""

from __future__ import annotations

import inspect
import types

import pytest

import jaxboard

NAMES = [
    "JAXProfiler",
    "JaxboardError",
    "JaxboardWarning",
    "NonFiniteError",
    "ProfileError",
    "ReportError",
    "Run",
    "RunError",
    "Telemetry",
    "UsageError",
    "__version__",
    "current_run",
    "figure",
    "histogram",
    "image",
    "instrument",
    "memory_snapshot",
    "profile",
    "scalar",
    "scalars",
    "scope",
    "tap",
    "text",
    "trace",
    "watch",
]


def test_public_names() -> None:
    """These are the names, and a new one is added here on purpose."""
    assert sorted(jaxboard.__all__) == NAMES


def test_nothing_else_is_public() -> None:
    """What stands in the namespace without an underscore is meant to be used."""
    public = [
        name
        for name in dir(jaxboard)
        if not name.startswith("_") and not isinstance(getattr(jaxboard, name), types.ModuleType)
    ]
    assert sorted(public) == [name for name in NAMES if name != "__version__"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_public_names_are_documented(name: str) -> None:
    """Each has a docstring of its own and says it comes from jaxboard."""
    value = getattr(jaxboard, name)
    assert inspect.getdoc(value)
    assert value.__module__.split(".")[0] == "jaxboard"


@pytest.mark.parametrize(
    "verb", ["figure", "histogram", "image", "instrument", "scalar", "scalars", "scope", "text"]
)
def test_verbs_have_an_example(verb: str) -> None:
    """What people call shows how it is called."""
    assert "Example" in (inspect.getdoc(getattr(jaxboard, verb)) or "")
