"""The public names of the package."""

from __future__ import annotations

import ast
import inspect
import pathlib
import re
import types

import pytest

import jaxboard
from jaxboard import _emit, records, sinks

NAMES = [
    "Alert",
    "Autopsy",
    "ChildRun",
    "JAXProfiler",
    "JaxboardError",
    "JaxboardWarning",
    "NonFiniteError",
    "ProfileError",
    "ReportError",
    "Run",
    "RunError",
    "SummaryWriter",
    "Telemetry",
    "UsageError",
    "__version__",
    "attention_entropy",
    "audio",
    "autopsy",
    "confusion_matrix",
    "current_run",
    "embedding",
    "figure",
    "graph",
    "health",
    "histogram",
    "hparams",
    "image",
    "instrument",
    "keep",
    "layout",
    "max_logit",
    "memory_snapshot",
    "mesh",
    "metric",
    "noise_scale",
    "pr_curve",
    "profile",
    "read",
    "roc_curve",
    "scalar",
    "scalars",
    "scope",
    "silent",
    "tap",
    "tensor",
    "text",
    "trace",
    "video",
    "watch",
]


def test_public_names() -> None:
    """The public names are exactly these. A new name must be added here."""
    assert sorted(jaxboard.__all__) == NAMES


def test_nothing_else_is_public() -> None:
    """Every name without an underscore is public or a module."""
    public = [
        name
        for name in dir(jaxboard)
        if not name.startswith("_") and not isinstance(getattr(jaxboard, name), types.ModuleType)
    ]
    assert sorted(public) == [name for name in NAMES if name != "__version__"]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "__version__"])
def test_public_names_are_documented(name: str) -> None:
    """Each public name has a docstring and a module inside jaxboard."""
    value = getattr(jaxboard, name)
    assert inspect.getdoc(value)
    assert value.__module__.split(".")[0] == "jaxboard"


def test_verbs_are_listed() -> None:
    """VERBS, the methods of a run, are all public functions of the verbs' package except scope and silent."""
    functions = {
        name
        for name in NAMES
        if inspect.isfunction(value := getattr(jaxboard, name))
        and value.__module__.startswith("jaxboard._emit.")
    }
    assert set(_emit.VERBS) == functions - {"scope", "silent"}


@pytest.mark.parametrize("name", [*_emit.VERBS, "scope", "instrument"])
def test_verbs_have_an_example(name: str) -> None:
    """Every verb's docstring has an example."""
    assert "Example:" in (inspect.getdoc(getattr(jaxboard, name)) or "")


def test_traced_verbs_are_in_the_conformance_table() -> None:
    """The conformance suite reports with every verb for traced code.

    ``tap`` and ``keep`` have suites of their own, and others share a reducer.
    """
    table = pathlib.Path(__file__).parents[1] / "conformance" / "verbs.py"
    called = set(re.findall(r"\bjb\.(\w+)\(", table.read_text()))
    assert called == set(_emit.VERBS) - {
        "attention_entropy",  # a scalar
        "embedding",
        "figure",
        "graph",
        "hparams",
        "keep",
        "layout",
        "max_logit",  # a scalar
        "roc_curve",
        "tap",
        "tensor",
        "text",
        "video",
    }


def test_public_records() -> None:
    """The types that a sink receives are exactly these, and each has a docstring with an example."""
    assert records.__all__ == [
        "Audio",
        "Batch",
        "ConfusionMatrix",
        "Embedding",
        "EncodedImage",
        "Graph",
        "GraphNode",
        "Histogram",
        "Kind",
        "Margin",
        "Mesh",
        "MetricGoals",
        "PluginTensor",
        "Record",
        "Scalars",
        "ThresholdCounts",
        "Video",
        "records",
    ]
    for name in records.__all__:
        if name != "Batch":  # an alias
            assert "Example:" in (inspect.getdoc(getattr(records, name)) or "")


def public_definitions(path: pathlib.Path) -> list[str]:
    """Return ``__all__`` of a module, or its public functions and classes, without importing its library."""
    body = ast.parse(path.read_text()).body
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return ast.literal_eval(node.value)
    kinds = (ast.FunctionDef, ast.ClassDef)
    return [node.name for node in body if isinstance(node, kinds) and node.name[0] != "_"]


def test_the_reference_has_every_public_name() -> None:
    """The pages in docs/api/ have an entry for every public name, and no other."""
    package = pathlib.Path(jaxboard.__file__).parent
    paths = [*package.glob("*.py"), *(package / "integrations").glob("*.py")]
    modules = {
        ".".join(path.relative_to(package).with_suffix("").parts): path
        for path in paths
        if path.stem[0] != "_" and path.stem != "records"
    }
    public = {f"jaxboard.{name}" for name in jaxboard.__all__ if name != "__version__"}
    public |= {f"jaxboard.records.{name}" for name in records.__all__}
    public |= {f"jaxboard.sinks.{name}" for name in sinks.__all__ if name not in records.__all__}
    public |= {
        f"jaxboard.{module}.{name}"
        for module, path in modules.items()
        for name in public_definitions(path)
    }
    pages = (package.parent / "docs" / "api").glob("*.md")
    entries = [
        name
        for page in pages
        for name in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    ]
    assert sorted(entries) == sorted(public)


def test_public_kinds() -> None:
    """A sink receives these kinds of records and no other."""
    assert [kind.value for kind in records.Kind] == [
        "scalar",
        "histogram",
        "image",
        "text",
        "hparams",
        "pr_curve",
        "roc_curve",
        "confusion_matrix",
        "metrics",
        "layout",
        "embedding",
        "tensor",
        "graph",
        "audio",
        "video",
        "mesh",
        "event",
    ]
