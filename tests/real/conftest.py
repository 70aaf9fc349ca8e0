"""Run a program twice, with jaxboard's verbs and with verbs that do nothing, and compare its results."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import jaxboard as jb
from jaxboard.testing import capture


class Silent:
    """Verbs that do nothing, and an ``instrument`` that returns its function."""

    @staticmethod
    def instrument(function=None, **_):
        return function if function is not None else lambda function: function

    @staticmethod
    def scalar(*_, **__):
        pass

    scalars = histogram = watch = image = scalar

    @staticmethod
    def tap(_, value, **__):
        return value


def _bits(tree):
    tree = jax.tree.map(
        lambda x: (
            jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x
        ),
        jax.tree.map(jax.numpy.asarray, tree),
    )
    return [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree)]


@pytest.fixture
def records_of():
    """Return a function that runs a program both ways, compares the bits of its results, and returns the records."""

    def run(program):
        expected = program(Silent)
        with capture() as records:
            result = program(jb)
        assert _bits(result) == _bits(expected)
        return records

    return run


@pytest.fixture
def points_of(records_of):
    """Return such a function with the records as ``{tag: [(step, value), …]}``, for scalars."""

    def run(program):
        points = {}
        for record in records_of(program):
            points.setdefault(record.tag, []).append((record.step, record.value))
        return points

    return run
