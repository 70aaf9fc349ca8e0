"""The checked arguments of a profile."""

from __future__ import annotations

import dataclasses
import itertools
import os
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Literal, SupportsIndex, TypeAlias

from jaxboard._check import as_int, checked_bool, is_one_of, positive_int, positive_number
from jaxboard._errors import UsageError
from jaxboard._paths import absolute, checked, problem_below
from jaxboard._profile.cuda_profiler import CudaProfiler
from jaxboard._profile.step_range import Steps, parse_steps
from jaxboard._profile.trace_options import Value, check_advanced
from jaxboard._safe_repr import safe_repr

Processes: TypeAlias = int | Sequence[int] | AbstractSet[int] | None
"""The processes of a job that record: their numbers, or None for all."""

_MAX_PROCESSES = 1_000_000


@dataclasses.dataclass(frozen=True, slots=True)
class ProfileSettings:
    """The settings of a profile; see :func:`jaxboard.profile`.

    ``logdir`` is an absolute path or a URL.
    """

    steps: range | None
    logdir: str | None
    name: str | None
    host_level: int
    python: bool
    hlo: bool
    sync: bool | Literal["auto"]
    max_seconds: float
    on_error: Literal["warn", "raise"]
    processes: tuple[int, ...] | None
    every: int | None
    every_secs: float | None
    slow: float | None
    advanced: Mapping[str, Value | dict[str, Value]]
    cuda: CudaProfiler | None

    @property
    def is_repeated(self) -> bool:
        """True if there may be several windows."""
        return not self.every is self.every_secs is self.slow is None


FIRST_WINDOW = range(10, 15)
"""The first window of a repeated profile, by default: the steps before it compile and warm up."""

_SESSION_BYTES = 240
"""The longest name of a session: a number may be appended."""


def check_settings(
    *,
    steps: Steps,
    logdir: str | os.PathLike[str] | None,
    name: str | None,
    host_level: int,
    python: bool,
    hlo: bool,
    sync: bool | Literal["auto"],
    max_seconds: float,
    on_error: Literal["warn", "raise"],
    processes: Processes,
    every: SupportsIndex | None,
    every_secs: float | None,
    slow: float | None,
    advanced: Mapping[str, Value | Mapping[str, Value]] | None,
    nsys: bool,
) -> ProfileSettings:
    """Check the arguments of :func:`jaxboard.profile` and return them as settings.

    Raises:
        UsageError: an argument is invalid.
    """

    def invalid(argument: str, value: object, expected: str) -> UsageError:
        return UsageError(f"profile({argument}={safe_repr(value)}): expected {expected}.")

    if name is not None and not _is_session(name):
        raise invalid("name", name, f"the name of a directory, of at most {_SESSION_BYTES} bytes")
    if as_int(host_level) not in (0, 1, 2, 3):
        raise invalid("host_level", host_level, "0, 1, 2 or 3")
    if not (isinstance(sync, bool) or is_one_of(sync, ("auto",))):
        raise invalid("sync", sync, "True, False or 'auto'")
    if not is_one_of(on_error, ("warn", "raise")):
        raise invalid("on_error", on_error, "'warn' or 'raise'")
    window = parse_steps(steps)
    period = None if every is None else positive_int("profile", "every", every, "steps")
    if period is not None and period < len(window or FIRST_WINDOW):
        raise invalid(
            "every", every, f"at least the length of a window, {len(window or FIRST_WINDOW)} steps"
        )
    factor = None if slow is None else positive_number("profile", "slow", slow)
    if factor is not None and not 1 < factor < float("inf"):
        raise invalid("slow", slow, "a factor above 1, such as 1.5")
    return ProfileSettings(
        steps=window,
        logdir=None if logdir is None else absolute(checked("profile(logdir={})", logdir)),
        name=name,
        host_level=host_level,
        python=checked_bool("profile", "python", python),
        hlo=checked_bool("profile", "hlo", hlo),
        sync=sync,
        max_seconds=float(positive_number("profile", "max_seconds", max_seconds)),
        on_error=on_error,
        processes=_process_numbers(processes),
        every=period,
        every_secs=None
        if every_secs is None
        else positive_number("profile", "every_secs", every_secs),
        slow=factor,
        advanced=check_advanced(advanced),
        cuda=CudaProfiler() if checked_bool("profile", "nsys", nsys) else None,
    )


def _process_numbers(processes: object) -> tuple[int, ...] | None:
    """Return the processes that record; None for all.

    Raises:
        UsageError: they are not numbers of processes, or there are none.
    """
    if processes is None:
        return None
    listed = [processes] if as_int(processes) is not None else processes
    numbers: list[int | None] = []
    if isinstance(listed, Sequence | AbstractSet) and not isinstance(listed, str | bytes):
        numbers = [as_int(number) for number in itertools.islice(listed, _MAX_PROCESSES)]
    valid = tuple(sorted({number for number in numbers if number is not None and number >= 0}))
    if not numbers or None in numbers or min(number or 0 for number in numbers) < 0:
        raise UsageError(
            f"profile(processes={safe_repr(processes)}): expected numbers of processes, such as [0, 3], or None for all."
        )
    return valid


def _is_session(name: object) -> bool:
    """Return whether a profile can have this name."""
    return (
        isinstance(name, str)
        and "/" not in name
        and problem_below(name) is None
        and len(name.encode()) <= _SESSION_BYTES
    )
