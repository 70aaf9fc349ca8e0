"""Pruning removes the reports of some cadences from a jaxpr, and what only they read."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import eval_jaxpr

import jaxboard as jb
from jaxboard import _compat
from jaxboard._trace.pruning import prune

X = jnp.arange(1.0, 4.0)


def report(x):
    jb.histogram("h", x + 1, every=2)
    jb.scalar("last", jnp.exp(x.sum()), every=3, reduce="last")
    jb.scalar("window", x.sum(), every=2)


@jax.jit
def layer(x):
    report(x)
    return jnp.tanh(x)


def program(x):
    x = layer(layer(x))

    def body(c, x):
        report(x)
        return c + x.sum(), None

    total, _ = lax.scan(body, 0.0, jnp.stack([x, x]))
    total = lax.cond(total > 0, lambda: (report(x), total)[1], lambda: -total)
    return jax.grad(lambda x: lax.fori_loop(0, 3, lambda _, x: layer(x), x).sum())(x), total


def tags(jaxpr):
    return {tag for tag in ("'h'", "'last'", "'window'") if f"tag={tag}" in str(jaxpr)}


def test_reports_of_a_cadence_disappear_everywhere():
    """Sampled reports of the cadences are gone from all bodies, windows and other cadences stay, results are equal."""
    jaxpr = jax.make_jaxpr(program)(X)
    for not_due, left in (
        ({2}, {"'last'", "'window'"}),
        ({3}, {"'h'", "'window'"}),
        ({2, 3}, {"'window'"}),
        ({5}, {"'h'", "'last'", "'window'"}),
    ):
        pruned = prune(jaxpr, frozenset(not_due))
        assert tags(pruned) == left
        body, consts = _compat.open_jaxpr(pruned)
        actual = jax.jit(eval_jaxpr, static_argnums=0)(body, consts, X)
        expected = jax.tree.leaves(jax.jit(program)(X))
        for one, other in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_nothing_to_remove():
    """A jaxpr without reports of the cadences is returned as it is."""
    jaxpr = jax.make_jaxpr(program)(X)
    assert prune(jaxpr, frozenset()) is jaxpr
    assert prune(jaxpr, frozenset({7})) is jaxpr


def test_what_only_a_report_reads_disappears():
    """The equations that compute a removed report go with it, and so does its effect."""

    def sampled(x):
        jb.watch("w", {"x": x, "y": jnp.sin(x)}, every=2)
        return 2 * x

    jaxpr = jax.make_jaxpr(jax.jit(sampled))(X)
    pruned = prune(jaxpr, frozenset({2}))
    expected = jax.make_jaxpr(jax.jit(lambda x: 2 * x))(X)
    (eqn,), (bare,) = pruned.eqns, expected.eqns
    assert str(eqn.params["jaxpr"]) == str(bare.params["jaxpr"])
    assert not pruned.effects
    assert not eqn.effects
    assert jaxpr.effects


def test_a_shared_body_stays_shared():
    """A jitted function with many calls keeps one body, which JAX lowers once."""
    jaxpr = jax.make_jaxpr(lambda x: layer(layer(layer(x))))(X)
    assert len({id(eqn.params["jaxpr"]) for eqn in jaxpr.eqns}) == 1
    pruned = prune(jaxpr, frozenset({2, 3}))
    assert len({id(eqn.params["jaxpr"]) for eqn in pruned.eqns}) == 1
