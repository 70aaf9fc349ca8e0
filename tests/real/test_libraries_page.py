"""The programs of docs/libraries.md whose library is not in the extra `test`, and the examples of such integrations."""

from __future__ import annotations

import importlib
import pathlib
import re

import pytest
from contract import test_examples
from outside_libraries import MODULES

import jaxboard as jb

pytestmark = [pytest.mark.real, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "libraries.md"
BLOCKS = re.findall(r"^```python (\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
LIBRARIES = ("blackjax", "clu", "diffrax", "metrax", "numpyro")


def test_the_libraries_of_the_page():
    """Every library that a block of the page names has its test."""
    assert sorted({name for name, _ in BLOCKS}) == list(LIBRARIES)


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_program_of_a_library(library, tmp_path, monkeypatch):
    """The blocks of a library are a program that runs as printed, and closes its run."""
    pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    program = "\n".join(text for name, text in BLOCKS if name == library)
    exec(compile(program, f"{PAGE.name} ({library})", "exec"), {"__name__": "__main__"})
    assert jb.current_run() is None


@pytest.mark.parametrize("module", MODULES)
def test_the_examples_of_an_integration(module):
    """The examples in the docstrings print what they show."""
    pytest.importorskip(MODULES[module])
    path = pathlib.Path(str(importlib.import_module(module).__file__))
    examples = list(test_examples.examples(path))
    assert examples
    for example in examples:
        test_examples.run(example)
