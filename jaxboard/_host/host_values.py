"""The separation of the values of one process from those of the whole job: ``Run(processes="all")``."""

from __future__ import annotations

from jaxboard._frame import Frame, Number, Observation
from jaxboard._host.channel import Destination
from jaxboard._host.channel_below import PathPrefix
from jaxboard.records import Kind, Record

_OF_THE_JOB = (Kind.HPARAMS, Kind.METRICS, Kind.LAYOUT, Kind.GRAPH)
"""Records that describe the program, which is the same in all processes."""


class HostValues:
    """Puts frames in the buffer of a run as they are, and values of plain Python as reports of a run below it.

    Args:
        destination: the buffer.
        run: the name of the run below; "" if the buffer belongs to a process that writes only that run.
    """

    def __init__(self, destination: Destination, run: str):
        self._put = destination.put
        self._put_host_value = PathPrefix(destination, run).put if run else destination.put
        self._is_main = bool(run)
        self.put_call = destination.put_call

    def put(self, item: Frame | Number | Observation | Record, may_wait: bool = True) -> None:
        """Append an item; see :meth:`Buffer.put`."""
        if isinstance(item, Record) and item.kind in _OF_THE_JOB:
            if self._is_main:
                self._put(item, may_wait)
        elif isinstance(item, Frame):
            self._put(item, may_wait)
        else:
            self._put_host_value(item, may_wait)
