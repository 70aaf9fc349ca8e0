"""The arguments of ``profile``: the forms of ``steps=``, and errors for invalid options."""

import dataclasses

import numpy as np
import pytest

import jaxboard as jb
from jaxboard._profile.step_range import parse_steps

FORMS = [
    range(10, 20),
    (10, 20),
    [10, 20],
    slice(10, 20),
    slice(10, 20, 1),
    "10..20",
    " 10 .. 20 ",
    (np.int64(10), np.int32(20)),
]


@pytest.mark.parametrize("steps", FORMS, ids=repr)
def test_forms_of_one_range(steps):
    """Every form means steps 10 to 19."""
    assert parse_steps(steps) == range(10, 20)


def test_open_forms():
    """None stays None; a slice without a start begins at 0."""
    assert parse_steps(None) is None
    assert parse_steps(slice(None, 3)) == range(3)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (range(10, 20, 2), "a stride is not possible"),
        (slice(10, 20, 2), "a stride is not possible"),
        (range(20, 10, -1), "a stride is not possible"),
        (range(10, 10), "the range is empty"),
        ((20, 10), "the range is empty"),
        ("20..10", "the range is empty"),
        (range(-3, 3), "steps count from 0"),
        ("10-20", "expected a range of steps"),
        ("10..", "expected a range of steps"),
        (15, "expected a range of steps"),
        ((10, 15, 20), "expected a range of steps"),
        ((1.5, 3), "expected a range of steps"),
        (slice(10, None), "expected a range of steps"),
    ],
    ids=repr,
)
def test_invalid_steps(steps, problem):
    """Invalid steps raise an error with the value, the problem and the valid forms."""
    with pytest.raises(ValueError, match=problem) as caught:
        jb.profile(steps=steps)
    assert isinstance(caught.value, jb.UsageError)
    assert f"steps={steps!r}" in str(caught.value)
    assert "range(10, 20)" in str(caught.value)


@pytest.mark.parametrize(
    "option",
    [
        {"logdir": ""},
        {"logdir": 3},
        {"name": ""},
        {"name": "a/b"},
        {"host_level": 4},
        {"host_level": True},
        {"sync": "yes"},
        {"max_seconds": 0},
        {"max_seconds": "60"},
        {"on_error": "ignore"},
    ],
    ids=repr,
)
def test_invalid_options(option):
    """An invalid option raises an error with its name and what is expected."""
    (name,) = option
    with pytest.raises(jb.UsageError, match=rf"profile\({name}=.*: expected "):
        jb.profile(**option)


def test_configuration_of_a_trainer(tmp_path):
    """The bounds of a trainer's configuration are checked like a range of steps."""

    @dataclasses.dataclass(slots=True)
    class ProfilingConfig:
        log_dir: str = str(tmp_path)
        start_step: int = 20
        end_step: int = 10

    with pytest.raises(jb.UsageError, match="the range is empty"):
        jb.JAXProfiler(ProfilingConfig())


@pytest.mark.parametrize("processes", ["all", -1, [], [0, -1], [0.5], [None], {}], ids=repr)
def test_invalid_processes(processes):
    """Anything but numbers of processes raises."""
    with pytest.raises(jb.UsageError, match=r"profile\(processes="):
        jb.profile(processes=processes)
