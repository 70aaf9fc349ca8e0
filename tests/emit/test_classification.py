"""``pr_curve``, ``roc_curve`` and ``confusion_matrix``: exact counts, whatever merges them."""

from __future__ import annotations

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P
from sklearn import metrics

import jaxboard as jb
from jaxboard.records import ConfusionMatrix, Kind, ThresholdCounts
from jaxboard.testing import capture

RNG = np.random.default_rng(0)
LABELS = RNG.integers(0, 2, 480)
PREDICTIONS = (0.3 * LABELS + 0.7 * RNG.random(480)).astype(np.float32)
WEIGHTS = RNG.random(480).astype(np.float32)
CLASSES = RNG.integers(0, 5, 480)
SCORES = np.asarray(
    jax.nn.softmax(
        RNG.normal(size=(480, 5)).astype(np.float32) + 2 * np.eye(5, dtype=np.float32)[CLASSES]
    )
)


def counted(labels, predictions, weights=None, num_thresholds=127):
    """Return how NumPy counts: (true positives, false positives) at each threshold."""
    buckets = np.floor(predictions * np.float32(num_thresholds - 1)).astype(int)
    above = buckets >= np.arange(num_thresholds)[:, None]
    weights = np.ones(len(labels), int) if weights is None else weights.astype(float)
    return above @ (weights * (labels == 1)), above @ (weights * (labels == 0))


def assert_counts(value, labels, predictions, weights=None):
    true, false = counted(labels, predictions, weights)
    rtol, atol = (0, 0) if weights is None else (1e-5, 1e-4)
    np.testing.assert_allclose(value.true_positives, true, rtol, atol)
    np.testing.assert_allclose(value.false_positives, false, rtol, atol)
    assert (value.ignored, value.clipped) == (0, 0)


def only(records):
    (record,) = records
    return record


@jb.instrument
@jax.jit
def step(labels, predictions):
    jb.pr_curve("pr", labels, predictions, every=3)
    return predictions.sum()


def report(labels, predictions):
    jb.pr_curve("pr", labels, predictions)
    return predictions.sum()


def lanes(labels, predictions):
    return jax.vmap(report)(labels.reshape(8, 60), predictions.reshape(8, 60))


def iterations(labels, predictions):
    xs = labels.reshape(8, 60), predictions.reshape(8, 60)
    return jax.lax.scan(lambda c, x: (c + report(*x), None), 0.0, xs)[0]


def devices(labels, predictions):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))
    shard = lambda y, p: report(y, p)[None]  # noqa: E731
    return jax.shard_map(shard, mesh=mesh, in_specs=(P("d"), P("d")), out_specs=P("d"))(
        labels, predictions
    )


def explicit_devices(labels, predictions):
    mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Explicit,))
    with jax.set_mesh(mesh):
        return report(jax.reshard(labels, P("d")), jax.reshard(predictions, P("d")))


def gradient(labels, predictions):
    return jax.grad(lambda p: jnp.sin(jax.checkpoint(report)(labels, p)))(predictions)


@pytest.mark.parametrize(
    "program", [report, lanes, iterations, devices, gradient], ids=lambda f: f.__name__
)
def test_counts_are_those_of_numpy_under_every_transformation(program):
    """Lanes, iterations and devices merge to the counts of all samples, as exact integers."""
    with capture() as records:
        jb.instrument(jax.jit(program))(LABELS, PREDICTIONS)
    record = only(records)
    assert (record.kind, record.tag) == (Kind.PR_CURVE, "pr")
    assert record.value.true_positives.dtype == np.int64
    assert_counts(record.value, LABELS, PREDICTIONS)


def test_a_mesh_with_explicit_axes():
    """Arrays whose types have shardings are counted too."""
    with capture() as records:
        explicit_devices(jnp.array(LABELS), jnp.array(PREDICTIONS))
    assert_counts(only(records).value, LABELS, PREDICTIONS)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_batches_of_an_evaluation_make_one_curve(convert):
    """Several reports of one step, from plain Python, are counted together."""
    with capture(step=4) as records:
        for rows in np.split(np.arange(480), 4):
            jb.pr_curve("pr", convert(LABELS[rows]), convert(PREDICTIONS[rows]))
    record = only(records)
    assert record.step == 4
    assert_counts(record.value, LABELS, PREDICTIONS)


