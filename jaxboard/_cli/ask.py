"""``python -m jaxboard ask``: a request to all processes of an open run."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from jaxboard import _paths
from jaxboard._check import as_int, as_positive_int
from jaxboard._control import request_files
from jaxboard._control.request_files import HAS_OWNERS, STEP, Refused
from jaxboard._control.requests import AT_A_STEP, Request, parse_request
from jaxboard._host.selection import Choice

Messages: TypeAlias = dict[tuple[int, str, int], dict[str, Any]]
"""The files that processes have written, by their numbers, hosts and process ids."""

_POLL_SECS = 0.1

_SEEN_SECS = 15.0
"""Most seconds to wait for all processes to see a request, before it goes on with those that have."""

_MARGIN_SECS = 3.0
"""The time before the step at which all act: each must have read its number by then."""

_FAILED, _INVALID = 1, 2


class _Invalid(Exception):  # noqa: N818 (a message to the user)
    """Raised for arguments that are invalid."""


def main(logdir: str, words: Sequence[str], *, timeout: float, as_json: bool) -> int:
    """Ask, wait for the answers and print them.

    Args:
        logdir: the log directory of the run.
        words: what to do, and its arguments.
        timeout: how many seconds to wait for the answers.
        as_json: print one JSON object; docs/asking_a_run.md documents it.

    Returns:
        The exit status: 0 if every process did it, 1 if one did not, 2 if nothing was asked.
    """
    try:
        asked = _Asked(logdir, words)
    except (_Invalid, Refused) as error:
        print(f"ask: {error}", file=sys.stderr)
        return _INVALID
    except OSError as fault:
        print(f"ask: cannot write to {logdir!r}: {fault.strerror}.", file=sys.stderr)
        return _INVALID
    asked.wait(timeout)
    if as_json:
        print(json.dumps(asked.as_json(), indent=2))
    else:
        for line in asked.lines():
            print(line)
    return 0 if asked.is_done else _FAILED


class _Asked:
    """A request in the directory of a run."""

    def __init__(self, logdir: str, words: Sequence[str]):
        if not HAS_OWNERS:
            raise _Invalid("this system does not know owners of files, which requests need.")
        if _paths.is_remote(logdir):
            raise _Invalid(f"{logdir!r} is a URL. A run can be asked in a directory only.")
        directory = os.path.abspath(os.path.expanduser(logdir))
        if not os.path.isdir(directory):
            raise _Invalid(f"there is no directory {logdir!r}.")
        # The name sorts by time.
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(4)}"
        self.request = parse_words(name, words)
        self._logdir = logdir
        self._place = request_files.place_of(directory)
        self.step: int | None = None
        self.seen: Messages = {}
        self.answers: Messages = {}
        request_files.create(self._place, name, dataclasses.asdict(self.request))

    def wait(self, timeout: float) -> None:
        """Wait until all processes have answered, at most ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        self._until(min(deadline, time.monotonic() + _SEEN_SECS), lambda: not self._unseen())
        if self.seen and self.request.verb in AT_A_STEP:
            self.step = self._agreed_step()
            self._write(STEP, {"step": self.step})
        if self.seen:
            self._until(deadline, lambda: not self._unanswered())

    def _until(self, deadline: float, is_over: Callable[[], bool]) -> None:
        while True:
            with request_files.opened(self._place, self.request.name) as directory:
                for file in request_files.files(directory):
                    kind = file.partition(".")[0]
                    if kind in ("seen", "answer"):
                        message = request_files.read(directory, file)
                        key = message["process"], message["host"], message["pid"]
                        (self.seen if kind == "seen" else self.answers)[key] = message
            if is_over() or time.monotonic() >= deadline:
                return
            time.sleep(_POLL_SECS)

    def _unseen(self) -> set[int]:
        """Return the processes that have not seen the request; {0} if none has."""
        return set(range(self._count)) - {process for process, _, _ in self.seen | self.answers}

    def _absent(self) -> set[int]:
        """Return the processes that are asked, and that the run does not have."""
        return {process for process in self.request.processes or () if process >= self._count}

    @property
    def _count(self) -> int:
        """The number of processes of the run, 1 as long as none has seen the request."""
        messages = (self.seen | self.answers).values()
        return max((message["processes"] for message in messages), default=1)

    def _unanswered(self) -> list[tuple[int, str, int]]:
        return [
            key for key in self.seen if self.request.concerns(key[0]) and key not in self.answers
        ]

    def _agreed_step(self) -> int:
        """Return a step that no process will reach before it knows of it."""
        step = max(message["step"] for message in self.seen.values())
        rate = max(message["steps_per_second"] for message in self.seen.values())
        return step + 1 + math.ceil(rate * _MARGIN_SECS)

    @property
    def is_done(self) -> bool:
        """True if every process did what it was asked."""
        failed = any("error" in answer for answer in self.answers.values())
        missing = self._unanswered() or self._unseen() or self._absent()
        return bool(self.answers) and not (failed or missing)

    def _write(self, file: str, contents: object) -> None:
        with request_files.opened(self._place, self.request.name) as directory:
            request_files.write(directory, file, contents)

    # --- The answers. -----------------------------------------------------------------------------

    def lines(self) -> list[str]:
        """Return the answers as lines of text."""
        lines = [_line(answer) for _, answer in sorted(self.answers.items())]
        lines += [
            f"process {process} ({host}, pid {pid}) has not answered yet. Its answer will be in {self._directory}."
            for process, host, pid in sorted(self._unanswered())
        ]
        if not self.seen and not self.answers:
            advice = "Pass the directory that was passed to jaxboard.Run. The run must be open."
            return [f"No run has answered in {self._logdir!r}. {advice}"]
        lines += [f"process {n} has not seen the request." for n in sorted(self._unseen())]
        return lines + [
            f"there is no process {n}: the run has {self._count}, from 0 on."
            for n in sorted(self._absent())
        ]

    @property
    def _directory(self) -> str:
        return os.path.join(self._place, self.request.name)

    def as_json(self) -> dict[str, Any]:
        """Return the answers as JSON."""
        return {
            "logdir": self._logdir,
            "request": dataclasses.asdict(self.request),
            "directory": self._directory,
            "step": self.step,
            "ok": self.is_done,
            "answers": [answer for _, answer in sorted(self.answers.items())],
            "unanswered": [process for process, _, _ in sorted(self._unanswered())],
            "unseen": sorted(self._unseen() | self._absent()),
        }


