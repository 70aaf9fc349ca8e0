"""The sink that writes to a run of Trackio. Requires ``pip install 'jaxboard-tb[trackio]'``."""

from __future__ import annotations

from jaxboard.records import Kind, Record
from jaxboard.sinks._tracker import TrackerSink
from jaxboard.sinks._tracker_values import Rows, chart, media


class TrackioSink(TrackerSink):
    """A sink that writes to a run of Trackio.

    It shows scalars, histograms, images, sounds, videos, texts and tables. The time of a point is when Trackio stores it, within
    a second of the flush. Tags of a child run or a seed run begin with its name: ``seed_3/loss``.

    Args:
        run: the run that ``trackio.init`` returned. It stays open when the sink is closed.
        timeout: the longest time that a flush waits for Trackio, in seconds. After that, reports stay pending.

    Raises:
        UsageError: Trackio is not installed, or an argument is invalid.
    """

    library = "trackio"
    run_type = "Run"
    kinds = frozenset({Kind.HISTOGRAM, Kind.IMAGE, Kind.AUDIO, Kind.VIDEO, Kind.TEXT})

    def _log_scalars(self, names: list[str], rows: Rows) -> None:
        for step, _, values in rows:
            self._run.log(dict(zip(names, values, strict=True)), step=step)

    def _log(self, name: str, record: Record, paths: list[str]) -> None:
        if paths:
            values = media(self._library, record.kind, paths)
        elif isinstance(record.value, str):
            values = [self._library.Markdown(record.value)]
        else:
            values = [chart(self._library, record)]
        names = [f"{name}/{index}" for index in range(len(values))] if len(values) > 1 else [name]
        self._log_scalars(names, [(record.step, record.wall_time, values)])
