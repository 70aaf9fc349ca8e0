"""The structure of the package: the order of imports, the names of modules, and only public JAX."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib
import pathlib
import pkgutil
from collections import Counter
from collections.abc import Iterable

import pytest
from outside_libraries import MODULES

import jaxboard

ROOT = pathlib.Path(__file__).parents[2]
PACKAGE = ROOT / "jaxboard"
LONGEST = 420
"""Most lines of a module: one idea, which fits on a few screens."""

# From the bottom up. A module may import modules of lower layers and of its own layer.
LAYERS = (
    ("_errors", "_types", "_safe_repr"),
    ("_log", "_check", "_paths", "_blocks", "_own_tags", "_markdown"),
    ("_compat",),
    ("_process",),
    ("_values", "records"),
    ("_frame", "_reduce"),
    ("sinks",),
    ("_read",),
    ("_host",),
    ("_alerts",),
    ("_trace",),
    ("_graph",),
    ("_autopsy",),
    ("_emit",),
    ("_telemetry",),
    ("_job",),
    ("_control",),
    ("_live",),
    ("_run",),
    ("_summary_writer",),
    ("_profile",),
    ("_why",),
    ("testing",),
    ("notebook",),
    ("jaxboard",),
    ("integrations",),
    ("_cli",),
    ("__main__",),
)
RANK = {name: rank for rank, layer in enumerate(LAYERS) for name in layer}


def modules(package: pathlib.Path) -> dict[str, pathlib.Path]:
    """Return every module of a package: full name -> path."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports(name: str, path: pathlib.Path, known: dict[str, pathlib.Path]) -> set[str]:
    """Return the modules among ``known`` that a module imports, also inside functions."""
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


@functools.cache
def graph(package: pathlib.Path) -> dict[str, set[str]]:
    """Return module -> the modules of the same package that it imports."""
    known = modules(package)
    return {name: imports(name, path, known) for name, path in known.items()}


def layer(module: str) -> str:
    """Return the part of the package that a module belongs to."""
    return module.split(".")[1] if "." in module else module


def upward(edges: dict[str, set[str]]) -> list[str]:
    """Return the imports of a higher layer from a lower one."""
    return [
        f"{module} imports {target}"
        for module, targets in sorted(edges.items())
        for target in sorted(targets)
        if RANK[layer(target)] > RANK[layer(module)]
    ]


def source_files() -> list[pathlib.Path]:
    """Return every file with Python code."""
    folders = ("jaxboard", "tests", "benchmarks", "notebooks")
    files = [path for folder in folders for path in (ROOT / folder).rglob("*")]
    return sorted(path for path in files if path.suffix in (".py", ".ipynb"))


def test_every_module_has_a_layer() -> None:
    """Every part of the package has a place in the order of layers."""
    assert {layer(name) for name in modules(PACKAGE)} <= set(RANK)


def test_imports_follow_the_data() -> None:
    """Verbs import tracing, tracing imports the host side, the host side imports sinks, and never the reverse."""
    assert upward(graph(PACKAGE)) == []


def test_there_are_no_cycles() -> None:
    """No module imports itself, directly or through other modules."""
    order = tuple(graphlib.TopologicalSorter(graph(PACKAGE)).static_order())
    assert set(order) == set(modules(PACKAGE))


def test_only_run_composes() -> None:
    """No layer below runs imports them: a run composes these layers."""
    edges = graph(PACKAGE)
    below = [name for name in edges if RANK[layer(name)] < RANK["_run"]]
    assert [name for name in below if any(layer(t) == "_run" for t in edges[name])] == []


def test_the_check_sees_a_wrong_import(tmp_path: pathlib.Path) -> None:
    """A relative import inside a function, from a lower layer to a higher one, is found."""
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


def repeated_names(names: Iterable[str]) -> list[str]:
    """Return the last parts that several full names share."""
    counts = Counter(name.rpartition(".")[2] for name in names)
    return sorted(name for name, count in counts.items() if count > 1)


def test_module_names_are_unique() -> None:
    """Each module name occurs once in the package, so that it identifies a module."""
    assert repeated_names(modules(PACKAGE)) == []
    assert repeated_names(["a.lanes", "b.lanes", "b.masks"]) == ["lanes"]


def inner_underscores(names: Iterable[str]) -> list[str]:
    """Return the names with an underscore after a private part."""
    special = {"__main__"}
    found = []
    for name in names:
        parts = [part.startswith("_") for part in name.split(".") if part not in special]
        if sum(parts) > 1:
            found.append(name)
    return found


def test_only_the_outermost_private_name_has_an_underscore() -> None:
    """Private packages have plain file names: ``_trace/masks.py``, not ``_trace/_masks.py``."""
    assert inner_underscores(modules(PACKAGE)) == []
    names = ["jaxboard._trace._masks", "jaxboard._trace.masks", "jaxboard.sinks._columns"]
    assert inner_underscores(names) == ["jaxboard._trace._masks"]


def long_modules(package: pathlib.Path) -> dict[str, int]:
    """Return the modules that are too long: full name -> number of lines."""
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules(package).items()}
    return {name: length for name, length in lengths.items() if length > LONGEST}


def test_modules_are_short(tmp_path: pathlib.Path) -> None:
    """No module has more than 420 lines."""
    assert long_modules(PACKAGE) == {}
    (tmp_path / "long.py").write_text("\n" * 421)
    assert list(long_modules(tmp_path).values()) == [421]


def uses_private_jax(path: pathlib.Path) -> bool:
    """Return whether a file names a private module of JAX."""
    private = "jax." + "_src"
    text = path.read_text()
    if private in text or path.suffix != ".py":
        return private in text
    return "_src" in text and any(
        isinstance(node, ast.ImportFrom)
        and (node.module or "").startswith("jax")
        and "_src" in [alias.name for alias in node.names]
        for node in ast.walk(ast.parse(text))
    )


def test_only_public_jax_is_used(tmp_path: pathlib.Path) -> None:
    """No file names a private module of JAX."""
    assert [path for path in source_files() if uses_private_jax(path)] == []
    for line in ("import jax." + "_src.core", "from jax import " + "_src"):
        (tmp_path / "private.py").write_text(line)
        assert uses_private_jax(tmp_path / "private.py")


def reads_versions(path: pathlib.Path) -> bool:
    """Return whether a module reads a version of JAX or Python."""
    versions = {"__version__", "__version_info__", "version_info"}
    text = path.read_text()
    return any(version in text for version in versions) and any(
        isinstance(node, ast.Attribute) and node.attr in versions
        for node in ast.walk(ast.parse(text))
    )


def test_only_compat_tests_versions() -> None:
    """Only ``_compat.py`` reads a version of JAX or Python."""
    reading = [layer(name) for name, path in modules(PACKAGE).items() if reads_versions(path)]
    assert reading == ["_compat"]


def test_every_module_imports() -> None:
    """Every module of the package can be imported, except that its library may be missing."""
    found = {info.name for info in pkgutil.walk_packages(jaxboard.__path__, "jaxboard.")}
    assert found | {"jaxboard"} == set(modules(PACKAGE))
    missing = {}
    for name in sorted(found):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing[name] = error.name
    assert missing.items() <= MODULES.items()