def _line(answer: dict[str, Any]) -> str:
    who = f"process {answer['process']} ({answer['host']}, pid {answer['pid']})"
    if "error" in answer:
        return f"{who}: failed: {answer['error']}"
    step = f"step {answer['step']}: " if "step" in answer else ""
    late = ", later than the others, as that step had passed" if answer.get("late") else ""
    path = f": {answer['path']}" if answer.get("path") else ""
    text = f"\n{answer['text']}" if "text" in answer else ""
    return f"{who}, {step}{answer['done']}{late}{path}{text}"


# --- The arguments. -------------------------------------------------------------------------------


def parse_words(name: str, words: Sequence[str]) -> Request:
    """Return the request that the words of a command line make.

    Args:
        name: the name of the request.
        words: the verb and its arguments, such as ``["profile", "steps=5"]``.
    """
    verb, *rest = words
    contents: dict[str, Any] = {"name": name, "verb": verb}
    if verb == "every":
        contents["cadences"] = [_cadence(word) for word in rest]
        if not rest:
            raise _Invalid("every needs a pattern, such as every 'grads/*'=10.")
        return parse_request(name, contents)
    for word in rest:
        key, _, value = word.partition("=")
        if key == "processes":
            contents[key] = [_number(word, part, 0) for part in value.split(",")]
        elif key == "steps" and verb == "profile":
            contents[key] = _number(word, value, 1)
        else:
            raise _Invalid(f"{verb} has no argument {word!r}.")
    return parse_request(name, contents)


def _cadence(word: str) -> tuple[str, Choice]:
    pattern, _, value = word.rpartition("=")
    choices: dict[str, Choice] = {"off": None, "code": "code"}
    if pattern and value in choices:
        return pattern, choices[value]
    number = as_positive_int(int(value)) if _is_short_decimal(value) else None
    if not pattern or number is None:
        raise _Invalid(
            f"every {word!r}: expected PATTERN=N with a number of steps, PATTERN=off to leave the reports out, or "
            "PATTERN=code for the cadence in the program."
        )
    return pattern, number


def _number(word: str, text: str, least: int) -> int:
    number = as_int(int(text)) if _is_short_decimal(text) else None
    if number is None or number < least:
        raise _Invalid(f"{word!r}: expected a number of at least {least}.")
    return number


def _is_short_decimal(text: str) -> bool:
    """Return whether a text is a number of at most nine digits: Python refuses to convert thousands of them."""
    return text.isdecimal() and len(text) < 10
