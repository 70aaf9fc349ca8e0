"""A report means the same thing under every transformation, on every way that it may take to the host."""

from __future__ import annotations

import functools

import jax
import numpy as np
import pytest
from conformance import verbs
from conformance.cases import CASES, Case
from conformance.limits import limit_of

import jaxboard as jb
from jaxboard import _log
from jaxboard.testing import capture

CALLS = 2


def close(ours, theirs, *, ordered=True):
    """Whether points are the same, but for which was the last where callbacks come in no order."""
    assert [point[:2] for point in ours] == [point[:2] for point in theirs]
    for (tag, _, a), (_, _, b) in zip(ours, theirs, strict=True):
        if not ordered and tag.endswith(("/last", "/image")):
            continue
        expected = pytest.approx(b, rel=1e-6) if tag.endswith(verbs.ROUNDED) else b
        assert a == expected, f"{tag}: {a}, expected {b}"


def run(function, case: Case):
    """The results and the points of some calls of a function."""
    with capture() as records:
        results = [function(*case.args) for _ in range(CALLS)]
    return results, verbs.recorded(records)


def check_results(results, case: Case, function):
    """The results are, to the bit, those of the function that reports nothing."""
    with capture() as records:
        bare = function(*case.args)
    assert not records
    for result in results:
        for ours, theirs in zip(jax.tree.leaves(result), jax.tree.leaves(bare), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def one_point_for_each_call(case: Case):
    return sorted(point for step in range(CALLS) for point in verbs.expected(case.observed, step))


def one_point(case: Case):
    """Without an instrumented call no step is taken, and values of one step make one point."""
    observed = case.observed if case.unharvested is None else case.unharvested
    return verbs.expected({tag: [*runs] * CALLS for tag, runs in observed.items()}, 0)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    limit = limit_of(request.param.name, request.function.__name__.removeprefix("test_"))
    if limit is not None:
        pytest.skip(f"{limit.reason} {limit.error}")
    return request.param


@pytest.fixture(autouse=True)
def warnings_anew():
    """Every test sees the warnings that are given once."""
    _log.forget_warnings()


def test_output(case):
    """Instrumented, over jit: one point for each call, of all that the call did."""
    reporting = functools.partial(case.program, verbs.report)
    bare = functools.partial(case.program, verbs.ignore)
    results, points = run(jb.instrument(jax.jit(reporting)), case)
    close(points, one_point_for_each_call(case))
    check_results(results, case, jax.jit(bare))


def test_callback(case):
    """Instrumented, inside of somebody's jit: the same points."""
    reporting = functools.partial(case.program, verbs.report)
    bare = functools.partial(case.program, verbs.ignore)
    results, points = run(jax.jit(jb.instrument(jax.jit(reporting))), case)
    close(points, one_point_for_each_call(case))
    check_results(results, case, jax.jit(bare))


def test_no_instrument(case):
    """Only jitted: all executions, in one point as no step is taken."""
    reporting = functools.partial(case.program, verbs.report)
    bare = functools.partial(case.program, verbs.ignore)
    results, points = run(jax.jit(reporting), case)
    close(points, one_point(case), ordered=not case.unordered)
    check_results(results, case, jax.jit(bare))


def test_eager(case):
    """Not even jitted: as without instrument."""
    results, points = run(functools.partial(case.program, verbs.report), case)
    close(points, one_point(case), ordered=not case.unordered)
    check_results(results, case, functools.partial(case.program, verbs.ignore))
