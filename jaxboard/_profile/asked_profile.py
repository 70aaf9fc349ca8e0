"""A profile that a request to the run asks for: ``python -m jaxboard ask LOGDIR profile``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxboard._control.actions import Answer, RunContext
from jaxboard._control.requests import Request
from jaxboard._errors import ProfileError
from jaxboard._profile.profile_settings import check_settings

if TYPE_CHECKING:
    from jaxboard._profile.profile_windows import ProfileWindows

_MAX_SECONDS = 600.0


class AskedProfile:
    """A profile of the next steps of a run, from a step on that all processes have agreed on.

    Args:
        request: the request.
        step: that step.
        context: the run.
    """

    def __init__(self, request: Request, step: int, context: RunContext):
        # Imported here, since most programs never make a profile.
        from jaxboard._profile.profile_windows import ProfileWindows
        from jaxboard._run.current import run_of

        channel = self._channel = context.channel
        first = max(step, channel.step)
        self._late = first > step
        self._steps = range(first, first + request.steps)
        settings = check_settings(
            steps=self._steps,
            logdir=context.logdir,
            # The same for all processes, and no other session has it.
            name=f"steps_{step}-{step + request.steps - 1}_{request.name[-4:]}",
            host_level=2,
            python=False,
            hlo=True,
            sync="auto",
            max_seconds=_MAX_SECONDS,
            on_error="raise",
            processes=None,
            every=None,
            every_secs=None,
            slow=None,
            advanced=None,
            nsys=False,
        )
        self._windows: ProfileWindows = ProfileWindows(settings, run_of(channel))
        self._windows.open()
        if not channel.settled:
            # A loop without an instrumented function, which sets the step of its run.
            self._windows.ignore_calls()
            channel.schedule(first, self._begin_step)

    def _begin_step(self, step: int) -> None:
        """End the last step, and begin another, on the thread that takes it."""
        self._windows.end_step(self)
        self._windows.begin_step(step, self)
        if step < self._steps.stop:
            self._channel.schedule(step + 1, self._begin_step)
        else:
            self._windows.end_step(self)

    def answer(self) -> Answer | None:
        """See :class:`jaxboard._control.actions.Action`."""
        return self._closed() if self._windows.is_finished else None

    def cancelled(self) -> Answer:
        """See :class:`jaxboard._control.actions.Action`."""
        if self._windows.is_recording:
            return {"error": "the run was closed during the profile"}
        return self._closed()

    def _closed(self) -> Answer:
        captured = self._windows.captured
        step = captured[0] if captured else self._steps[0]
        try:
            self._windows.close()
        except ProfileError as fault:
            return {"step": step, "late": self._late, "error": str(fault)}
        path = next(iter(self._windows.paths), None)
        count = len(captured)
        recorded = f"{count} step{'s' * (count != 1)} from step {step} on"
        done = f"profiled {recorded}"
        return {"step": step, "late": self._late, "done": done, "path": path}
