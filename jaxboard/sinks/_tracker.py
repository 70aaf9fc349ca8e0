"""The base class of the sinks that write to experiment trackers: wandb, MLflow and Trackio."""

from __future__ import annotations

import importlib
import operator
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from jaxboard._check import positive_number
from jaxboard._errors import UsageError
from jaxboard._log import describe, logger
from jaxboard._safe_repr import safe_repr
from jaxboard.records import Batch, Kind, Record, Scalars, size_of
from jaxboard.sinks._lost import LostRecords
from jaxboard.sinks._protocol import Sink
from jaxboard.sinks._tracker_values import Rows, files, rows, separated


class TrackerSink(Sink):
    """Base class of the sinks that pass records to a library that may be slow or hang.

    ``flush`` sends the records in a separate thread and waits for it for a limited time, so that the other sinks of the
    run are not delayed. A record that was sent is not sent again when the run writes it again.

    A subclass implements :meth:`_log_scalars` and :meth:`_log`. Records of a kind that is not in :attr:`kinds` are left
    out, with one warning for each kind.

    Args:
        run: the run of the library.
        timeout: the longest time that a flush waits for the library, in seconds.

    Raises:
        UsageError: the library is not installed, ``run`` is not a run of it, or ``timeout`` is not a number above 0.
    """

    library: ClassVar[str]
    """The name of the package to import, which is also the name of the extra."""
    run_type: ClassVar[str]
    """The class of a run in that package."""
    kinds: ClassVar[frozenset[Kind]]
    """The kinds of records that the library can show, except scalars."""

    def __init__(self, run: Any, *, timeout: float = 5.0) -> None:
        name = type(self).__name__
        self._timeout = positive_number(name, "timeout", timeout)
        self._library, run_class = _imported(type(self))
        if not isinstance(run, run_class):
            raise UsageError(
                f"{name}({safe_repr(run)}): expected a run of {self.library}, "
                f"an instance of {self.library}.{self.run_type}."
            )
        self._run = run
        self._pending: Batch = []
        # By identity: the run writes the same objects again after a fault.
        self._sent: dict[int, Record | Scalars] = {}
        self._sender: _Sender | None = None
        self._lost = LostRecords()
        self._left_out: set[Kind] = set()

    def write(self, batch: Batch) -> None:
        """Queue a batch for the next flush."""
        self._pending += batch

    def flush(self) -> None:
        """Send everything written so far to the library.

        Raises:
            TimeoutError: the library did not accept it in time. The thread continues, and the next flush waits for it.
            Exception: an error of the library.
        """
        deadline = time.monotonic() + self._timeout
        pending, self._pending = self._pending, []
        self._wait(deadline)  # for the thread of an earlier flush
        if pending:
            self._sender = _Sender(self.library, self._send, pending, self._sent)
            self._sender.start()
            self._wait(deadline)
        for item in pending:
            self._sent.pop(id(item), None)
        self._lost.confirm()

    def take_lost(self) -> Mapping[str, int]:
        """Return how many records the library could not show since the last call, by reason."""
        return self._lost.take()

    def close(self) -> None:
        """Flush. The run of the library stays open: close it where it was opened."""
        self.flush()

    def _log_scalars(self, names: list[str], rows: Rows) -> None:
        """Send rows of scalars, with a column for each name."""
        raise NotImplementedError

    def _log(self, name: str, record: Record, paths: list[str]) -> None:
        """Send a record of another kind. ``paths`` are its images, sounds or videos, as files that exist during the call."""
        raise NotImplementedError

    def _name(self, run: str, tag: str) -> str:
        """Return the name of a tag. For a child run or a seed run, it begins with the name of that run."""
        return f"{run}/{tag}" if run else tag

    def _send(self, item: Record | Scalars) -> None:
        """Send a record. If the fault is its own, count it as lost."""
        try:
            self._send_item(item)
        except Exception as error:
            if self._is_machine_fault(error):
                raise
            parts = separated(item)
            if len(parts) > 1:
                for part in parts:  # Only the part at fault is lost.
                    self._send(part)
                return
            tag = item.tag if isinstance(item, Record) else item.tags
            self._lost.add(tag, size_of([item]), describe(error))

    def _send_item(self, item: Record | Scalars) -> None:
        if isinstance(item, Scalars):
            self._log_scalars([self._name(item.run, tag) for tag in item.tags], rows(item))
            return
        name = self._name(item.run, item.tag)
        if item.kind is Kind.SCALAR:
            self._log_scalars([name], [(item.step, item.wall_time, [float(item.value)])])
        elif item.kind in self.kinds:
            with tempfile.TemporaryDirectory() as folder:
                self._log(name, item, files(item, folder))
        elif item.kind not in self._left_out:
            self._left_out.add(item.kind)
            logger.warning(
                "jaxboard: %s leaves out %s reports, such as %r: only event files can hold them.",
                *(type(self).__name__, item.kind.value, item.tag),
            )

    def _is_machine_fault(self, error: Exception) -> bool:
        """Return whether a later attempt may succeed. Any other error is a fault of the record, which is then lost."""
        return isinstance(error, OSError)

    def _wait(self, deadline: float) -> None:
        if self._sender is None:
            return
        if not self._sender.wait(max(0.0, deadline - time.monotonic())):
            raise TimeoutError(
                f"{self.library} has not accepted the reports within {self._timeout:g} s. Is its server slow or unreachable?"
            )
        fault, self._sender = self._sender.fault, None
        if fault is not None:
            raise fault


class _Sender:
    """A thread that sends records until one fails.

    Attributes:
        fault: the exception that ended it; None if there was none.
    """

    def __init__(
        self,
        library: str,
        send: Callable[[Record | Scalars], None],
        items: Batch,
        sent: dict[int, Record | Scalars],
    ) -> None:
        self.fault: BaseException | None = None
        self._send = send
        self._items = items
        self._sent = sent
        self._thread = threading.Thread(
            target=self._run, name=f"jaxboard tracker ({library})", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        try:
            self._thread.start()
        except RuntimeError:  # The interpreter is shutting down and starts no threads.
            self._run()

    def wait(self, timeout: float) -> bool:
        """Return whether the thread has ended within ``timeout`` seconds."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            for item in self._items:
                if id(item) not in self._sent:
                    self._send(item)
                    self._sent[id(item)] = item
        except BaseException as fault:
            self.fault = fault


def _imported(sink: type[TrackerSink]) -> tuple[Any, type]:
    """Import the library of a sink, and return it and the class of its runs."""
    try:
        library = importlib.import_module(sink.library)
        return library, operator.attrgetter(sink.run_type)(library)
    except ModuleNotFoundError as error:
        if error.name != sink.library:
            raise
    except AttributeError:  # A folder of that name was imported as an empty package.
        pass
    raise UsageError(
        f"{sink.__name__} needs {sink.library}, which is not installed. "
        f"Install it with: pip install 'jaxboard-tb[{sink.library}]'"
    )
