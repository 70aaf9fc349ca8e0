"""The profiles of a run, each compared with the one before."""

from __future__ import annotations

import weakref

from jaxboard._errors import ProfileError
from jaxboard._profile.comparison import Comparison, compare
from jaxboard._profile.summary import TraceSummary
from jaxboard._profile.trace_files import newest_other_trace
from jaxboard._profile.trace_reader import summarize_in_subprocess
from jaxboard._run import Run

_last: weakref.WeakKeyDictionary[Run, TraceSummary] = weakref.WeakKeyDictionary()


def compare_with_previous(
    run: Run, summary: TraceSummary, path: str, timeout: float
) -> Comparison | None:
    """Return the comparison of a profile with the one before it in the run; None if there is none.

    The first profile after a restart is compared with the newest one in the log directory.

    Args:
        run: the run. The summary becomes its last one.
        summary: the summary of the profile.
        path: the path of its trace.
        timeout: the longest time to read an earlier trace, in seconds.
    """
    before, _last[run] = _last.get(run), summary
    if before is None:
        file = newest_other_trace(path)
        try:
            before = None if file is None else summarize_in_subprocess(file, timeout)
        except ProfileError:
            return None  # The directory may hold a trace of another program, or a damaged one.
    return None if before is None else compare(summary, before)
