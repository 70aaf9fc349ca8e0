"""The checked arguments of a profile."""

from __future__ import annotations

import dataclasses
import os
from typing import Literal

from jaxboard._check import as_int, checked_bool, is_one_of, positive_number
from jaxboard._errors import UsageError
from jaxboard._paths import absolute, checked, problem_below
from jaxboard._profile.step_range import Steps, parse_steps
from jaxboard._safe_repr import safe_repr


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
    return ProfileSettings(
        steps=parse_steps(steps),
        logdir=None if logdir is None else absolute(checked("profile(logdir={})", logdir)),
        name=name,
        host_level=host_level,
        python=checked_bool("profile", "python", python),
        hlo=checked_bool("profile", "hlo", hlo),
        sync=sync,
        max_seconds=float(positive_number("profile", "max_seconds", max_seconds)),
        on_error=on_error,
    )


def _is_session(name: object) -> bool:
    """Return whether a profile can have this name."""
    return (
        isinstance(name, str)
        and "/" not in name
        and problem_below(name) is None
        and len(name.encode()) <= _SESSION_BYTES
    )