def test_a_window_has_the_samples_of_its_steps():
    """With ``every=3``, a point at step 3 has the samples of steps 1 to 3."""
    with capture() as records:
        for rows in np.split(np.arange(480), 4):
            step(LABELS[rows], PREDICTIONS[rows])
    assert [record.step for record in records] == [0, 3]
    for record, rows in zip(records, (slice(0, 120), slice(120, 480)), strict=True):
        assert_counts(record.value, LABELS[rows], PREDICTIONS[rows])


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_weights(convert):
    """Weights of floats make sums, and weights of bools select samples, which are integers."""
    with capture() as records:
        jb.pr_curve("floats", LABELS, convert(PREDICTIONS), weights=WEIGHTS)
        jb.pr_curve("bools", LABELS, convert(PREDICTIONS), weights=WEIGHTS > 0.5)
        jb.confusion_matrix("matrix", CLASSES, convert(SCORES), weights=WEIGHTS)
    floats, bools, matrix = (record.value for record in records)
    assert_counts(floats, LABELS, PREDICTIONS, WEIGHTS)
    kept = WEIGHTS > 0.5
    assert_counts(bools, LABELS[kept], PREDICTIONS[kept])
    assert bools.true_positives.dtype == np.int64
    expected = metrics.confusion_matrix(CLASSES, SCORES.argmax(1), sample_weight=WEIGHTS)
    np.testing.assert_allclose(matrix.counts, expected, rtol=1e-5)


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
def test_several_classes(convert):
    """Each class has a curve of its own, against all others."""
    names = ["a", "b", "c", "d", "e"]
    with capture() as records:
        jb.pr_curve("pr", convert(CLASSES), convert(SCORES))
        jb.roc_curve("roc", convert(CLASSES), convert(SCORES), classes=names)
    assert [record.tag for record in records] == [
        *(f"pr/class_{k}" for k in range(5)),
        *(f"roc/{name}" for name in names),
    ]
    for record, k in zip(records, 2 * list(range(5)), strict=True):
        assert_counts(record.value, np.equal(CLASSES, k).astype(int), SCORES[:, k])


def test_curves_are_those_of_sklearn():
    """Precision, recall and the area under the curve agree with sklearn, for predictions on the thresholds."""
    predictions = np.round(PREDICTIONS * 64) / 64
    with capture() as records:
        jb.roc_curve("roc", jnp.array(LABELS), jnp.array(predictions), num_thresholds=65)
    curve = only(records).value
    precision, recall, thresholds = metrics.precision_recall_curve(LABELS, predictions)
    places = np.searchsorted(curve.thresholds, thresholds)
    np.testing.assert_allclose(curve.precision[places], precision[:-1])
    np.testing.assert_allclose(curve.recall[places], recall[:-1])
    assert curve.auc == pytest.approx(metrics.roc_auc_score(LABELS, predictions))
    np.testing.assert_array_equal(
        curve.true_negatives + curve.false_negatives + curve.true_positives + curve.false_positives,
        np.full(65, 480),
    )


@pytest.mark.parametrize("convert", [np.asarray, jnp.asarray], ids=["numpy", "jax"])
@pytest.mark.parametrize("scores", [True, False])
def test_a_confusion_matrix_is_that_of_sklearn(convert, scores):
    """Classes, or the largest of several scores, are counted as sklearn counts them."""
    predictions = convert(SCORES if scores else SCORES.argmax(1))
    with capture() as records:
        jb.confusion_matrix("m", convert(CLASSES), predictions, classes=5)
    record = only(records)
    assert (record.kind, record.value.classes) == (Kind.CONFUSION_MATRIX, tuple("01234"))
    expected = metrics.confusion_matrix(CLASSES, SCORES.argmax(1))
    np.testing.assert_array_equal(record.value.counts, expected)


