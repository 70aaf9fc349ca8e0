"""All cases of the conformance tests: see ``case.py`` for the format, ``programs/`` for the programs."""

from __future__ import annotations

from conformance.case import Case, Observed, registered
from conformance.programs import branches, calls, derivatives, loops, maps, meshes

__all__ = ["CASES", "FAMILIES", "Case", "Observed"]

FAMILIES = {
    calls.FAMILY: "Calls",
    derivatives.FAMILY: "Derivatives",
    maps.FAMILY: "`vmap`",
    loops.FAMILY: "Loops",
    branches.FAMILY: "Branches",
    meshes.FAMILY: "Meshes",
}
"""Family of cases -> its heading in the table of guarantees."""

CASES = sorted(registered, key=lambda case: list(FAMILIES).index(case.family))
