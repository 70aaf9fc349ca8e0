"""Reports in the body of Linen's ``nn.scan`` and ``nn.remat_scan``.

Before the loop, Flax traces the body once to check what does not depend on the iterations. Flax 0.12.9 and later refuse an
effect there, such as that of a report; with earlier versions, a value that is constant in the loop would be reported
once too often. Reports are therefore left out of this trace.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import sys
from collections.abc import Callable
from typing import Any

from jaxboard._trace import context

_MARK = "__jaxboard_leaves_out_reports__"


def silence_scan_checks() -> None:
    """Leave reports out of the traces in which Flax checks a loop. Do nothing if Flax is not imported yet."""
    axes_scan: Any = sys.modules.get("flax.core.axes_scan")
    if axes_scan is not None and not hasattr(axes_scan.scan, _MARK):
        axes_scan.scan = _with_silent_check(axes_scan.scan)


def _with_silent_check(scan: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(scan)
    def scan_with_silent_check(
        body: Callable[..., Any], *args: Any, **options: Any
    ) -> Callable[..., Any]:
        if not options.get("check_constancy_invariants", True):
            return scan(body, *args, **options)

        def loop(*operands: Any) -> Any:
            calls = itertools.count()

            def reporting_body(*values: Any) -> Any:
                is_check = next(calls) == 0
                with context.silenced() if is_check else contextlib.nullcontext():
                    return body(*values)

            return scan(reporting_body, *args, **options)(*operands)

        return loop

    setattr(scan_with_silent_check, _MARK, True)
    return scan_with_silent_check


silence_scan_checks()
