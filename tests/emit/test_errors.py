"""Error messages of the verbs for invalid arguments, in full, with the line of the user's call."""

# pyright: reportArgumentType=false

import os
import pathlib
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture


def message(call):
    """Return the message that ``call``, a lambda on one line, raises, and the location of that line."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        call()
    assert records == []
    return str(raised.value), f"test_errors.py:{call.__code__.co_firstlineno}"


class NoText:
    """An object whose repr raises, as that of a deleted array does."""

    def __repr__(self):
        raise ValueError("no text")


def image(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


def deleted():
    array = jnp.ones(3)
    array.delete()
    return array


class Unreadable:
    def __array__(self, *_, **__):
        raise ValueError("not an array")

    def __repr__(self):
        return "Unreadable()"


CYCLE: list = []
CYCLE.append(CYCLE)
VERTICES = jax.ShapeDtypeStruct((2**24 + 1, 3), np.float32)
NOT_AN_IMAGE = (
    "expected an image [H, W], [H, W, C] or [N, H, W, C] with 1, 3 or 4 channels, got {}. "
)
OTHER_ARRAYS = "jaxboard.histogram reports other arrays."
NOT_A_MASK = "expected where= to be a bool scalar, got {}."
NOT_A_SCALAR = "expected a scalar, got {}. Reduce it first (jnp.mean(x)) or use jaxboard.histogram."
NOT_PIXELS = (
    "expected pixels as uint8, or as floats from 0 to 1, got {}. "
    "Convert them first (x.astype(jnp.uint8)), or pass their range=(low, high)."
)
NOT_A_REDUCTION = "expected reduce= to be one of 'count', 'last', 'max', 'mean', 'min', 'stack', 'std', 'sum', got {}."
OF_THE_LABELS = "of the shape of the labels, with or without an axis of classes behind"
NO_WEIGHT = "Samples with weights= of 0 do not count."
A_CHART = "to be regular expressions of tags, or ('margin', value, lower, upper)"
BLANK_TAG = "the tag is empty. Name what is reported, as in 'train/loss'."
TRACING = (
    "{} is for plain Python, and JAX is tracing here: it would be reported once, while compiling. "
    "Report it outside of the traced function."
)
NOT_BINS = "expected bins= to be a number of buckets, or a list of their edges, for 1 to 4096 buckets, got {}."
NOT_A_CADENCE = "expected every= to be a positive integer (steps), got {}."


@pytest.mark.parametrize(
    ("call", "tag", "problem"),
    [
        (lambda: jb.layout(["loss"]), "layout", "expected categories to be a dict that is not empty, got ['loss'] (list)."),
        (lambda: jb.layout({"a": {}}), "layout", "expected category 'a' to be a dict that is not empty, got {} (dict)."),
        (lambda: jb.layout({"a": {"b": []}}), "layout", f"expected chart 'b' {A_CHART}, got []."),
        (lambda: jb.layout({"a": {"b": NoText()}}), "layout", f"expected chart 'b' {A_CHART}, got <NoText object>."),
        (lambda: jb.layout({"a": {"b": ("margin", "x", "y")}}), "layout", f"expected chart 'b' {A_CHART}, got ('margin', 'x', 'y')."),
        (lambda: jb.layout({"a": {"b": [1]}}), "layout", f"expected chart 'b' {A_CHART}, got [1]."),
        (lambda: jb.layout({"a": {"b": "("}}), "layout", "chart 'b': '(' is not a regular expression: missing ), unterminated subpattern at position 0. re.escape(tag) matches a tag exactly."),
        (lambda: jb.scalar("", 1.0), "", BLANK_TAG),
        (lambda: jb.histogram(" ", np.ones(3)), " ", BLANK_TAG),
        (lambda: jb.image("", image(2, 2, 1)), "", BLANK_TAG),
        (lambda: jb.text("", "hello"), "", BLANK_TAG),
        (lambda: jb.scope(""), "", BLANK_TAG),
        (lambda: jb.scalar(3, 1.0), 3, "expected a string as the tag, the first argument, got 3 (int)."),
        (lambda: jb.scalars("x"), "x", "expected a tree of numbers after the prefix."),
        (lambda: jb.scalars(1.0), "", "a single number has no name. Use jaxboard.scalar, with a tag."),
        (lambda: jb.scalars(None, {}), None, "expected a string as the tag, the first argument, got None (NoneType)."),
    ],
)  # fmt: skip
def test_tags(call, tag, problem):
    """A blank tag and a tag that is not a string raise."""
    text, place = message(call)
    assert text == f"report {tag!r} ({place}): {problem}"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.scalar("x", np.ones(8, np.float32)), NOT_A_SCALAR.format("float32[8]")),
        (lambda: jb.scalar("x", jnp.ones(8)), NOT_A_SCALAR.format("float32[8]")),
        (lambda: jb.scalar("x", jnp.ones((2, 3), bool)), NOT_A_SCALAR.format("bool[2,3]")),
        (lambda: jb.scalar("x", "high"), "expected numbers, got 'high' (str). jaxboard.text reports texts."),
        (lambda: jb.scalar("x", {"a": 1.0}), "expected numbers, got {'a': 1.0} (dict). jaxboard.scalars reports the numbers of a tree."),
        (lambda: jb.scalar("x", None), "expected numbers, got None (NoneType)."),
        (lambda: jb.scalar("x", jnp.complex64(1j)), "got complex64[]. Report its real part, or abs(x)."),
        (lambda: jb.histogram("x", np.ones(4, complex)), "got complex128[4]. Report its real part, or abs(x)."),
        (lambda: jb.image("x", image(0, 4, 4, 3)), NOT_AN_IMAGE.format("float32[0,4,4,3]") + OTHER_ARRAYS),
        (lambda: jb.image("x", image(4, 4, 1, dtype=np.int32)), NOT_PIXELS.format("int32[4,4,1]")),
        (lambda: jb.pr_curve("x", np.ones(3), np.ones(4)), f"expected predictions {OF_THE_LABELS}, got labels float64[3] and predictions float64[4]."),
        (lambda: jb.pr_curve("x", [0, 2, 1], np.ones(3)), f"expected labels of 0 and 1, got 2. {NO_WEIGHT}"),
        (lambda: jb.pr_curve("x", [0, 3], np.ones((2, 3))), f"expected labels from 0 to 2, got 3. {NO_WEIGHT}"),
        (lambda: jb.pr_curve("x", np.ones(2), np.ones((2, 3))), "expected labels to be classes, as integers, got float64[2]."),
        (lambda: jb.roc_curve("x", np.ones((2, 2)), "high"), "expected numbers, got 'high' (str). jaxboard.text reports texts."),
        (lambda: jb.confusion_matrix("x", [0], [0.5], classes=2), "expected predictions to be classes, as integers, got float64[1]. Scores have one axis more than the labels."),
        (lambda: jb.confusion_matrix("x", [0, -1], [1, 1], classes=2), f"expected labels from 0 to 1, got -1. {NO_WEIGHT}"),
        (lambda: jb.histogram("x", counts=[1]), "counts= and edges= belong together: pass both."),
        (lambda: jb.histogram("x"), "expected numbers, got None (NoneType). Pass values, or counts= and edges=."),
        (lambda: jb.histogram("x", [1.0], counts=[1], edges=[0, 1]), "counts= and edges= need no values, bins=, range=, reduce=, where= or runs=. Pass either values or counts."),
        (lambda: jb.histogram("x", counts=[1, 2], edges=[0, 1]), "expected counts= [k] and edges= [k + 1], got int64[2] and int64[2]."),
        (lambda: jb.histogram("x", counts=[1], edges=[1, 0]), "expected edges= to be finite and ascending, got [1, 0]."),
        (lambda: jb.histogram("x", counts=[-1], edges=[0, 1]), "expected counts= to be 0 or more, got [-1]."),
        (lambda: jb.tensor("x", np.eye(2), ""), "expected plugin= to be the name of a plugin, got '' (str)."),
        (lambda: jb.tensor("x", np.eye(2), "p", content="a"), "expected content= to be bytes, got 'a' (str). Serialize a message first."),
        (lambda: jb.tensor("x", np.eye(2), "p", display_name=3), "expected display_name= to be a string, got 3 (int)."),
        (lambda: jb.tensor("x", np.eye(2), "p", description=b"a"), "expected description= to be a string, got b'a' (bytes)."),
        (lambda: jb.tensor("x", np.eye(2), "p", data_class="image"), "expected data_class= to be one of 'tensor', 'scalar', 'blob_sequence', got 'image'."),
        (lambda: jb.text("x", 5), "expected a string or rows of strings, got 5 (int)."),
        (lambda: jb.text("x", [[0] * 1_000_001]), "expected a string or rows of strings, got more than 1000000 cells. Report a part of the table."),
        (lambda: jb.figure("x", 5), "expected a matplotlib figure, got 5 (int)."),
        (lambda: jb.scalar("x", Unreadable()), "expected numbers, got Unreadable() (Unreadable)."),
        (lambda: jb.histogram("x", deleted()), "got float32[3] that was deleted, or donated to a jitted function. Report it before that."),
        (lambda: jb.scalars("x", CYCLE), "the tree contains itself, or is nested too deeply. Report its leaves."),
        (lambda: jb.embedding("x", np.ones(3)), "expected vectors [N, D], got float64[3]. Flatten others: x.reshape(len(x), -1)."),
        (lambda: jb.embedding("x", np.eye(2), labels=["a"]), "expected 2 labels, one for each vector, got 1."),
        (lambda: jb.embedding("x", np.eye(2), labels={"a": 1.0}), "labels= or metadata_header= cannot be read: TypeError: 'float' object is not iterable."),
        (lambda: jb.embedding("x", np.eye(2), labels={"a": [1, 2]}, metadata_header=["a"]), "the keys of labels= are the metadata_header=."),
        (lambda: jb.embedding("x", np.eye(2), images=np.ones((3, 4, 4, 1))), "expected 2 images [2, H, W, C], one for each vector, got float64[3,4,4,1]."),
        (lambda: jax.eval_shape(lambda v: jb.mesh("x", v), VERTICES), "expected at most 16777216 vertices, got 16777217."),
        (lambda: jb.graph(Unreadable.__array__, 1.0, tag="x"), "JAX cannot trace __array__: ValueError: not an array"),
    ],
)  # fmt: skip
def test_values(call, problem):
    """A value of a wrong rank, dtype or type raises an error that describes it and names the fix."""
    text, place = message(call)
    assert text == f"report 'x' ({place}): {problem}"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda: jb.scalar("x", 1.0, every=0), NOT_A_CADENCE.format("0")),
        (lambda: jb.scalar("x", 1.0, every=2.0), NOT_A_CADENCE.format("2.0")),
        (lambda: jb.histogram("x", np.ones(3), every=-1), NOT_A_CADENCE.format("-1")),
        (lambda: jb.text("x", "hello", every=True), NOT_A_CADENCE.format("True")),
        (lambda: jb.histogram("x", {}, every=0), NOT_A_CADENCE.format("0")),
        (lambda: jb.scalars("x", {}, every=0), NOT_A_CADENCE.format("0")),
        (lambda: jb.scalars("x", {}, reduce="median"), NOT_A_REDUCTION.format("'median'")),
        (lambda: jb.scalar("x", 1.0, reduce="median"), NOT_A_REDUCTION.format("'median'")),
        (lambda: jb.scalar("x", 1.0, step=1.5), "expected step= to be an integer, got 1.5."),
        (lambda: jb.scalar("x", 1.0, weight=-1), "expected weight= to be 0 or more, got -1."),
        (lambda: jb.scalar("x", 1.0, weight=np.ones(2)), NOT_A_SCALAR.format("float64[2]")),
        (lambda: jb.scalar("x", 1.0, where=np.ones(2, bool)), NOT_A_MASK.format("bool[2]")),
        (lambda: jb.pr_curve("x", [0], [0.5], num_thresholds=1), "expected num_thresholds= to be an integer of at least 2, got 1."),
        (lambda: jb.pr_curve("x", [0], [0.5], num_thresholds=NoText()), "expected num_thresholds= to be an integer of at least 2, got <NoText object>."),
        (lambda: jb.pr_curve("x", [0], [0.5], weights=[0.5, 1.0]), "expected weights= of the shape of the labels, int64[1], got float64[2]."),
        (lambda: jb.pr_curve("x", [0], [0.5], classes=["a"]), "classes= needs a prediction for each class, [..., C], got labels and predictions of one shape, float64[1]."),
        (lambda: jb.pr_curve("x", [0], [[0.5, 0.5]], classes=["a"]), "expected predictions of 1 classes, got float64[1,2]."),
        (lambda: jb.roc_curve("x", [0], [[0.5, 0.5]], classes=["a", "a"]), "two classes have the name 'a'."),
        (lambda: jb.confusion_matrix("x", [0], [0]), "pass classes=, the number of classes or their names, or predictions [..., C]."),
        (lambda: jb.confusion_matrix("x", [0], [0], classes="cat"), "expected classes= to be the names of the classes, got 'cat'."),
        (lambda: jb.confusion_matrix("x", [0], [0], classes=[NoText()]), "expected classes= to be the names of the classes, got <list object>."),
        (lambda: jb.confusion_matrix("x", [0], [0], classes=2000), "expected 1 to 1024 classes, got 2000."),
        (lambda: jb.confusion_matrix("x", [0], [[0.1, 0.2]], classes=3), "expected scores of 3 classes, got predictions float64[1,2]."),
        (lambda: jb.scalar("x", 1.0, where=0.5), NOT_A_MASK.format("float64[]")),
        (lambda: jb.scalar("x", 1.0, runs="lanes"), "expected runs= to be 'vmap', False or None, got 'lanes'."),
        (lambda: jb.figure("x", matplotlib.figure.Figure(), close=np.ones(2)), "expected close= to be True or False, got array([1., 1.])."),
        (lambda: jb.histogram("x", np.ones(3), bins=0), NOT_BINS.format("0")),
        (lambda: jb.histogram("x", np.ones(3), bins=5000), NOT_BINS.format("5000")),
        (lambda: jb.histogram("x", np.ones(3), bins="auto"), NOT_BINS.format("'auto'")),
        (lambda: jb.histogram("x", np.ones(3), bins=[1.0]), NOT_BINS.format("[1.0]")),
        (lambda: jb.histogram("x", np.ones(3), bins=[1, 0]), "expected bins= to be finite and ascending, got [1, 0]."),
        (lambda: jb.histogram("x", np.ones(3), bins=[0, np.inf]), "expected bins= to be finite and ascending, got [0, inf]."),
        (lambda: jb.histogram("x", np.ones(3), range=(0, 1)), "range= needs bins=, a number of buckets from 1 to 4096, got bins=None and range=(0, 1)."),
    ],
)  # fmt: skip
def test_options(call, problem):
    """An option out of range raises an error that names the option and its value."""
    text, place = message(call)
    assert text == f"report 'x' ({place}): {problem}"


def test_trees_that_jax_cannot_flatten():
    """An error of JAX about a pytree is raised with the report and the line."""
    text, place = message(lambda: jb.histogram("x", {1: np.ones(2), "a": np.ones(2)}))
    assert text.startswith(f"report 'x' ({place}): JAX cannot flatten the tree: ValueError: ")


def test_a_traced_value_that_escaped():
    """A traced value is named outside of the function in which JAX made it."""
    kept = []
    jax.jit(kept.append)(1.0)
    text, place = message(lambda: jb.histogram("x", kept[0]))
    assert text == (
        f"report 'x' ({place}): got a traced value outside of the function that JAX traced. Report it there, "
        "or return it from the function."
    )


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda x: jb.scalar("x", x), NOT_A_SCALAR.format("float32[8]")),
        (lambda x: jb.image("x", x), NOT_AN_IMAGE.format("float32[8]") + OTHER_ARRAYS),
        (lambda x: jb.scalar("x", x[0] * 1j), "got complex64[]. Report its real part, or abs(x)."),
        (
            lambda x: jb.histogram("x", x, bins=x),
            "expected bins= to be known while JAX traces, got a traced value. Pass numbers of NumPy or Python.",
        ),
        (lambda x: jb.text("x", "hello"), TRACING.format("text")),
        (lambda x: jb.text("x", "hello", step=jnp.int32(2)), TRACING.format("text")),
        (lambda x: jb.figure("x", matplotlib.figure.Figure()), TRACING.format("figure")),
    ],
)
@pytest.mark.parametrize("wrap", [jax.jit, lambda f: jb.instrument(jax.jit(f))])
def test_in_traced_code(wrap, call, problem):
    """Under jit the message is the same, with the line in the traced function."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        wrap(call)(jnp.ones(8))
    assert records == []
    place = f"test_errors.py:{call.__code__.co_firstlineno}"
    assert str(raised.value) == f"report 'x' ({place}): {problem}"


def test_a_log_directory_that_cannot_be_created(tmp_path: pathlib.Path):
    """A log directory that cannot be created raises immediately and leaves no run open."""
    (tmp_path / "runs").write_text("")
    logdir = tmp_path / "runs" / "first"
    with pytest.raises(jb.RunError) as raised:
        jb.Run(logdir)
    assert str(raised.value) == (
        f"cannot write to the log directory {str(logdir)!r}: Not a directory. Choose another "
        "directory, or make this one writable."
    )
    assert jb.current_run() is None


def test_reports_without_a_run_warn_once(tmp_path: pathlib.Path):
    """Reports without a run warn once per process, with the tag and line of the first report."""
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent(
            """\
            import warnings
            import jax
            import jaxboard as jb

            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                for i in range(3):
                    jb.scalar("loss", float(i))
                    jb.text("note", "hello")
                    jb.instrument(jax.jit(lambda x: x))(1.0)
            for warning in caught:
                print(f"{warning.category.__module__}.{warning.category.__name__}: {warning.message}")
            """
        )
    )
    process = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout == (
        "jaxboard.JaxboardWarning: report 'loss' (program.py:8): no run is open, so nothing is "
        "reported. Open one around the loop: with jaxboard.Run('runs/name'): ...\n"
    )
