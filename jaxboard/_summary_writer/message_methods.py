"""The methods of a summary writer for graphs, whole arrays, and messages of TensorBoard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Never, cast

from jaxboard._emit import arguments
from jaxboard._emit.events import EventMessage, report_event
from jaxboard._errors import UsageError
from jaxboard._host.active_channel import Directed
from jaxboard._log import describe
from jaxboard._run.current import channel_of
from jaxboard._safe_repr import describe_object, safe_repr
from jaxboard._summary_writer.writer_base import GlobalStep, WriterBase
from jaxboard._types import Reportable


class MessageMethods(WriterBase):
    """Graphs, whole arrays, and messages of TensorBoard."""

    def add_graph(
        self,
        model: Callable[..., Any],
        input_to_model: object = None,
        verbose: bool = False,
        use_strict_trace: bool = True,
    ) -> None:
        """Report the operations of a function of JAX arrays; see :func:`jaxboard.graph`.

        Args:
            model: the function, for example ``lambda x: model.apply(params, x)``. It is traced, not run.
            input_to_model: its argument, or a list or tuple of its arguments.
            verbose: without effect.
            use_strict_trace: without effect.

        Raises:
            ReportError: JAX cannot trace ``model`` with these arguments.

        Example:
            >>> import tempfile, jax.numpy as jnp, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_graph(lambda x: jnp.tanh(x) + 1, jnp.ones(3))
        """
        del verbose, use_strict_trace
        inputs = () if input_to_model is None else input_to_model
        inputs = (
            tuple(cast("list[object]", inputs)) if isinstance(inputs, list | tuple) else (inputs,)
        )
        with self._at("graph", None):
            self.run.graph(model, *inputs)

    def add_onnx_graph(self, onnx_model_file: str) -> Never:
        """Raise an error: jaxboard shows only functions of JAX.

        Args:
            onnx_model_file: the file.

        Raises:
            UsageError: always; it names what to use.
        """
        _refuse_graph("add_onnx_graph", onnx_model_file)

    def add_openvino_graph(self, xmlname: str) -> Never:
        """Raise an error: jaxboard shows only functions of JAX.

        Args:
            xmlname: the file.

        Raises:
            UsageError: always; it names what to use.
        """
        _refuse_graph("add_openvino_graph", xmlname)

    def add_tensor(
        self,
        tag: str,
        tensor: Reportable,
        global_step: GlobalStep = None,
        walltime: float | None = None,
    ) -> None:
        """Report a whole array, which no dashboard of TensorBoard shows. This waits for the device.

        Args:
            tag: the name.
            tensor: an array of real numbers.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: ``tensor`` is not an array of real numbers, or an argument is invalid.

        Example:
            >>> import tempfile, numpy as np, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_tensor("matrix", np.eye(2), 0)
        """
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            run.tensor(tag, tensor, "tensor", step=cast("int", step))

    def add_event(
        self, event: EventMessage, step: GlobalStep = None, walltime: float | None = None
    ) -> None:
        """Write an ``Event`` message of TensorBoard.

        Args:
            event: the message, of TensorBoard, of TensorFlow or of tensorboardX.
            step: the step of the event, instead of its own.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: ``event`` is not an event, or an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> from tensorboard.compat.proto.event_pb2 import Event
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_event(Event(file_version="brain.Event:2"), step=3)
        """
        run = self.run
        step = self._default_step if step is None else step
        own = None if step is None else self._begin("add_event", step)[1]
        with self._at("add_event", walltime), Directed(channel_of(run)):
            report_event("add_event", event, step=cast("int | None", own))

    def add_summary(
        self, summary: object, global_step: GlobalStep = None, walltime: float | None = None
    ) -> None:
        """Write a ``Summary`` message of TensorBoard.

        Args:
            summary: the message, of TensorBoard, of TensorFlow or of tensorboardX.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: ``summary`` is not a summary, or an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> from tensorboard.compat.proto.summary_pb2 import Summary
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_summary(Summary(value=[Summary.Value(tag="a", simple_value=1.0)]), 3)
        """
        from jaxboard.sinks import _proto

        serialize = getattr(summary, "SerializeToString", None)
        if serialize is None or not hasattr(summary, "value"):
            got = describe_object(summary)
            raise arguments.report_error(
                "add_summary", f"expected a Summary of TensorBoard, got {got}."
            )
        try:
            event = _proto.Event(summary=_proto.Summary.FromString(serialize()))
        except Exception as error:
            raise arguments.report_error(
                "add_summary", f"the Summary cannot be read: {describe(error)}."
            ) from error
        self.add_event(event, self._begin("add_summary", global_step)[1], walltime)


def _refuse_graph(method: str, file: str) -> Never:
    raise UsageError(
        f"{method}({safe_repr(file)}): jaxboard shows functions of JAX. Use add_graph(function, inputs)."
    )
