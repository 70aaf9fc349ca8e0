"""Random programs: an instrumented function returns exactly what the bare one does, and counts every report.

All arithmetic is exact in float32, so that results do not depend on what XLA fuses.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax

import jaxboard as jb
from jaxboard.records import Kind
from jaxboard.testing import capture

# --- Programs -------------------------------------------------------------------------------------
# The state of a program: float32[3], int32, bool, a typed key, and an empty array.

FLAGS = np.array([True, False, True])
INDICES = np.array([0, 2, 1], np.int32)


def initial_state():
    return (
        jnp.array([1.0, -2.0, 3.0]),
        jnp.int32(1),
        jnp.bool_(True),
        jax.random.key(0),
        jnp.zeros(0),
    )


def bounded(x):
    return lax.clamp(-64.0, x, 64.0)


def change_x(function):
    return lambda s: (bounded(function(s[0])), *s[1:])


def change_int(function):
    return lambda s: (s[0], function(s[1]), *s[2:])


def with_key(s):
    key, other = jax.random.split(s[3])
    flip = jax.random.bernoulli(other)
    return (jnp.where(flip, s[0], -s[0]), s[1], s[2], key, s[4])


def with_ref(s):
    ref = jax.new_ref(s[0])
    ref[1] = ref[0]
    return (jax.freeze(ref), *s[1:])


PRIMITIVES = [
    change_x(lambda x: lax.select(False, x, x + 1)),
    change_x(lambda x: lax.select_n(np.bool_(True), x, 2 * x)),
    change_x(lambda x: lax.select_n(np.int32(2), x, x + 1, -x)),
    change_x(lambda x: lax.integer_pow(jnp.sign(x), 3)),
    change_x(lambda x: lax.sort(x, dimension=0)),
    change_x(lambda x: jnp.concatenate([x, jnp.zeros(0)])[::-1]),
    change_x(lambda x: x.astype(jnp.bfloat16).astype(jnp.float32)),
    change_x(lambda x: jnp.floor(x / 2)),
    change_x(lambda x: lax.complex(x, x).real),
    change_x(lambda x: lax.dynamic_update_slice(x, jnp.ones(1), (1,))),
    change_x(lambda x: x + x[jnp.argmax(x)]),
    change_x(lambda x: lax.reduce_precision(x, 8, 7)),
    change_x(lax.optimization_barrier),
    change_x(lambda x: lax.stop_gradient(x) + 0 * x),
    change_x(jax.nn.relu),  # a custom_jvp
    change_x(lambda x: jnp.where(x > 0, x, jnp.float32(7))),
    change_x(lax.cumsum),
    change_int(lambda i: lax.select(True, i, i + 1)),
    change_int(lambda i: (i << 1) % 7),
    change_int(lambda i: i.astype(jnp.uint8).astype(jnp.int32)),
    lambda s: (s[0], s[1], ~s[2], s[3], s[4]),
    lambda s: (s[0] + s[4].sum(), *s[1:]),
    lambda s: (*s[:4], s[4] * 2),
    with_key,
    with_ref,
]

KINDS = ("count", "last", "stack", "histogram", "layers", "step")

primitive = st.tuples(st.just("primitive"), st.integers(0, len(PRIMITIVES) - 1))
report = st.tuples(st.just("report"), st.sampled_from(KINDS))


def containers(inner):
    body = st.lists(inner, min_size=1, max_size=3)
    number = st.integers(0, 2)
    return st.one_of(
        st.tuples(st.sampled_from(["jit", "remat", "vmap", "jvp", "closed"]), body),
        st.tuples(st.sampled_from(["scan", "reverse scan", "fori", "while"]), number, body),
        st.tuples(st.sampled_from(["cond", "mapped cond"]), number, body, body),
        st.tuples(st.just("literal cond"), st.booleans(), body, body),
        st.tuples(st.just("switch"), number, body, body, body),
    )


operation = st.recursive(st.one_of(primitive, report), containers, max_leaves=8)
programs = st.lists(operation, min_size=1, max_size=4)


class Program:
    """A program that reports by the function ``emit(tag, kind, state)``, and how often it does.

    Attributes:
        counts: tag -> the number of observations.
    """

    def __init__(self, operations, emit):
        self.operations = operations
        self.emit = emit
        self.counts = {}

    def __call__(self, flags, indices, state):
        self.flags, self.indices, self.numbers = flags, indices, iter(range(1000))
        self.counts = {}
        return self.run(self.operations, state, 1)

    def run(self, operations, state, times):
        for operation in operations:
            state = self.apply(operation, state, times)
        return state

    def apply(self, operation, state, times):  # noqa: C901, PLR0912 (one case for each operation)
        match operation:
            case "primitive", number:
                return PRIMITIVES[number](state)
            case "report", kind:
                tag = f"{kind}{next(self.numbers)}"
                self.counts[tag] = times
                self.emit(tag, kind, state)
                return state
            case "jit", body:
                return jax.jit(lambda s: self.run(body, s, times))(state)
            case "closed", body:
                return jax.jit(lambda: self.run(body, state, times))()
            case "remat", body:
                return jax.checkpoint(lambda s: self.run(body, s, times))(state)
            case "vmap", body:
                lanes = jnp.stack([state[0], state[0] + 1])

                def lane(x):
                    return self.run(body, (x, *state[1:]), times * 2)

                return jax.tree.map(lambda x: x[0], jax.vmap(lane)(lanes))
            case "jvp", body:

                def of_x(x):
                    x, *rest = self.run(body, (x, *state[1:]), times)
                    return x, rest

                x, _, rest = jax.jvp(of_x, (state[0],), (jnp.ones(3),), has_aux=True)
                return (x, *rest)
            case (("scan" | "reverse scan"), iterations, body):

                def iteration(s, _):
                    return self.run(body, s, times * iterations), s[0]

                xs = jnp.arange(iterations)
                state, xs = lax.scan(iteration, state, xs, reverse=operation[0] != "scan")
                return (bounded(state[0] + xs.sum(0)), *state[1:])
            case "fori", iterations, body:
                # A dynamic bound: a while loop.
                stop = jnp.asarray(iterations) + 0 * self.indices[0]
                return lax.fori_loop(
                    0, stop, lambda _, s: self.run(body, s, times * iterations), state
                )
            case "while", iterations, body:

                def while_body(carry):
                    return carry[0] + 1, self.run(body, carry[1], times * iterations)

                return lax.while_loop(lambda carry: carry[0] < iterations, while_body, (0, state))[
                    1
                ]
            case "cond", flag, yes, no:
                taken = bool(FLAGS[flag])
                return lax.cond(
                    self.flags[flag],
                    lambda s: self.run(yes, s, times * taken),
                    lambda s: self.run(no, s, times * (not taken)),
                    state,
                )
            case "literal cond", taken, yes, no:
                # lax.cond traces both branches, and JAX may drop one.
                return lax.cond(
                    taken,
                    lambda s: self.run(yes, s, times * taken),
                    lambda s: self.run(no, s, times * (not taken)),
                    state,
                )
            case "mapped cond", _, yes, no:
                taken = int(FLAGS.sum())

                def choose(flag, x):
                    # Everything depends on the operand: jaxboard recognizes a branch by that.
                    s = (x, *state[1:])
                    return lax.cond(
                        flag,
                        lambda s: self.run([o for o in yes if o[0] == "report"], s, times * taken),
                        lambda s: self.run(
                            [o for o in no if o[0] == "report"], s, times * (3 - taken)
                        ),
                        s,
                    )

                lanes = jnp.stack([state[0], state[0] + 1, state[0] - 1])
                return jax.tree.map(lambda x: x[0], jax.vmap(choose)(self.flags, lanes))
            case "switch", number, *branches:
                taken = int(INDICES[number])
                functions = [
                    functools.partial(self.run, body, times=times * (n == taken))
                    for n, body in enumerate(branches)
                ]
                return lax.switch(
                    self.indices[number], [lambda s, f=f: f(state=s) for f in functions], state
                )
        raise ValueError(operation)


def emit(tag, kind, state):
    value = state[0].sum()
    match kind:
        case "count":
            jb.scalar(tag, value, reduce="count")
        case "last":
            jb.scalar(tag, value, reduce="last", every=2)
        case "stack":
            jb.scalar(tag, value, reduce="stack")
        case "histogram":
            jb.histogram(tag, state[0])
        case "layers":
            jb.histogram(tag, state[0], reduce="stack")
        case "step":
            jb.scalar(tag, value, reduce="count", step=jnp.int32(3) + 0 * state[1])


def observations(records):
    """Return the number of observations in the records of each tag."""
    found = {}
    for record in records:
        tag = record.tag.split("/")[0]
        if record.kind is Kind.HISTOGRAM:
            count = int(record.value.counts.sum()) // 3
        else:
            count = int(record.value) if tag.startswith(("count", "step")) else 1
        found[tag] = found.get(tag, 0) + count
    return found


def check(operations, **options):
    bare = Program(operations, lambda *_: None)
    reporting = Program(operations, emit)
    arguments = (jnp.asarray(FLAGS), jnp.asarray(INDICES), initial_state())
    expected = jax.jit(bare.__call__)(*arguments)
    step = jb.instrument(jax.jit(reporting.__call__), name="program", **options)
    with capture() as records:
        out = step(*arguments)
    for one, other in zip(*map(jax.tree.leaves, (out, expected)), strict=True):
        assert one.dtype == other.dtype
        if jnp.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)  # noqa: PLW2901
        np.testing.assert_array_equal(one, other)
    found = observations(records)
    for tag, count in reporting.counts.items():
        # A stack has a point for each place, and the iterations of a while loop share places.
        is_one_point = tag.startswith(("last", "stack"))
        assert (found.get(tag, 0) > 0) == (count > 0), (tag, count, found)
        if not is_one_point:
            assert found.get(tag, 0) == count, (tag, count, found)


@pytest.mark.filterwarnings("ignore:reports with step= in a while loop")
@settings(max_examples=25, deadline=None, derandomize=True)
@given(programs)
def test_any_program(operations):
    """A random program gives the results of the bare one, and every report counts as often as it ran."""
    check(operations)


def test_every_primitive():
    """Each primitive on its own, inside a branch that reports."""
    body = [("primitive", number) for number in range(len(PRIMITIVES))]
    check([("cond", 0, [*body, ("report", "histogram")], [("report", "step")])])
    check([("scan", 2, [*body, ("report", "step"), ("cond", 1, body, [("report", "count")])])])
