"""The requests that a run understands, and the check of a request that was read from a file."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal, TypeAlias, cast, get_args

from jaxboard._check import as_positive_int, is_one_of
from jaxboard._control.request_files import Refused
from jaxboard._host.selection import Choice
from jaxboard._safe_repr import safe_repr

Verb: TypeAlias = Literal["profile", "every", "stacks", "memory", "flush"]

AT_A_STEP = ("profile", "every")
"""The requests that all processes act on at the same step. The others are acted on immediately: a job that hangs reaches no step."""

_MAX_STEPS = 10_000
_MAX_PATTERNS = 1000


@dataclasses.dataclass(frozen=True, slots=True)
class Request:
    """A request to all processes of a run.

    Attributes:
        name: the name of its directory.
        verb: what to do.
        steps: how many steps to profile.
        processes: the processes that act; None for all.
        cadences: the patterns whose cadence changes.
    """

    name: str
    verb: Verb
    steps: int = 5
    processes: tuple[int, ...] | None = None
    cadences: tuple[tuple[str, Choice], ...] = ()

    def concerns(self, process: int) -> bool:
        """Return whether a process acts."""
        return self.processes is None or process in self.processes


def parse_request(name: str, contents: Any) -> Request:
    """Return a request from the contents of its file.

    Raises:
        Refused: it is invalid.
    """
    if not isinstance(contents, dict) or contents.get("name") != name:
        raise Refused("it does not have its own name")
    verb = contents.get("verb")
    if not is_one_of(verb, get_args(Verb)):
        raise Refused(f"there is no {safe_repr(verb)}")
    unknown = set(contents) - {field.name for field in dataclasses.fields(Request)}
    if unknown:
        raise Refused(f"it has {safe_repr(min(unknown))}, which this version does not know")
    steps = _count(contents.get("steps", 5))
    if steps is None or steps > _MAX_STEPS:
        raise Refused(f"steps is {safe_repr(contents['steps'])}")
    processes = _processes(contents.get("processes"))
    if verb == "every" and processes is not None:
        raise Refused("all processes need the same programs, so `every` takes no processes")
    return Request(
        name,
        cast("Verb", verb),
        steps,
        processes,
        tuple(map(_cadence, _items(contents.get("cadences", [])))),
    )


def _count(number: object) -> int | None:
    return as_positive_int(number) if type(number) is int else None


def _items(value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > _MAX_PATTERNS:
        raise Refused(f"expected a list, got {safe_repr(value)}")
    return value


def _processes(value: object) -> tuple[int, ...] | None:
    if value is None:
        return None
    numbers = _items(value)
    if not all(type(number) is int and number >= 0 for number in numbers):
        raise Refused(f"processes is {safe_repr(value)}")
    return tuple(numbers)


def _cadence(item: object) -> tuple[str, Choice]:
    match list(item) if isinstance(item, list | tuple) else item:
        case [str() as pattern, None | "code" as choice] if pattern.strip():
            return pattern, choice
        case [str() as pattern, int() as every] if pattern.strip() and _count(every):
            return pattern, every
    raise Refused(f"there is no cadence {safe_repr(item)}")


def parse_step(contents: Any) -> int:
    """Return the step at which a request is to be acted on.

    Raises:
        Refused: it is invalid.
    """
    step = contents.get("step") if isinstance(contents, dict) else None
    if type(step) is not int or not 0 <= step < 2**63:
        raise Refused(f"the step is {safe_repr(step)}")
    return step
