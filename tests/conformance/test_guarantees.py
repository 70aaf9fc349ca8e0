"""The table of guarantees matches the cases."""

from __future__ import annotations

from conformance import guarantees
from conformance.cases import CASES, FAMILIES


def test_table_is_up_to_date():
    """README.md in this folder is the output of its generator."""
    assert guarantees.README.read_text() == guarantees.text()


def test_table_is_complete():
    """The table has a section for every case and every test file, and case names are unique."""
    assert {case.family for case in CASES} == set(FAMILIES)
    assert len({case.name for case in CASES}) == len(CASES)
    files = {path.stem for path in guarantees.README.parent.glob("test_*.py")}
    assert files - set(guarantees.TEST_FILES) == {"test_guarantees", "test_transformations"}
