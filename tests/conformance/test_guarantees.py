"""The table of guarantees is that of the cases."""

from __future__ import annotations

from conformance import guarantees
from conformance.cases import CASES


def test_table_is_up_to_date():
    """README.md in this folder is what its program writes."""
    assert guarantees.README.read_text() == guarantees.text()


def test_every_case_is_in_it():
    """No case stands under a heading that the table doesn't have."""
    assert {case.family for case in CASES} == set(guarantees.HEADINGS)
    assert len({case.name for case in CASES}) == len(CASES)