def test_lanes_as_runs():
    """With ``runs="vmap"`` each lane has a curve and a matrix of its own."""

    def lane(labels, predictions):
        jb.pr_curve("pr", labels, predictions, runs="vmap")
        jb.confusion_matrix("m", labels, predictions > 0.5, classes=2, runs="vmap")
        return predictions

    labels, predictions = LABELS.reshape(2, 240), PREDICTIONS.reshape(2, 240)
    with capture() as records:
        jb.instrument(jax.jit(jax.vmap(lane)))(labels, predictions)
    values = {(record.run, record.tag): record.value for record in records}
    assert sorted(values) == [(f"seed_{i}", tag) for i in range(2) for tag in ("m", "pr")]
    for index in range(2):
        assert_counts(values[f"seed_{index}", "pr"], labels[index], predictions[index])
        expected = metrics.confusion_matrix(labels[index], predictions[index] > 0.5)
        np.testing.assert_array_equal(values[f"seed_{index}", "m"].counts, expected)


def test_where_leaves_a_batch_out():
    """A batch with ``where=False`` is not counted."""
    with capture() as records:
        for kept, rows in zip((True, False, True), np.split(np.arange(480), 3), strict=True):
            jb.pr_curve("pr", LABELS[rows], jnp.array(PREDICTIONS[rows]), where=kept)
    rows = np.r_[:160, 320:480]
    assert_counts(only(records).value, LABELS[rows], PREDICTIONS[rows])


def test_what_is_not_counted_is_logged_once(caplog):
    """Labels outside of the classes and NaN are left out, logits are clipped; each tag warns once."""
    with caplog.at_level(logging.WARNING, "jaxboard"), capture() as records:
        for number in range(2):
            jb.pr_curve("nan", jnp.array([0, 1]), jnp.array([0.5, jnp.nan]), step=number)
            jb.pr_curve("label", jnp.array([2, 1]), jnp.array([0.5, 0.5]), step=number)
            jb.roc_curve("logits", jnp.array([0, 1]), jnp.array([-3.0, 4.0]), step=number)
            jb.confusion_matrix("m", jnp.array([0, -1]), jnp.array([0, 1]), classes=2, step=number)
    values = {record.tag: record.value for record in records}
    assert (values["nan"].ignored, values["label"].ignored, values["m"].ignored) == (1, 1, 1)
    assert (values["logits"].clipped, values["logits"].auc) == (2, 1.0)
    assert (values["nan"].positives, values["nan"].negatives) == (0, 1)
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 4
    left_out = "some samples are left out: their label is not one of the classes, or their prediction is NaN."
    assert f"pr curve 'nan': {left_out}" in logged[0]
    assert f"pr curve 'label': {left_out}" in logged[1]
    assert "Pass probabilities: jax.nn.sigmoid(logits)" in logged[2]
    assert "is not one of the 2 classes, 0 to 1." in logged[3]


def test_no_sample():
    """An evaluation without samples has a curve of zeros."""
    with capture() as records:
        jb.pr_curve("pr", jnp.zeros(0), jnp.zeros(0), num_thresholds=3)
    value = only(records).value
    assert value.precision.tolist() == value.recall.tolist() == [0, 0, 0]
    assert np.isnan(value.auc)


def test_half_precision_and_small_integers():
    """Predictions of 16 bits and labels of 8 bits are counted like others."""
    predictions = jnp.array(PREDICTIONS, jnp.bfloat16)
    with capture() as records:
        jb.pr_curve("pr", jnp.array(LABELS, jnp.uint8), predictions)
        jb.confusion_matrix(
            "m", jnp.array(CLASSES, jnp.int8), jnp.array(CLASSES, jnp.uint8), classes=200
        )
    curve, matrix = (record.value for record in records)
    assert isinstance(curve, ThresholdCounts)
    assert_counts(curve, LABELS, np.asarray(predictions.astype(jnp.float32)))
    assert isinstance(matrix, ConfusionMatrix)
    np.testing.assert_array_equal(np.diag(matrix.counts)[:5], np.bincount(CLASSES))
