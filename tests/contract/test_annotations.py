"""Parameters are annotated with the types that they take."""

from __future__ import annotations

import ast
import pathlib

PACKAGE = pathlib.Path(__file__).parents[2] / "jaxboard"
LIMIT = 0.08
"""Largest share of parameters annotated with plain ``Any``: some objects of JAX and protobuf have no public type."""


def parameter_annotations(source: str) -> list[str]:
    """Return the annotation of every parameter in a module, without ``self`` and ``cls``."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        arguments = node.args
        parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        parameters += [extra for extra in (arguments.vararg, arguments.kwarg) if extra is not None]
        found += [
            "" if parameter.annotation is None else ast.unparse(parameter.annotation)
            for parameter in parameters
            if parameter.arg not in ("self", "cls")
        ]
    return found


def share_of_any(sources: list[str]) -> float:
    """Return the share of parameters that are annotated with exactly ``Any``."""
    found = [annotation for source in sources for annotation in parameter_annotations(source)]
    return found.count("Any") / len(found)


def test_few_parameters_are_any() -> None:
    """Plain ``Any`` is the annotation of few parameters in the package."""
    assert share_of_any([path.read_text() for path in sorted(PACKAGE.rglob("*.py"))]) <= LIMIT


def test_the_check_counts_any() -> None:
    """Every kind of parameter counts; an ``Any`` within another type does not."""
    source = "class C:\n def f(self, a: Any, /, b: int, *c: Any, d: list[Any], e, **k: Any): ..."
    assert parameter_annotations(source) == ["Any", "int", "list[Any]", "", "Any", "Any"]
    assert share_of_any([source, "def g(x: int, y: str): ..."]) == 3 / 8
