"""The messages of curves over thresholds, confusion matrices, layouts, and tensors of other plugins."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from jaxboard.records import ConfusionMatrix, Margin, PluginTensor, Record, ThresholdCounts
from jaxboard.sinks import _proto
from jaxboard.sinks._messages import image_files, tensor, value


def pr_curve(record: Record) -> _proto.Message:
    """Return float32[6, T] (tensorboard/plugins/pr_curve/summary.py)."""
    counts: ThresholdCounts = record.value
    rows = (
        counts.true_positives,
        counts.false_positives,
        counts.true_negatives,
        counts.false_negatives,
        counts.precision,
        counts.recall,
    )
    table = np.stack(rows).astype("<f4")
    values = tensor(_proto.types.DT_FLOAT, table.shape)
    values.tensor_content = table.tobytes()
    data = _proto.pr_curve.PrCurvePluginData(num_thresholds=table.shape[1])
    message = value(record.tag, values, "pr_curves", data.SerializeToString())
    message.metadata.display_name = record.tag  # The title of the card, which would be empty.
    return message


def roc_curve(record: Record) -> _proto.Message:
    """Return an image: TensorBoard has no such dashboard."""
    from jaxboard.sinks import _drawing

    counts: ThresholdCounts = record.value
    # The curve ends at the origin: above the last threshold, no prediction is positive.
    drawn = _drawing.curve(
        np.append(counts.false_positive_rate, 0.0),
        np.append(counts.recall, 0.0),
        x_title="false positive rate",
        y_title="true positive rate",
        title=f"area under the curve: {counts.auc:.3f}",
        diagonal=True,
    )
    return image_files(record.tag, drawn.width, drawn.height, [drawn.data])


def confusion_matrix(record: Record) -> _proto.Message:
    """Return an image: TensorBoard has no such dashboard."""
    from jaxboard.sinks import _drawing

    matrix: ConfusionMatrix = record.value
    drawn = _drawing.heat_map(
        matrix.row_fractions,
        rows=matrix.classes,
        columns=matrix.classes,
        row_title="true class",
        column_title="predicted class",
        texts=[[f"{count:.6g}" for count in row] for row in matrix.counts.tolist()],
    )
    return image_files(record.tag, drawn.width, drawn.height, [drawn.data])


def plugin_tensor(record: Record) -> _proto.Message:
    """Return a tensor of any type."""
    given: PluginTensor = record.value
    array = given.array
    if array.dtype == object:
        data = tensor(_proto.types.DT_STRING, array.shape, array.reshape(-1).tolist())
    else:
        data = _proto.make_tensor(array)
    message = value(record.tag, data, given.plugin, given.content)
    message.metadata.data_class = _proto.DATA_CLASSES[given.data_class]
    message.metadata.display_name = given.display_name
    message.metadata.summary_description = given.description
    return message


def layout(record: Record) -> _proto.Message:
    """Return a serialized layout under the tag that TensorBoard expects (tensorboard/plugins/custom_scalar/summary.py)."""
    message = _proto.layout.Layout()
    categories: Mapping[str, Mapping[str, tuple[str | Margin, ...]]] = record.value
    for title, charts in categories.items():
        category = message.category.add(title=title)
        for name, parts in charts.items():
            chart = category.chart.add(title=name)
            for part in parts:
                if isinstance(part, Margin):
                    series = {"value": part.value, "lower": part.lower, "upper": part.upper}
                    chart.margin.series.add(**series)
                else:
                    chart.multiline.tag.append(part)
    serialized = tensor(_proto.types.DT_STRING, (), [message.SerializeToString()])
    return value("custom_scalars__config__", serialized, "custom_scalars")
