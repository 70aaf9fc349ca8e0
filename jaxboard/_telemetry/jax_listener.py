"""Listeners of ``jax.monitoring``, and one that survives ``jax.monitoring.clear_event_listeners()``, which Tunix calls."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import jax

_PROBE = "/jaxboard/are_listeners_registered"
"""An event that shows whether a listener is registered: JAX has no public list of them."""

# JAX passes the name and the values of an event by position, and its labels, which may have any name, by keyword. Its types
# do not allow parameters that are positional only.
_monitoring: Any = jax.monitoring

_FUNCTIONS = (
    (_monitoring.register_event_listener, _monitoring.unregister_event_listener),
    (
        _monitoring.register_event_duration_secs_listener,
        _monitoring.unregister_event_duration_listener,
    ),
    (_monitoring.register_scalar_listener, _monitoring.unregister_scalar_listener),
    (
        _monitoring.register_event_time_span_listener,
        _monitoring.unregister_event_time_span_listener,
    ),
)
"""The functions of JAX that register and unregister each of the fields of :class:`Listeners`."""


class Listeners(NamedTuple):
    """The functions that JAX calls with events of each kind; None for kinds that are not needed."""

    event: Callable[..., None] | None = None
    duration: Callable[..., None] | None = None
    scalar: Callable[..., None] | None = None
    time_span: Callable[..., None] | None = None

    def register(self) -> None:
        """Listen to JAX."""
        for (register, _), listener in zip(_FUNCTIONS, self, strict=True):
            if listener is not None:
                register(listener)

    def unregister(self) -> None:
        """Stop listening. ``clear_event_listeners()`` may have removed any of the functions already."""
        for (_, unregister), listener in zip(_FUNCTIONS, self, strict=True):
            if listener is not None:
                with contextlib.suppress(Exception):
                    unregister(listener)


class JaxListener:
    """A listener of events and durations. Subclasses override the hooks that they need.

    The hooks run on the thread that emits. An exception in a hook would propagate into the user's call.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._is_started = False
        self._received_probe = False

    def on_event(self, event: str) -> None:
        """Handle an event."""

    def on_duration(self, event: str, seconds: float, labels: dict[str, Any]) -> None:
        """Handle an event that took some seconds."""

    def start(self) -> None:
        """Listen to JAX."""
        with self._lock:
            self._is_started = True
            self._listeners.register()

    def stop(self) -> None:
        """Stop listening."""
        with self._lock:
            self._is_started = False
            self._listeners.unregister()

    def restore(self) -> None:
        """Register again if ``jax.monitoring.clear_event_listeners()`` has removed the listener. It never raises."""
        with self._lock, contextlib.suppress(Exception):  # Another listener may raise.
            if not self._is_started:
                return
            self._received_probe = False
            jax.monitoring.record_event_time_span(_PROBE, 0.0, 0.0)
            if not self._received_probe:
                self._listeners.unregister()
                self._listeners.register()

    @property
    def _listeners(self) -> Listeners:
        # An attribute would be a reference cycle. Programs seldom listen to time spans, so the probe disturbs none.
        return Listeners(
            event=self._receive_event,
            duration=self._receive_duration,
            time_span=self._receive_time_span,
        )

    def _receive_event(self, event: str, /, **_: Any) -> None:
        self.on_event(event)

    def _receive_duration(self, event: str, seconds: float, /, **labels: Any) -> None:
        self.on_duration(event, seconds, labels)

    def _receive_time_span(self, event: str, began: float, ended: float, /, **_: Any) -> None:
        self._received_probe = self._received_probe or event == _PROBE
