"""The examples in docstrings run and print what they show."""

from __future__ import annotations

import ast
import doctest
import importlib
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from outside_libraries import MODULES

import jaxboard as jb

PACKAGE = pathlib.Path(jb.__file__).parent


class Example(NamedTuple):
    """A docstring with an example: its module's path, the full name and line of its definition, and its text."""

    path: pathlib.Path
    name: str
    line: int
    docstring: str


def examples(path: pathlib.Path) -> Iterator[Example]:
    """Yield the examples of a module."""

    def visit(node: ast.AST, name: str) -> Iterator[Example]:
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            docstring = ast.get_docstring(node)
            if docstring is not None and ">>> " in docstring:
                yield Example(path, name, getattr(node, "lineno", 1), docstring)
            for child in node.body:
                yield from visit(child, f"{name}.{getattr(child, 'name', '')}")

    yield from visit(ast.parse(path.read_text()), module_name(path))


def module_name(path: pathlib.Path) -> str:
    """Return the full name of a module of the package."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def run(example: Example) -> None:
    """Run an example with the names of its module; raise on a wrong output."""
    names = dict(vars(importlib.import_module(module_name(example.path))))
    test = doctest.DocTestParser().get_doctest(
        example.docstring, names, example.name, str(example.path), example.line
    )
    doctest.DebugRunner(optionflags=doctest.ELLIPSIS).run(test)


EXAMPLES = [example for path in sorted(PACKAGE.rglob("*.py")) for example in examples(path)]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_example(example, tmp_path, monkeypatch) -> None:
    """An example runs as shown, closes its run and leaves no file in the working directory."""
    if (library := MODULES.get(module_name(example.path))) is not None:
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    run(example)
    assert jb.current_run() is None
    assert list(tmp_path.iterdir()) == []


def test_the_check_sees_a_wrong_output() -> None:
    """An example that prints something else fails, and examples of functions are found."""
    with pytest.raises(doctest.DocTestFailure):
        run(Example(PACKAGE / "__init__.py", "wrong", 1, ">>> 1 + 1\n3\n"))
    assert "scalar" in {example.name.rpartition(".")[2] for example in EXAMPLES}
