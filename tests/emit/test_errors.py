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


def image(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


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
BLANK_TAG = "the tag is empty. Name what is reported, as in 'train/loss'."
TRACING = (
    "{} is for plain Python, and JAX is tracing here: it would be reported once, while compiling. "
    "Report it outside of the traced function."
)
NOT_A_CADENCE = "expected every= to be a positive integer (steps), got {}."


@pytest.mark.parametrize(
    ("call", "tag", "problem"),
    [
        (lambda: jb.scalar("", 1.0), "", BLANK_TAG),
        (lambda: jb.histogram(" ", np.ones(3)), " ", BLANK_TAG),
        (lambda: jb.image("", image(2, 2, 1)), "", BLANK_TAG),
        (lambda: jb.text("", "hello"), "", BLANK_TAG),
        (lambda: jb.scope(""), "", BLANK_TAG),
        (lambda: jb.scalar(3, 1.0), 3, "expected a string as the tag, got 3 (int)."),
        (lambda: jb.scalars(None, {}), None, "expected a string as the tag, got None (NoneType)."),
    ],
)
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
        (lambda: jb.scalar("x", "high"), "expected numbers, got 'high' (str)."),
        (lambda: jb.scalar("x", None), "expected numbers, got None (NoneType)."),
        (lambda: jb.scalar("x", jnp.complex64(1j)), "got complex64[]. Report its real part, or abs(x)."),
        (lambda: jb.histogram("x", np.ones(4, complex)), "got complex128[4]. Report its real part, or abs(x)."),
        (lambda: jb.image("x", image(0, 4, 4, 3)), NOT_AN_IMAGE.format("float32[0,4,4,3]") + OTHER_ARRAYS),
        (lambda: jb.image("x", image(4, 4, 1, dtype=np.int32)), NOT_PIXELS.format("int32[4,4,1]")),
        (lambda: jb.text("x", 5), "expected a string or rows of strings, got 5 (int)."),
        (lambda: jb.figure("x", 5), "expected a matplotlib figure, got 5 (int)."),
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
        (lambda: jb.scalar("x", 1.0, where=0.5), NOT_A_MASK.format("float64[]")),
    ],
)  # fmt: skip
def test_options(call, problem):
    """An option out of range raises an error that names the option and its value."""
    text, place = message(call)
    assert text == f"report 'x' ({place}): {problem}"


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (lambda x: jb.scalar("x", x), NOT_A_SCALAR.format("float32[8]")),
        (lambda x: jb.image("x", x), NOT_AN_IMAGE.format("float32[8]") + OTHER_ARRAYS),
        (lambda x: jb.scalar("x", x[0] * 1j), "got complex64[]. Report its real part, or abs(x)."),
        (lambda x: jb.text("x", "hello"), TRACING.format("text")),
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
