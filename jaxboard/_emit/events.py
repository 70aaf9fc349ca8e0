"""A message of TensorBoard, written as it is."""

from __future__ import annotations

from typing import Protocol, cast

from jaxboard._emit import arguments
from jaxboard._emit.reporting import report_record
from jaxboard._safe_repr import describe_object
from jaxboard.records import Kind


class EventMessage(Protocol):
    """An ``Event`` of TensorBoard, of TensorFlow or of tensorboardX, as far as it is used here."""

    step: int

    def SerializeToString(self) -> bytes:  # noqa: N802 (protobuf's name)
        """Return the message in wire format."""
        ...


def report_event(name: str, event: object, *, step: int | None) -> None:
    """Report a message. Only for plain Python.

    Args:
        name: the function that the user called, for messages.
        event: an ``Event``.
        step: the step of the event, instead of its own.

    Raises:
        ReportError: JAX is tracing, or ``event`` is no event.
    """
    if not hasattr(event, "SerializeToString") or not hasattr(event, "file_version"):
        raise arguments.report_error(
            name, f"expected an Event of TensorBoard, got {describe_object(event)}."
        )
    message = cast("EventMessage", event)
    report_record(
        name,
        Kind.EVENT,
        "",
        message.SerializeToString,
        step=message.step if step is None else step,
        every=1,
    )
