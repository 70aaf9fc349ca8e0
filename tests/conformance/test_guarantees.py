"""The table of guarantees is that of the cases."""

from __future__ import annotations

from conformance import guarantees
from conformance.cases import CASES


def test_table_is_up_to_date():
    """README.md in this folder is what its program writes."""
    assert guarantees.README.read_text() == guarantees.text()


def test_every_case_is_in_it():
    """No case stands under a heading that the table doesn't have, and no file of tests is left out."""
    assert {case.family for case in CASES} == set(guarantees.HEADINGS)
    assert len({case.name for case in CASES}) == len(CASES)
    files = {path.stem for path in guarantees.README.parent.glob("test_*.py")}
    assert files - set(guarantees.OTHERS) == {"test_guarantees", "test_transformations"}
