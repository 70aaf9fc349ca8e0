"""Everything that JAX, Flax and Equinox may change is as jaxboard needs it."""

from __future__ import annotations

import pathlib
import re

import pytest
from contract import jax_names
from contract.jax_names import NAMES, Name, require

PACKAGE = pathlib.Path(__file__).parents[2] / "jaxboard"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.name)
def test_name(name: Name) -> None:
    """The installed version has what jaxboard depends on; else the failure names the file to adapt."""
    try:
        name.check()
    except Exception as error:
        pytest.fail(name.changed(error), pytrace=False)


def test_a_change_is_named() -> None:
    """The message of a failure has the file, what it depends on, and what was found."""

    def scan() -> None:
        require({"jaxpr": 1, "count": 2}, "jaxpr", "length")

    name = Name(scan, ("_trace/rules/loops.py",), "`scan`: `length`")
    with pytest.raises(AssertionError) as raised:
        name.check()
    message = name.changed(raised.value)
    for part in ("jaxboard/_trace/rules/loops.py", "`scan`: `length`", "length missing among"):
        assert part in message


def test_every_parameter_is_listed() -> None:
    """Each module that reads a parameter of one of JAX's primitives is in the list."""
    own = {"plan", "spec", "stepped", "weighted"}  # those of jaxboard's own primitives
    reads = re.compile(r"params(?:\[|\.get\()f?\"([^\"]+)\"")
    listed = {file for name in NAMES for file in name.files}
    files = {
        path.relative_to(PACKAGE).as_posix()
        for path in PACKAGE.rglob("*.py")
        if set(reads.findall(path.read_text())) - own
    }
    assert len(files) > 8
    assert sorted(files - listed) == []


def test_page_is_up_to_date() -> None:
    """docs/jax_names.md is the output of its generator, and its files exist."""
    assert jax_names.PAGE.read_text() == jax_names.text()
    assert [file for name in NAMES for file in name.files if not (PACKAGE / file).exists()] == []
