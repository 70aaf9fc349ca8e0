"""The monitor of stacks: it draws the scalars of all layers of a report, over the steps, as one picture."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from jaxboard._host.column_history import ColumnHistory
from jaxboard._host.complete_points import Assembled, StackPoint
from jaxboard._host.picture_schedule import MAX_PICTURES, PictureSchedule
from jaxboard._reduce.stack_tags import picture_tag, place_names
from jaxboard.records import Kind, Record

_MAX_LAYERS = 512
"""Most layers of a picture, in which each has a row of at least one pixel."""


class _Layers:
    """The layers of one report.

    Attributes:
        schedule: when to draw their picture.
        history: two statistics of each layer: its value, and 1 if the value was not finite.
        places: the indices of each layer -> its position in the history, in the order of appearance.
        point: the last point.
    """

    def __init__(self, point: StackPoint, now: float):
        self.schedule = PictureSchedule(now)
        self.history = ColumnHistory(2, 0)
        self.places: dict[tuple[int, ...], int] = {}
        self.point = point
        # The places of the last point, and their positions in the history.
        self._last_places = np.zeros((0, 0), np.int64)
        self._rows: list[int] = []

    def add(self, point: StackPoint) -> None:
        """Add a point."""
        if not np.array_equal(point.stack.places, self._last_places):
            self._last_places = point.stack.places
            self._rows = [
                self.places.setdefault(tuple(place), len(self.places))
                for place in point.stack.places.tolist()
            ]
            self.history.append_layers(len(self.places) - self.history.num_layers)
        self.point, rows = point, self._rows
        row = np.full((2, len(self.places)), np.nan, np.float32)
        finite = np.isfinite(point.stack.values)
        with np.errstate(over="ignore"):
            row[0, rows] = np.where(finite, point.stack.values, np.nan)
        row[1, rows] = ~finite
        self.history.add(point.step, row)

    def picture(self) -> Record:
        """Return the picture of all layers in order."""
        # Imported only here: PIL takes a while.
        from jaxboard.sinks._layer_maps import LayerMap, layer_maps

        steps, values = self.history.columns
        places = sorted(self.places)
        shown, broken = values[:, :, [self.places[place] for place in places]].transpose(1, 2, 0)
        drawn = layer_maps(
            place_names(np.array(places)),
            steps.tolist(),
            [LayerMap.of_any(self.point.tag, shown)],
            broken > 0,
        )
        tag, at = picture_tag(self.point.tag), self.point
        return Record(Kind.IMAGE, tag, at.step, at.wall_time, drawn, at.run)


class StackMonitor:
    """Follows the layers of reports with ``reduce="stack"`` and ``{}`` in the tag. Used by one thread, the flusher.

    A report has a picture if it is among the first 16 of the run and has at most 512 layers.

    Attributes:
        found: always empty.
    """

    def __init__(self) -> None:
        self.found = set[str]()
        # None for reports without a picture.
        self._layers: dict[tuple[str, str], _Layers | None] = {}

    def start(self, settle: Callable[[float], object]) -> None:
        """Prepare for the first points; see :meth:`BatchMonitor.start`."""

    def observe(self, assembled: Assembled) -> list[Record]:
        """Return the pictures that are due."""
        pictures: list[Record] = []
        for point in assembled.stacks:
            layers = self._layers_of(point)
            # A point that was incomplete when it was first seen comes again, with the same step.
            if layers is None or (layers.history.count and layers.point.step == point.step):
                continue
            layers.add(point)
            if len(layers.places) > _MAX_LAYERS:
                self._layers[point.run, point.tag] = None
            elif layers.schedule.is_due(layers.history.count, time.monotonic()):
                pictures.append(layers.picture())
        return pictures

    def finish(self) -> list[Record]:
        """Return the last picture of each report."""
        return [
            layers.picture()
            for layers in self._layers.values()
            if layers is not None and layers.schedule.has_news(layers.history.count)
        ]

    def _layers_of(self, point: StackPoint) -> _Layers | None:
        key = point.run, point.tag
        if key not in self._layers and len(self._layers) < MAX_PICTURES:
            self._layers[key] = _Layers(point, time.monotonic())
        return self._layers.get(key)
