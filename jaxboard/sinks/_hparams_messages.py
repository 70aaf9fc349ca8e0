"""The messages of the HParams dashboard."""

from __future__ import annotations

import math
import numbers
from typing import Protocol, cast

import numpy as np

from jaxboard.records import MetricGoals, Record, flatten
from jaxboard.sinks import _proto


def session_start(record: Record) -> _proto.Message:
    """Return the hyperparameters of a run."""
    info = _proto.hparams_data.SessionStartInfo(start_time_secs=record.wall_time)
    for name, value in flatten(record.value).items():
        _set_hparam(info.hparams[name], value)
    data = _proto.hparams_data.HParamsPluginData(session_start_info=info)
    return _value(_proto.hparams.SESSION_START_INFO_TAG, data)


def session_end(wall_time: float, *, failed: bool) -> _proto.Message:
    """Return the mark of a run that has ended."""
    api = _proto.hparams_api
    info = _proto.hparams_data.SessionEndInfo(
        status=api.STATUS_FAILURE if failed else api.STATUS_SUCCESS, end_time_secs=wall_time
    )
    data = _proto.hparams_data.HParamsPluginData(session_end_info=info)
    return _value(_proto.hparams.SESSION_END_INFO_TAG, data)


def metrics(record: Record) -> _proto.Message:
    """Return the columns of the dashboard. It has no goals, so the descriptions state them."""
    value: MetricGoals = record.value
    api = _proto.hparams_api
    experiment = api.Experiment(time_created_secs=record.wall_time)
    for name, number in flatten(value.hparams).items():
        start = _proto.hparams_data.SessionStartInfo()
        _set_hparam(start.hparams[name], number)
        kind = start.hparams[name].WhichOneof("kind")
        data_type = {"bool_value": api.DATA_TYPE_BOOL, "number_value": api.DATA_TYPE_FLOAT64}
        experiment.hparam_infos.add(name=name, type=data_type.get(kind, api.DATA_TYPE_STRING))
    for tag, goal in value.goals.items():
        description = {"min": "Smaller is better.", "max": "Larger is better."}[goal]
        experiment.metric_infos.add(name=api.MetricName(tag=tag), description=description)
    data = _proto.hparams_data.HParamsPluginData(experiment=experiment)
    return _value(_proto.hparams.EXPERIMENT_TAG, data)


class _HParam(Protocol):
    """``google.protobuf.Value``, as far as it is used here."""

    bool_value: bool
    number_value: float
    string_value: str


def _set_hparam(field: _HParam, value: object) -> None:
    """Store booleans and finite numbers as such, everything else as text, the dashboard's third type."""
    number: object = (
        cast("np.generic[object]", value).item() if isinstance(value, np.generic) else value
    )
    if isinstance(number, bool):  # Before the numbers: a bool is an int.
        field.bool_value = number
    elif isinstance(number, numbers.Real) and math.isfinite(number):
        field.number_value = float(number)
    else:
        field.string_value = str(number)


def _value(tag: str, data: _proto.Message) -> _proto.Message:
    metadata = _proto.hparams.create_summary_metadata(data)
    return _proto.Summary.Value(tag=tag, metadata=metadata, tensor=_proto.hparams.NULL_TENSOR)
