"""The sink that writes to a run of MLflow. Requires ``pip install 'jaxboard-tb[mlflow]'``."""

from __future__ import annotations

from typing import Any

from jaxboard._markdown import table
from jaxboard.records import Kind, Record, flatten
from jaxboard.sinks._mlflow_values import image_options, is_refusal, metric_name, metrics
from jaxboard.sinks._tracker import TrackerSink
from jaxboard.sinks._tracker_values import Rows


class MLflowSink(TrackerSink):
    """A sink that writes to a run of MLflow.

    It shows scalars, images and hyperparameters. Sounds, videos, texts and tables are artifacts of the run. Tags of a child
    run or a seed run begin with its name: ``seed_3/loss``. Characters that MLflow does not allow in a name become ``_``.

    Args:
        run: the run that ``mlflow.start_run`` or ``MlflowClient.create_run`` returned. It stays open when the sink is closed.
        timeout: the longest time that a flush waits for MLflow, in seconds. After that, reports stay pending.

    Raises:
        UsageError: MLflow is not installed, or an argument is invalid.
    """

    library = "mlflow"
    run_type = "entities.Run"
    kinds = frozenset({Kind.IMAGE, Kind.AUDIO, Kind.VIDEO, Kind.TEXT, Kind.HPARAMS})

    def __init__(self, run: Any, *, timeout: float = 5.0) -> None:
        super().__init__(run, timeout=timeout)
        self._client = self._library.MlflowClient()
        self._id: str = run.info.run_id

    def _log_scalars(self, names: list[str], rows: Rows) -> None:
        for part in metrics(self._library.entities.Metric, names, rows):
            self._client.log_batch(self._id, metrics=part, synchronous=True)

    def _log(self, name: str, record: Record, paths: list[str]) -> None:
        if record.kind is Kind.HPARAMS:
            for parameter, value in flatten(record.value).items():
                self._client.log_param(self._id, metric_name(parameter), value)
        elif record.kind is Kind.TEXT:
            text = record.value if isinstance(record.value, str) else table(record.value)
            self._client.log_text(self._id, text, f"text/{name}/step_{record.step}.md")
        for path in paths:
            if record.kind is Kind.IMAGE:
                image = self._library.Image(path)
                self._client.log_image(self._id, image, **image_options(name, record))
            else:
                self._client.log_artifact(self._id, path, f"{record.kind.value}/{name}")

    def _name(self, run: str, tag: str) -> str:
        return metric_name(super()._name(run, tag))

    def _is_machine_fault(self, error: Exception) -> bool:
        return super()._is_machine_fault(error) or not is_refusal(error)
