"""The part of a run that looks for requests and acts on them, on the thread of its flusher."""

from __future__ import annotations

import collections
import contextlib
import os
import pathlib
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from jaxboard._control import request_files
from jaxboard._control.actions import Action, RunContext, begin
from jaxboard._control.request_files import HAS_OWNERS, REQUEST, STEP, Refused
from jaxboard._control.requests import AT_A_STEP, Request, parse_request, parse_step
from jaxboard._host.channel import Channel
from jaxboard._host.flush_request import FlushRequest
from jaxboard._log import describe, logger
from jaxboard._process.rank import rank

POLL_SECS = 0.5
"""The time between two looks into the directory."""


class PollingThread(Protocol):
    """The part of a flusher that a listener uses."""

    polls: list[Callable[[], object]]

    def request_flush(self) -> FlushRequest:
        """Ask for everything that the device has computed to be written."""
        ...


_POLLS_OF_PACE = 20
"""The number of looks whose paces count: a pause, as for a compilation, must not make a run look slow."""


class _Pace:
    """The pace of a run: the largest of the last ten seconds, in steps per second."""

    def __init__(self, step: int) -> None:
        self._last = time.monotonic(), step
        self._rates = collections.deque[float]([0.0], maxlen=_POLLS_OF_PACE)

    def update(self, step: int) -> None:
        """Note the step now."""
        now = time.monotonic()
        seconds, steps = now - self._last[0], step - self._last[1]
        if seconds >= POLL_SECS / 2:
            self._rates.append(max(steps, 0) / seconds)
            self._last = now, step

    @property
    def steps_per_second(self) -> float:
        return max(self._rates)


class Listener:
    """Looks for requests, and acts on them. Used by one thread, the flusher's, up to :meth:`close`.

    Args:
        logdir: the log directory of the run. It takes requests only if that is a path.
        channel: the channel of the run.
        flusher: the thread, which is going to call :meth:`poll`.
    """

    def __init__(
        self,
        logdir: pathlib.Path | str | None,
        channel: Channel,
        flusher: PollingThread,
    ) -> None:
        self._is_asked = HAS_OWNERS and isinstance(logdir, pathlib.Path)
        self._place = request_files.place_of(str(logdir))
        self._channel = channel
        self._context = RunContext(str(logdir), channel, flusher.request_flush)
        self._known = self._requests_to_earlier_runs()
        self._waiting: dict[str, Request] = {}
        self._acting: dict[str, Action] = {}
        self._next_poll = 0.0
        self._pace = _Pace(channel.step)
        flusher.polls.append(self.poll)

    def _requests_to_earlier_runs(self) -> set[str]:
        """Return the names of the requests that are there when the run is opened."""
        if self._is_asked:
            with contextlib.suppress(Exception):  # The first poll reports what is wrong.
                return set(request_files.names(self._place))
        return set()

    def poll(self, now: float | None = None) -> None:
        """Look for requests if that is due. It never raises.

        Args:
            now: the time of ``time.monotonic()``; by default it is read.
        """
        now = time.monotonic() if now is None else now
        if now < self._next_poll or not self._is_asked:
            return
        self._next_poll = now + POLL_SECS
        try:
            self._look()
        except Exception as fault:
            self._channel.lost.log_once(
                f"requests to the run cannot be read: {describe(fault)}", "Training continues."
            )

    def _look(self) -> None:
        self._pace.update(self._channel.step)
        names = request_files.names(self._place)
        for name in names:
            if name not in self._known:
                self._known.add(name)
                self._attempt(name, self._begin)
        for name in list(self._waiting):
            self._attempt(name, self._await_step)
        for name, action in list(self._acting.items()):
            answer = action.answer()
            if answer is not None:
                del self._acting[name]
                self._attempt(name, lambda name, a=answer: self._write(name, "answer", a))

    def close(self) -> None:
        """Answer what is still open, and report patterns that match nothing, because the run closes.

        Called when the flusher's thread has ended.
        """
        selection = self._channel.selection
        if selection is not None and rank().index == 0:
            selection.warn_of_unmatched(self._channel.name)
        for name, action in list(self._acting.items()):
            answer = action.answer() or action.cancelled()
            self._attempt(name, lambda name, a=answer: self._write(name, "answer", a))
        for name in list(self._waiting):
            answer = {"error": "the run was closed before the step"}
            self._attempt(name, lambda name, a=answer: self._write(name, "answer", a))
        self._acting.clear()
        self._waiting.clear()

    def _attempt(self, name: str, act: Callable[[str], object]) -> None:
        """Act on a request. A request that does not count is logged, and so is a fault."""
        try:
            act(name)
        except Refused as reason:
            self._waiting.pop(name, None)
            logger.warning(
                "jaxboard, run %s: the request %r is refused: %s.",
                self._channel.name,
                name,
                reason,
            )
            with contextlib.suppress(Exception):
                self._write(name, "answer", {"error": f"refused: {reason}"})
        except Exception as fault:
            self._waiting.pop(name, None)
            logger.warning(
                "jaxboard, run %s: the request %r failed: %s. Training continues.",
                self._channel.name,
                name,
                describe(fault),
            )
            with contextlib.suppress(Exception):
                self._write(name, "answer", {"error": describe(fault)})

    def _begin(self, name: str) -> None:
        with request_files.opened(self._place, name) as directory:
            request = parse_request(name, request_files.read(directory, REQUEST))
        step = self._channel.step
        rate = self._pace.steps_per_second
        self._write(
            name,
            "seen",
            {"step": step, "steps_per_second": rate, "counts_steps": self._channel.has_steps},
        )
        if not request.concerns(rank().index):
            return
        if request.verb in AT_A_STEP:
            self._waiting[name] = request
        else:
            self._acting[name] = begin(request, self._channel.step, self._context)

    def _await_step(self, name: str) -> None:
        with request_files.opened(self._place, name) as directory:
            try:
                step = parse_step(request_files.read(directory, STEP))
            except FileNotFoundError:
                return
        self._acting[name] = begin(self._waiting.pop(name), step, self._context)

    def _write(self, name: str, kind: str, contents: dict[str, Any]) -> None:
        own = rank()
        host, pid = socket.gethostname(), os.getpid()
        who = {"process": own.index, "processes": own.count, "host": host, "pid": pid}
        file = f"{kind}.p{own.index}-{host.replace('/', '_')[:100]}-{pid}.json"
        with request_files.opened(self._place, name) as directory:
            request_files.write(directory, file, {**who, **contents})
