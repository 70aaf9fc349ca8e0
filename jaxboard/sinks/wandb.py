"""The sink that writes to a run of wandb. Requires ``pip install 'jaxboard-tb[wandb]'``."""

from __future__ import annotations

import functools
import html
from typing import Any

from jaxboard.records import Kind, Record, flatten
from jaxboard.sinks._tracker import TrackerSink
from jaxboard.sinks._tracker_values import Rows, chart, media

_STEP = "jaxboard/step"
"""The x-axis of the charts. wandb's own step only increases, and wandb drops a value of an earlier step."""


class WandbSink(TrackerSink):
    """A sink that writes to a run of wandb.

    It shows scalars, histograms, images, sounds, videos, texts, tables and hyperparameters. Their x-axis is the metric
    ``jaxboard/step``, so steps may be in any order. Tags of a child run or a seed run begin with its name: ``seed_3/loss``.

    Args:
        run: the run that ``wandb.init`` returned. It stays open when the sink is closed.
        timeout: the longest time that a flush waits for wandb, in seconds. After that, reports stay pending.

    Raises:
        UsageError: wandb is not installed, or an argument is invalid.
    """

    library = "wandb"
    run_type = "Run"
    kinds = frozenset({Kind.HISTOGRAM, Kind.IMAGE, Kind.AUDIO, Kind.VIDEO, Kind.TEXT, Kind.HPARAMS})

    def __init__(self, run: Any, *, timeout: float = 5.0) -> None:
        super().__init__(run, timeout=timeout)
        self._define = functools.cache(functools.partial(run.define_metric, step_metric=_STEP))

    def _log_scalars(self, names: list[str], rows: Rows) -> None:
        self._define(_STEP, step_metric=None, hidden=True)
        for name in names:
            self._define(name)
        for step, wall_time, values in rows:
            point = dict(zip(names, values, strict=True))
            self._run.log(point | {_STEP: step, "_timestamp": wall_time})
        # It returns once wandb's own process has everything before it.
        self._run.summary.get(_STEP)

    def _log(self, name: str, record: Record, paths: list[str]) -> None:
        if record.kind is Kind.HPARAMS:
            self._run.config.update(flatten(record.value), allow_val_change=True)
            return
        if paths:
            value: Any = media(self._library, record.kind, paths)
        elif isinstance(record.value, str):
            value = self._library.Html(f"<pre>{html.escape(record.value)}</pre>")
        else:
            value = chart(self._library, record)
        self._log_scalars([name], [(record.step, record.wall_time, [value])])
