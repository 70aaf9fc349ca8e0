"""The actions of a process for a request. Each action begins on the flusher's thread and answers later."""

from __future__ import annotations

import importlib
import os
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeAlias

import jax

from jaxboard._control.requests import Request
from jaxboard._host.channel import Channel
from jaxboard._host.flush_request import FlushRequest
from jaxboard._host.selection import Selection
from jaxboard._process.rank import rank
from jaxboard._telemetry.device_memory import live_bytes, select_stats

Answer: TypeAlias = dict[str, Any]
"""An answer, as JSON: ``step``, ``done`` (a sentence), and ``path`` or ``text`` where there is one; or ``error``."""


class RunContext(NamedTuple):
    """The parts of a run that actions use.

    Attributes:
        logdir: the log directory of the run.
        channel: the channel of the run.
        request_flush: asks the flusher to write what is there.
    """

    logdir: str
    channel: Channel
    request_flush: Callable[[], FlushRequest]


class Action(Protocol):
    """Something that was begun for a request."""

    def answer(self) -> Answer | None:
        """Return the answer, None until there is one."""
        ...

    def cancelled(self) -> Answer:
        """Give up, because the run closes, and return the answer."""
        ...


class _Done:
    """An action that is complete."""

    def __init__(self, answer: Answer):
        self._answer = answer

    def answer(self) -> Answer | None:
        return self._answer

    def cancelled(self) -> Answer:
        return self._answer


_PROFILE = "jaxboard._profile.asked_profile"
"""The module with the class ``AskedProfile``. It builds on runs, so only its name is known here."""


def begin(request: Request, step: int, context: RunContext) -> Action:
    """Begin to act on a request.

    Args:
        request: the request.
        step: the step at which all processes act, if it is one of ``AT_A_STEP``.
        context: the run.
    """
    if request.verb == "profile":
        return importlib.import_module(_PROFILE).AskedProfile(request, step, context)
    if request.verb == "every":
        return _Cadences(request, step, context.channel)
    if request.verb == "stacks":
        return _Done(
            {"step": context.channel.current, "done": "stacks of all threads", "text": stacks()}
        )
    if request.verb == "memory":
        return _Done(_memory(context))
    return _Flush(context)


class _Cadences:
    """A change of cadences, which the training thread makes when it reaches the step."""

    def __init__(self, request: Request, step: int, channel: Channel):
        self._request = request
        self._asked = step
        self._channel = channel
        self._changed_at: int | None = None
        if channel.has_steps:
            # A step that has passed is followed by the next one.
            channel.schedule(step, self._change)
        else:
            # Nothing is accumulated, so there is nothing to hand over.
            self._change(channel.current)

    def _change(self, step: int) -> None:
        selection = (self._channel.selection or Selection({})).including(self._request.cadences)
        self._channel.select(selection)
        self._changed_at = step

    def answer(self) -> Answer | None:
        step = self._changed_at
        if step is None:
            return None
        late = step > self._asked and self._channel.has_steps
        changes = ", ".join(
            f"{pattern}={_text(choice)}" for pattern, choice in self._request.cadences
        )
        return {"step": step, "late": late, "done": f"cadences from step {step} on: {changes}"}

    def cancelled(self) -> Answer:
        return {"error": f"the run was closed before step {self._asked}"}


def _text(choice: object) -> str:
    return "off" if choice is None else str(choice)


class _Flush:
    """A flush, which the flusher makes in its next turn."""

    def __init__(self, context: RunContext):
        self._step = context.channel.current
        self._request = context.request_flush()

    def answer(self) -> Answer | None:
        if not self._request.is_done:
            return None
        if self._request.faults:
            faults = "; ".join(map(str, self._request.faults))
            return {"step": self._step, "error": f"{self._request.pending} pending: {faults}"}
        return {"step": self._step, "done": "everything that the device has computed is written"}

    def cancelled(self) -> Answer:
        return {"step": self._step, "done": "the run was closed, which writes everything"}


def stacks() -> str:
    """Return the stacks of all threads of this process, as text."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    main = threading.main_thread().ident
    # The documented way to see other threads.
    frames = sys._current_frames().items()  # noqa: SLF001
    parts = []
    for ident, frame in sorted(frames, key=lambda each: each[0] != main):
        lines = "".join(traceback.format_stack(frame))
        parts.append(f"Thread {names.get(ident, ident)!r}:\n{lines}")
    return "\n".join(parts)


def _memory(context: RunContext) -> Answer:
    """Return what the local devices hold, and write a profile for pprof."""
    channel = context.channel
    step = channel.current
    if not (channel.settled or jax.distributed.is_initialized()):
        # The question must not start JAX's backends.
        return {"step": step, "error": "no instrumented function was called yet"}
    live = live_bytes()
    devices = {
        f"{device.platform}_{device.id}": {
            "live_bytes": live.get(device.id, 0),
            **select_stats(device.memory_stats() or {}),
        }
        for device in jax.local_devices()
    }
    path = os.path.join(context.logdir, f"memory_{step}_p{rank().index}.prof")
    part = f"{path}.part"
    with open(part, "wb") as file:
        file.write(jax.profiler.device_memory_profile())
    os.replace(part, path)
    sizes = ", ".join(
        f"{name}: {max(values.get('in_use_bytes', 0), values['live_bytes']):,} bytes"
        for name, values in devices.items()
    )
    return {"step": step, "done": f"memory in use: {sizes}", "path": path, "devices": devices}
