"""The package keeps its shape: imports follow the data, and only public JAX is used."""

from __future__ import annotations

import ast
import graphlib
import importlib
import pathlib
import pkgutil

import pytest

import jaxboard

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jaxboard"

# From the bottom up. A module may import what stands below it, and its neighbours in its own layer.
LAYERS = (
    ("_errors", "_types"),
    ("_log", "_check", "_paths"),
    ("_compat",),
    ("_process",),
    ("records",),
    ("_frame", "_reduce"),
    ("sinks",),
    ("_host",),
    ("_trace",),
    ("_emit",),
    ("_telemetry",),
    ("_run",),
    ("_profile",),
    ("testing",),
    ("jaxboard",),
    ("integrations",),
    ("_cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules(package: pathlib.Path) -> dict[str, pathlib.Path]:
    """Every module of a package by its full name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: pathlib.Path, known: dict[str, pathlib.Path]) -> set[str]:
    """The modules among ``known`` that a module imports, anywhere in it."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    named: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            named += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, node.module] if node.module else base)
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                named.append(inner if inner in known else source)
    return {target for target in named if target in known} - {name}


def graph(package: pathlib.Path) -> dict[str, set[str]]:
    """Module -> the modules of the same package that it imports."""
    known = modules(package)
    return {name: imports(name, path, known) for name, path in known.items()}


def layer(module: str) -> str:
    """The part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def upward(edges: dict[str, set[str]]) -> list[str]:
    """The imports that go against the data."""
    return [
        f"{module} imports {target}"
        for module, targets in sorted(edges.items())
        for target in sorted(targets)
        if RANK[layer(target)] > RANK[layer(module)]
    ]


def source_files() -> list[pathlib.Path]:
    folders = ("jaxboard", "tests", "benchmarks", "notebooks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in files if path.suffix in (".py", ".ipynb"))


def test_every_module_has_a_layer() -> None:
    """A new part of the package says where in the way of the data it stands."""
    assert {layer(name) for name in modules(PACKAGE)} <= set(RANK)


def test_imports_follow_the_data() -> None:
    """Verbs import tracing, tracing the host side, that the sinks; nothing imports upwards."""
    assert upward(graph(PACKAGE)) == []


def test_there_are_no_cycles() -> None:
    """No module imports, through any number of others, itself."""
    order = tuple(graphlib.TopologicalSorter(graph(PACKAGE)).static_order())
    assert set(order) == set(modules(PACKAGE))


def test_only_run_composes() -> None:
    """Nothing on the way of the data knows of runs: they are put together above it."""
    edges = graph(PACKAGE)
    below = [name for name in edges if RANK[layer(name)] < RANK["_run"]]
    assert [name for name in below if any(layer(t) == "_run" for t in edges[name])] == []


def test_the_check_sees_a_wrong_import(tmp_path: pathlib.Path) -> None:
    """An import inside a function, relative, from a low layer to a high one is found."""
    package = tmp_path / "jaxboard"
    for folder in ("_host", "_emit"):
        (package / folder).mkdir(parents=True)
        (package / folder / "__init__.py").touch()
    (package / "__init__.py").touch()
    (package / "_emit" / "verbs.py").write_text("from jaxboard._host import buffer\n")
    (package / "_host" / "buffer.py").write_text("def f():\n    from .._emit import verbs\n")
    edges = graph(package)
    assert upward(edges) == ["jaxboard._host.buffer imports jaxboard._emit.verbs"]
    with pytest.raises(graphlib.CycleError):
        graphlib.TopologicalSorter(edges).prepare()


@pytest.mark.parametrize("path", source_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_only_public_jax_is_used(path: pathlib.Path) -> None:
    """JAX's private modules are named nowhere, neither in code nor in the tests."""
    private = "jax." + "_src"
    assert private not in path.read_text()
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jax"):
                assert "_src" not in [alias.name for alias in node.names]


@pytest.mark.parametrize("name", sorted(modules(PACKAGE)))
def test_only_compat_tests_versions(name: str) -> None:
    """What depends on a version of JAX or of Python stands in one file."""
    if layer(name) == "_compat":
        return
    tree = ast.parse(modules(PACKAGE)[name].read_text())
    versions = {"__version__", "__version_info__", "version_info"}
    read = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert versions.isdisjoint(read)


def test_every_module_imports() -> None:
    """No file is shipped that cannot be imported."""
    found = {info.name for info in pkgutil.walk_packages(jaxboard.__path__, "jaxboard.")}
    assert found | {"jaxboard"} == set(modules(PACKAGE))
    for name in sorted(found):
        importlib.import_module(name)
