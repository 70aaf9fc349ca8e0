"""The checked arguments of a profile."""

from __future__ import annotations

import dataclasses
import os
from typing import Literal

from jaxboard._check import positive_number
from jaxboard._errors import UsageError
from jaxboard._paths import absolute, problem_below
from jaxboard._profile.step_range import Steps, parse_steps


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
        return UsageError(f"profile({argument}={value!r}): expected {expected}.")

    if logdir is not None and (not isinstance(logdir, str | os.PathLike) or not os.fspath(logdir)):
        raise invalid("logdir", logdir, "a path")
    if name is not None and not _is_session(name):
        raise invalid("name", name, f"the name of a directory, of at most {_SESSION_BYTES} bytes")
    if isinstance(host_level, bool) or host_level not in (0, 1, 2, 3):
        raise invalid("host_level", host_level, "0, 1, 2 or 3")
    if sync not in (True, False, "auto"):
        raise invalid("sync", sync, "True, False or 'auto'")
    if on_error not in ("warn", "raise"):
        raise invalid("on_error", on_error, "'warn' or 'raise'")
    return ProfileSettings(
        steps=parse_steps(steps),
        logdir=None if logdir is None else absolute(logdir),
        name=name,
        host_level=host_level,
        python=bool(python),
        hlo=bool(hlo),
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
