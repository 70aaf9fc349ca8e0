"""A report means the same under every transformation, with every delivery."""

from __future__ import annotations

import functools
import itertools

import jax
import numpy as np
import pytest
from conformance import verbs
from conformance.cases import CASES, Case
from conformance.limits import limit_of
from conformance.programs import calls as calls_of_functions
from conformance.programs import meshes

import jaxboard as jb
from jaxboard.testing import capture

CALLS = 2


def assert_points_equal(ours, theirs, *, ordered=True):
    """Compare points; without ``ordered``, the callbacks' order leaves the last value open."""
    assert [point[:2] for point in ours] == [point[:2] for point in theirs]
    for (tag, _, a), (_, _, b) in zip(ours, theirs, strict=True):
        if not ordered and tag.endswith(verbs.LAST):
            continue
        expected = pytest.approx(b, rel=1e-6) if tag.endswith(verbs.ROUNDED) else b
        assert a == expected, f"{tag}: {a}, expected {b}"


def run(function, case: Case, calls=CALLS):
    """Return the results and the points of some calls of a function."""
    with capture() as records:
        results = [function(*case.args) for _ in range(calls)]
    return results, verbs.observations(records)


def run_bare(case: Case, transform=lambda f: f):
    """Return the leaves of the result of the program that reports nothing."""
    with capture() as records:
        result = transform(functools.partial(case.program, verbs.ignore))(*case.args)
    assert not records
    return jax.tree.leaves(result)


@functools.cache
def run_bare_jitted(case: Case):
    return run_bare(case, jax.jit)


def assert_results_unchanged(results, expected):
    """Compare results with those of the program that reports nothing: they are bit-identical."""
    for result in results:
        for ours, theirs in zip(jax.tree.leaves(result), expected, strict=True):
            np.testing.assert_array_equal(ours, theirs)


def one_point_per_call(case: Case, groups):
    points = [verbs.expected(case.observed, step, groups) for step in range(CALLS)]
    return sorted(itertools.chain.from_iterable(points))


def one_point(case: Case, groups, calls=CALLS):
    """Return the points without an instrumented call: no call counts as a step, so all values share one."""
    observed = case.observed if case.unharvested is None else case.unharvested
    executions = {tag: [*runs] * calls for tag, runs in observed.items()}
    return verbs.expected(executions, 0, groups)


WITH_EVERY_VERB = {
    "jit",
    "scan",
    "vmap_of_cond",
    "vmap_of_grad_of_switch_in_scan",
    "grad_of_shard_map",
}


def third_of(groups, case: Case, test):
    """Return one group of three. The other two tests of a case have the others, and so have the next cases."""
    return groups[(CASES.index(case) + test) % len(groups)]


def callback_groups(case: Case, test):
    """Return groups of verbs for a test in which each report is a callback of its own, so that nothing is packed."""
    return third_of(verbs.DTYPES, case, test), third_of(verbs.GROUPS, case, test)


@pytest.fixture(params=CASES, ids=lambda case: case.name)
def case(request):
    limit = limit_of(request.param.name, request.function.__name__.removeprefix("test_"))
    if limit is not None:
        pytest.skip(f"{limit.reason} {limit.error}")
    return request.param


def test_output(case):
    """An instrumented jitted function makes one point per call, of everything that the call reported."""
    others = verbs.GROUPS if case.name in WITH_EVERY_VERB else [third_of(verbs.GROUPS, case, 0)]
    groups = (*verbs.DTYPES, *others)
    reporting = functools.partial(case.program, verbs.reporting(groups))
    results, points = run(jb.instrument(jax.jit(reporting)), case)
    assert_points_equal(points, one_point_per_call(case, groups))
    assert_results_unchanged(results, run_bare_jitted(case))


# The harvested program is that of test_output. A callback takes the same frame, of any dtype.
BY_CALLBACK = [
    case
    for index, case in enumerate(CASES)
    if case.name in WITH_EVERY_VERB or case.family == meshes.FAMILY or index % 3 == 0
]


@pytest.mark.parametrize("case", BY_CALLBACK, ids=lambda case: case.name, indirect=True)
def test_callback(case):
    """Inside another jit, an instrumented function makes the same points."""
    reporting = functools.partial(case.program, verbs.reporting(verbs.DTYPES))
    results, points = run(jax.jit(jb.instrument(jax.jit(reporting))), case)
    assert_points_equal(points, one_point_per_call(case, verbs.DTYPES))
    assert_results_unchanged(results, run_bare_jitted(case))


def test_no_instrument(case):
    """A jitted function that is not instrumented reports every execution, in one point."""
    groups = (
        (*verbs.DTYPES, *verbs.GROUPS) if case.name in WITH_EVERY_VERB else callback_groups(case, 1)
    )
    reporting = functools.partial(case.program, verbs.reporting(groups))
    results, points = run(jax.jit(reporting), case)
    assert_points_equal(points, one_point(case, groups), ordered=not case.unordered)
    assert_results_unchanged(results, run_bare_jitted(case))


# Eager programs take long: JAX compiles their loops, and each operation on a mesh, anew in each call. Every second one is run.
ON_MESHES = {"shard_map", "grad_of_shard_map", "scan_in_shard_map", "pmap", "named_sharding"}
EAGER = [
    case
    for index, case in enumerate(CASES)
    if case.name in ON_MESHES | WITH_EVERY_VERB or (case.family != meshes.FAMILY and index % 2 == 0)
]


@pytest.mark.parametrize("case", EAGER, ids=lambda case: case.name, indirect=True)
def test_eager(case):
    """A function that is neither jitted nor instrumented reports every execution, in one point."""
    # JAX compiles the loops and maps of an eager program anew in each call.
    calls = CALLS if case.family == calls_of_functions.FAMILY else 1
    groups = callback_groups(case, 2)
    results, points = run(functools.partial(case.program, verbs.reporting(groups)), case, calls)
    assert_points_equal(points, one_point(case, groups, calls), ordered=not case.unordered)
    assert_results_unchanged(results, run_bare(case))
