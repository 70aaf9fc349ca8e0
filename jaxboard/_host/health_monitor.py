"""The monitor of the health of layers: it draws the picture of them, and reports those that die, explode or drift."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from jaxboard._host import seed_runs
from jaxboard._host.complete_points import Assembled, HealthPoint
from jaxboard._host.dead_layers import DeadLayerFinder, DeadLayers
from jaxboard._host.layer_history import LayerHistory
from jaxboard._host.layer_trends import EXPLOSIONS, TrendFinding, find_trends
from jaxboard._host.picture_schedule import MAX_PICTURES, PictureSchedule
from jaxboard._log import logger
from jaxboard._reduce.layer_health import STATISTICS
from jaxboard._safe_repr import first_names, printable
from jaxboard.records import EncodedImage, Kind, Record

TAG = "jaxboard/health"
"""The tag of the text entries."""

_MAX_NAMES = 8
"""Most layers that one sentence lists."""


class _Model:
    """The layers of one report, and what was found in them.

    Attributes:
        tag: the tag of the report.
        run: its run.
        history: the statistics of the layers.
        dead: finds dead layers.
        schedule: when to draw its picture; None if it has none.
        step: the last step.
        wall_time: its time, in seconds since the epoch.
    """

    def __init__(self, point: HealthPoint, schedule: PictureSchedule | None):
        layers = point.health.table.layers
        self.tag = point.tag
        self.run = point.run
        self.history = LayerHistory(layers)
        self.dead = DeadLayerFinder(layers)
        self.schedule = schedule
        self.step = point.step
        self.wall_time = point.wall_time


class HealthMonitor:
    """Follows the layers of each report of :func:`jaxboard.health`. Used by one thread, the flusher.

    Args:
        run: the name of the run, for messages.
        found: see below.

    Attributes:
        found: the findings that are not reported again.
    """

    def __init__(self, run: str, found: Iterable[str] = ()):
        self.found = set(found)
        self._name = run
        self._models: dict[tuple[str, str], _Model] = {}

    def start(self, settle: Callable[[float], object]) -> None:
        """Prepare for the first points; see :meth:`BatchMonitor.start`."""

    def observe(self, assembled: Assembled) -> list[Record]:
        """Return the sentences about these points, and pictures that are due."""
        records: list[Record] = []
        for point in assembled.health:
            if not seed_runs.is_summary(point.run):
                records += self._observe(point)
        return records

    def finish(self) -> list[Record]:
        """Return the last picture of each report."""
        return [
            _picture(model)
            for model in self._models.values()
            if model.schedule is not None and model.schedule.has_news(model.history.count)
        ]

    def _observe(self, point: HealthPoint) -> list[Record]:
        now = time.monotonic()
        model = self._models.get((point.run, point.tag))
        if model is None or model.history.layers != point.health.table.layers:
            schedule = PictureSchedule(now) if len(self._models) < MAX_PICTURES else None
            model = self._models[point.run, point.tag] = _Model(point, schedule)
        elif point.step == model.step:  # The rest of a point that was seen when it was incomplete.
            return []
        model.step, model.wall_time = point.step, point.wall_time
        model.history.add(point.step, point.health.of_layers())
        records = [self._entry(model, sentence) for sentence in self._sentences(model, point)]
        if model.schedule is not None and model.schedule.is_due(model.history.count, now):
            records.append(_picture(model))
        return records

    def _sentences(self, model: _Model, point: HealthPoint) -> list[str]:
        sentences: list[str] = []
        if point.health.nonfinite.any():  # The other monitor names these.
            return sentences
        for dead in model.dead.observe(point.step, point.health):
            if self._is_new(model, f"dies {dead.layers}"):
                sentences.append(_dead_sentence(dead))
                # A layer that never had a gradient may be frozen on purpose.
                if not dead.from_start or dead.has_successor or dead.is_everything:
                    self._warn(model, sentences[-1])
        for trend in find_trends(model.history, point.health.table.layer_sizes[0]):
            explodes = any(self._is_known(model, f"{name} {trend.layer}") for name in EXPLOSIONS)
            if not explodes and self._is_new(model, f"{trend.trend} {trend.layer}"):
                sentences.append(_trend_sentence(trend, point.step))
                self._warn(model, sentences[-1])
        return sentences

    def _is_new(self, model: _Model, finding: str) -> bool:
        """Return whether something was not found before, and note it."""
        is_new = not self._is_known(model, finding)
        self.found.add(_key(model, finding))
        return is_new

    def _is_known(self, model: _Model, finding: str) -> bool:
        return _key(model, finding) in self.found

    def _warn(self, model: _Model, sentence: str) -> None:
        where = f"{model.tag} of {model.run}" if model.run else model.tag
        logger.warning(
            "jaxboard, run %s, %s: %s", self._name, printable(where), printable(sentence)
        )

    def _entry(self, model: _Model, sentence: str) -> Record:
        text = f"**{model.tag}**, step {model.step}: {sentence}"
        return Record(Kind.TEXT, TAG, model.step, time.time(), text, model.run)


def _key(model: _Model, finding: str) -> str:
    return f"health: {model.run} {model.tag} {finding}"


def _dead_sentence(dead: DeadLayers) -> str:
    since = f"since step {dead.step}"
    if dead.from_start:
        since = f"since the first report, at step {dead.step}"
    if dead.is_everything and not dead.has_successor:
        return f"No layer has a gradient {since}. The loss does not depend on the parameters."
    others = tuple(layer for layer in dead.layers if layer not in dead.causes)
    reason = " It outputs only zeros." if dead.has_successor else ""
    if len(dead.causes) > 1:
        text = f"Layers {_listed(dead.layers)} have no gradient {since}."
        if dead.has_successor:
            text += f" The first of {_listed(dead.causes)} that outputs only zeros is dead. Pass activations= to see which."
        return text
    cause = next(iter(dead.causes))
    if dead.from_start and not dead.has_successor:
        text = f"Layer `{cause}` has had no gradient {since}. It is frozen, or the loss does not depend on it."
    else:
        text = f"Layer `{cause}` is dead: its gradient has been zero everywhere {since}.{reason}"
    verb = "have" if len(others) > 1 else "has"
    return f"{text} {_listed(others)} {verb} no gradient either." if others else text


def _trend_sentence(found: TrendFinding, step: int) -> str:
    layer, since = f"Layer `{found.layer}`", found.first_step
    change = f"from {found.first:.3g} at step {since} to {found.last:.3g} at step {step}"
    others = _others(found.others)
    match found.trend:
        case "weights explode":
            return f"{layer} explodes: the RMS of its weights grew {change}{others}."
        case "gradient explodes":
            return f"{layer} explodes: the norm of its gradient grew {change}{others}."
        case "weights drift":
            return f"{layer} drifts: the RMS of its weights moved steadily {change}{others}."
        case "updates are too large":
            return (
                f"{layer} changes too fast: since step {since}, each update has been {found.first:.2g} to {found.last:.2g} of "
                f"its norm. The median of the other layers is {found.others:.2g}."
            )


def _others(factor: float) -> str:
    return "" if factor != factor else f"; that of the median layer changed {factor:.3g}-fold"  # noqa: PLR0124 (NaN)


def _listed(names: tuple[str, ...]) -> str:
    return first_names([f"`{name}`" for name in names], _MAX_NAMES)


def _picture(model: _Model) -> Record:
    # Imported only here: PIL takes a while.
    from jaxboard.sinks._layer_maps import LayerMap, layer_maps

    steps, values = model.history.columns
    by_name = {name: values[:, row].T for row, name in enumerate(STATISTICS)}
    maps = [
        LayerMap("update / weight", by_name["ratio"], True),
        LayerMap("gradient norm", by_name["gradient_norm"], True),
        LayerMap("gradient elements that are zero", by_name["zeros"], False),
        LayerMap("weights, RMS", by_name["rms"], True),
        LayerMap("activations that are zero", by_name["activation_zeros"], False),
        LayerMap("activations, RMS", by_name["activation_rms"], True),
    ]
    broken = by_name["nonfinite"] > 0
    picture: EncodedImage = layer_maps(model.history.layers, steps.tolist(), maps, broken)
    tag = f"{model.tag}/layers"
    return Record(Kind.IMAGE, tag, model.step, model.wall_time, picture, model.run)
