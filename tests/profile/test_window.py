"""Which steps are profiled, however they are said."""

import dataclasses

import numpy as np
import pytest

import jaxboard as jb
from jaxboard._profile.step_range import window

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
def test_forms_of_one_window(steps):
    """All of these mean steps 10 to 19."""
    assert window(steps) == range(10, 20)


def test_open_forms():
    """None is the whole block; a slice without a start begins at 0."""
    assert window(None) is None
    assert window(slice(None, 3)) == range(3)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (range(10, 20, 2), "no stride"),
        (slice(10, 20, 2), "no stride"),
        (range(20, 10, -1), "no stride"),
        (range(10, 10), "no step is in this window"),
        ((20, 10), "no step is in this window"),
        ("20..10", "no step is in this window"),
        (range(-3, 3), "steps count from 0"),
        ("10-20", "no window"),
        ("10..", "no window"),
        (15, "no window"),
        ((10, 15, 20), "no window"),
        ((1.5, 3), "no window"),
        (slice(10, None), "no window"),
    ],
    ids=repr,
)
def test_no_window(steps, problem):
    """What is no window raises where it is said, with what was said and what to say."""
    with pytest.raises(ValueError, match=problem) as caught:
        jb.profile(steps=steps)
    assert isinstance(caught.value, jb.ReportError)
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
def test_wrong_options(option):
    """So does what is wrong with an option."""
    (name,) = option
    with pytest.raises(jb.ReportError, match=rf"profile\({name}=.*: expected "):
        jb.profile(**option)


def test_configuration_of_a_trainer(tmp_path):
    """An object with a first and a last bound is a window like any other."""

    @dataclasses.dataclass(slots=True)
    class ProfilingConfig:
        log_dir: str = str(tmp_path)
        start_step: int = 20
        end_step: int = 10

    with pytest.raises(jb.ReportError, match="no step is in this window"):
        jb.JAXProfiler(ProfilingConfig())
