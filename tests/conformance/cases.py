"""The table of programs, one for each transformation, and what each has to report.

A program gets ``report(tag, value)`` and its arguments. Beside it stands what happens when plain Python
runs it by hand: for each tag the executions of the report, and in each the values of its lanes,
``[[1, 2, 3]]`` for one execution under a ``vmap`` of three, ``[[1], [2], [3]]`` for three iterations of a
loop. Values are small integers, so that every reduction of them is exact.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

Observed: TypeAlias = Mapping[str, Sequence[Sequence[float]]]
Report: TypeAlias = Callable[[str, Any], None]


@dataclasses.dataclass(frozen=True)
class Case:
    """A program and what it reports.

    Attributes:
        name: of the transformation.
        program: called with ``report`` and ``args``.
        args: of the program.
        observed: what each call reports.
        unharvested: what callbacks report where nothing harvests them, if that differs.
        unordered: whether those callbacks come in no order, so that none of them is the last one.
        family: the heading it stands under in the table of guarantees.
        note: what a reader of that table might not expect.
    """

    name: str
    program: Callable[..., Any]
    args: tuple[Any, ...]
    observed: Observed
    unharvested: Observed | None
    unordered: bool
    family: str
    note: str


CASES: list[Case] = []


def case(
    name: str,
    *args: Any,
    observed: Observed,
    unharvested: Observed | None = None,
    unordered: bool = False,
    family: str,
    note: str = "",
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    def add(program: Callable[..., Any]) -> Callable[..., Any]:
        CASES.append(Case(name, program, args, observed, unharvested, unordered, family, note))
        return program

    return add


def each(*values: float) -> list[list[float]]:
    """Executions with one value each."""
    return [[value] for value in values]


XS = np.array([3.0, 1.0, 2.0, 6.0], np.float32)
ROWS = np.arange(6, dtype=np.float32).reshape(2, 3)
X = np.float32(2.0)

# --------------------------------------------------------------------------------- functions

calls = functools.partial(case, family="calls")


@calls("jit", X, observed={"x": [[2]]})
def _(report, x):
    report("x", x)
    return jnp.sin(x)


@calls("nested jit", X, observed={"x": each(2, 4)}, unordered=True)
def _(report, x):
    @jax.jit
    def inner(x):
        report("x", x)
        return x * 2

    return jnp.sin(inner(inner(x)))


@calls("jit of one function with two shapes", X, observed={"x": each(2, 6)}, unordered=True)
def _(report, x):
    @jax.jit
    def inner(x):
        report("x", x.sum())
        return jnp.sin(x)

    return inner(x), inner(jnp.stack([x, x, x]))


@calls("a value that is no argument's", X, observed={"x": [[7]]})
def _(report, x):
    report("x", 7.0)
    return jnp.sin(x)


# ------------------------------------------------------------------------------- derivatives

derivatives = functools.partial(case, family="derivatives")


def loss(report: Report, x: Any) -> Any:
    report("x", x.sum())
    return jnp.sum(jnp.sin(x) * x)


@derivatives("grad", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.grad(functools.partial(loss, report))(xs)


@derivatives("value_and_grad", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.value_and_grad(functools.partial(loss, report))(xs)


@derivatives("jvp", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.jvp(functools.partial(loss, report), (xs,), (xs,))


@derivatives("linearize", XS, observed={"x": [[12]]})
def _(report, xs):
    value, linear = jax.linearize(functools.partial(loss, report), xs)
    return value, linear(xs), linear(2 * xs)


@derivatives("vjp, pulled back twice", XS, observed={"x": [[12]]})
def _(report, xs):
    value, pull = jax.vjp(functools.partial(loss, report), xs)
    return pull(value), pull(2 * value)


@derivatives("jacfwd", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.jacfwd(functools.partial(loss, report))(xs)


@derivatives("jacrev", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.jacrev(functools.partial(loss, report))(xs)


@derivatives("hessian", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.hessian(functools.partial(loss, report))(xs)


@derivatives("grad of grad", X, observed={"x": [[2]]})
def _(report, x):
    return jax.grad(jax.grad(functools.partial(loss, report)))(x)


@derivatives("remat", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.grad(jax.checkpoint(functools.partial(loss, report)))(xs)


@derivatives("remat that nobody differentiates", XS, observed={"x": [[12]]})
def _(report, xs):
    return jax.checkpoint(functools.partial(loss, report))(xs)


for _policy in ("everything_saveable", "nothing_saveable", "dots_saveable"):

    @derivatives(f"remat, {_policy}", XS, observed={"x": [[12]]})
    def _(report, xs, policy=_policy):
        saved = getattr(jax.checkpoint_policies, policy)
        return jax.grad(jax.checkpoint(functools.partial(loss, report), policy=saved))(xs)


@derivatives("remat in remat", XS, observed={"x": [[12]]})
def _(report, xs):
    inner = jax.checkpoint(functools.partial(loss, report))
    return jax.grad(jax.checkpoint(lambda xs: inner(xs) ** 2))(xs)


def with_jvp(report: Report) -> Any:
    @jax.custom_jvp
    def f(x):
        report("plain", x)
        return jnp.sin(x)

    @f.defjvp
    def _(primals, tangents):
        report("rule", primals[0])
        return jnp.sin(primals[0]), 3 * tangents[0]

    return f


@derivatives("custom_jvp", X, observed={"plain": [[2]]})
def _(report, x):
    return with_jvp(report)(x)


@derivatives("custom_jvp under grad", X, observed={"rule": [[2]]})
def _(report, x):
    return jax.grad(with_jvp(report))(x)


def with_vjp(report: Report) -> Any:
    @jax.custom_vjp
    def f(x):
        report("plain", x)
        return jnp.sin(x)

    def forward(x):
        report("forward", x + 1)
        return jnp.sin(x), x

    def backward(x, g):
        report("backward", g + x)
        return (3 * g,)

    f.defvjp(forward, backward)
    return f


@derivatives("custom_vjp", X, observed={"plain": [[2]]})
def _(report, x):
    return with_vjp(report)(x)


@derivatives("custom_vjp under grad", X, observed={"forward": [[3]], "backward": [[3]]})
def _(report, x):
    return jax.grad(with_vjp(report))(x)


@derivatives(
    "custom_vjp under scan and grad",
    XS,
    observed={"forward": each(4, 2, 3, 7), "backward": each(7, 3, 2, 4)},
)
def _(report, xs):
    def total(xs):
        return lax.scan(lambda c, x: (c + with_vjp(report)(x), None), 0.0, xs)[0]

    return jax.grad(total)(xs)


@derivatives("remat of custom_vjp under grad", X, observed={"forward": [[3]], "backward": [[3]]})
def _(report, x):
    return jax.grad(jax.checkpoint(with_vjp(report)))(x)


@derivatives("custom_linear_solve", XS, observed={"x": [[12]]})
def _(report, xs):
    def solve(matvec, b):
        report("x", b.sum())
        return b / 2

    return lax.custom_linear_solve(lambda x: 2 * x, xs, solve, symmetric=True)


@derivatives("custom_root", X, observed={"x": [[2]]})
def _(report, x):
    def solve(f, guess):
        report("x", guess)
        return guess - f(guess) / 2

    return lax.custom_root(lambda y: 2 * y - x, x, solve, lambda g, y: y / g(1.0))


# ---------------------------------------------------------------------------------------- vmap

maps = functools.partial(case, family="vmap")


@maps("vmap", XS, observed={"x": [[3, 1, 2, 6]]})
def _(report, xs):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return jax.vmap(lane)(xs)


@maps(
    "vmap, in_axes mixed",
    ROWS,
    X,
    observed={"x": [[2, 4, 6]], "shared": [[2]]},
    note="a value that all lanes share counts once",
)
def _(report, rows, x):
    def lane(column, x):
        report("x", column.sum() - 1)
        report("shared", x)
        return jnp.sin(column)

    return jax.vmap(lane, in_axes=(1, None), out_axes=1)(rows, x)


@maps("vmap of vmap", ROWS, observed={"x": [[0, 1, 2, 3, 4, 5]]})
def _(report, rows):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return jax.vmap(jax.vmap(lane))(rows)


@maps("vmap of vmap over other axes", ROWS, observed={"x": [[0, 3, 1, 4, 2, 5]]})
def _(report, rows):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return jax.vmap(jax.vmap(lane), in_axes=1)(rows)


@maps("vmap of grad", XS, observed={"x": [[3, 1, 2, 6]]})
def _(report, xs):
    return jax.vmap(jax.grad(functools.partial(loss, report)))(xs)


@maps("grad of vmap", XS, observed={"x": [[3, 1, 2, 6]]})
def _(report, xs):
    return jax.grad(lambda xs: jax.vmap(functools.partial(loss, report))(xs).sum())(xs)


@maps("vmap of custom_vjp", XS, observed={"plain": [[3, 1, 2, 6]]})
def _(report, xs):
    return jax.vmap(with_vjp(report))(xs)


@maps("vmap of jit", XS, observed={"x": [[3, 1, 2, 6]]})
def _(report, xs):
    return jax.vmap(jax.jit(functools.partial(loss, report)))(xs)


@maps("vmap of scan", ROWS, observed={"x": [[0, 3], [1, 4], [2, 5]]})
def _(report, rows):
    def lane(row):
        return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), c))[1], 0.0, row)

    return jax.vmap(lane)(rows)


@maps("scan of vmap", ROWS, observed={"x": [[0, 1, 2], [3, 4, 5]]})
def _(report, rows):
    def lane(x):
        report("x", x)
        return jnp.sin(x)

    return lax.scan(lambda c, row: (c, jax.vmap(lane)(row)), 0.0, rows)


@maps("vmap of a map with spmd_axis_name", XS, observed={"x": [[3, 1, 2, 6]]})
def _(report, xs):
    mesh = jax.make_mesh((4,), ("d",), axis_types=(AxisType.Auto,))
    constrained = NamedSharding(mesh, P())

    def lane(x):
        report("x", x)
        return lax.with_sharding_constraint(jnp.sin(x), constrained)

    return jax.vmap(lane, spmd_axis_name="d")(xs)


# ---------------------------------------------------------------------------------------- loops

loops = functools.partial(case, family="loops")


@loops("scan", XS, observed={"x": each(3, 1, 2, 6)})
def _(report, xs):
    return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), c))[1], 0.0, xs)


@loops("reverse scan", XS, observed={"x": each(6, 2, 1, 3)})
def _(report, xs):
    def body(c, x):
        report("x", x)
        return c + jnp.sin(x), c

    return lax.scan(body, 0.0, xs, reverse=True)


@loops("unrolled scan", XS, observed={"x": each(3, 1, 2, 6)}, unordered=True)
def _(report, xs):
    def body(c, x):
        report("x", x)
        return c + jnp.sin(x), c

    return lax.scan(body, 0.0, xs, unroll=3)


@loops("scan of scan", ROWS, observed={"x": each(0, 1, 2, 3, 4, 5), "row": each(3, 12)})
def _(report, rows):
    def outer(c, row):
        report("row", row.sum())
        return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), None))[1], c, row)

    return lax.scan(outer, 0.0, rows)


@loops("scan without an iteration", XS[:0], observed={})
def _(report, xs):
    return lax.scan(lambda c, x: (report("x", x), (c + x, c))[1], 0.0, xs)


@loops("grad of scan", XS, observed={"x": each(3, 1, 2, 6)})
def _(report, xs):
    def total(xs):
        return lax.scan(lambda c, x: (c + loss(report, x), None), 0.0, xs)[0]

    return jax.grad(total)(xs)


@loops(
    "grad of scan: a value that no iteration changes",
    XS,
    X,
    observed={"x": [[2]]},
    note="JAX computes it, and what reports it, once, before the loop",
)
def _(report, xs, x):
    def body(c, y):
        report("x", x)
        return c + jnp.sin(y), None

    return jax.grad(lambda xs: lax.scan(body, 0.0, xs)[0])(xs)


@loops("grad of a scan of remat", XS, observed={"x": each(1, 2, 3, 4, 5)})
def _(report, xs):
    @jax.checkpoint
    def layer(x, number):
        report("x", number)
        return jnp.sin(x) * x

    def stack(xs):
        numbers = jnp.arange(1.0, 6.0)
        return lax.scan(lambda x, n: (layer(x, n), None), xs, numbers)[0].sum()

    return jax.grad(stack)(xs)


@loops("fori_loop", X, observed={"i": each(0, 1, 2, 3)})
def _(report, x):
    return lax.fori_loop(0, 4, lambda i, x: (report("i", 1.0 * i), jnp.sin(x))[1], x)


@loops("fori_loop of unknown length", X, 3, observed={"i": each(0, 1, 2)})
def _(report, x, n):
    return lax.fori_loop(0, n, lambda i, x: (report("i", 1.0 * i), jnp.sin(x))[1], x)


@loops("grad of fori_loop", X, observed={"i": each(0, 1, 2, 3)})
def _(report, x):
    def loop(x):
        return lax.fori_loop(0, 4, lambda i, x: (report("i", 1.0 * i), jnp.sin(x))[1], x)

    return jax.grad(loop)(x)


@loops("jvp of while", X, observed={"x": each(2, 3, 4)})
def _(report, x):
    def loop(x):
        return lax.while_loop(lambda x: x < 5, lambda x: (report("x", x), x + 1)[1], x)

    return jax.jvp(loop, (x,), (x,))


@loops("while: body", X, observed={"x": each(2, 3, 4)})
def _(report, x):
    return lax.while_loop(lambda x: x < 5, lambda x: (report("x", x), x + 1)[1], x)


@loops("while: predicate", X, observed={"x": each(2, 3, 4, 5)})
def _(report, x):
    return lax.while_loop(lambda x: (report("x", x), x < 5)[1], lambda x: x + 1, x)


@loops("while: both", X, observed={"test": each(2, 3, 4, 5), "trip": each(2, 3, 4)})
def _(report, x):
    def test(x):
        report("test", x)
        return x < 5

    def trip(x):
        report("trip", x)
        return x + 1

    return lax.while_loop(test, trip, x)


@loops("while without a trip", X, observed={})
def _(report, x):
    return lax.while_loop(lambda x: x < 0, lambda x: (report("x", x), x + 1)[1], x)


@loops("while of scan", X, observed={"x": each(2, 3, 3, 4)})
def _(report, x):
    def trip(x):
        lax.scan(lambda c, i: (report("x", x + i), (c, None))[1], 0.0, jnp.arange(2.0))
        return x + 1

    return lax.while_loop(lambda x: x < 4, trip, x)


@loops(
    "vmap of while",
    XS,
    observed={"x": [[1, 2, 3], [2, 3], [3]]},
    unharvested={"x": [[3, 1, 2, 6], [4, 2, 3, 6], [4, 3, 4, 6]]},
)
def _(report, xs):
    return jax.vmap(
        lambda x: lax.while_loop(lambda x: x < 4, lambda x: (report("x", x), x + 1)[1], x)
    )(xs)


@loops(
    "vmap of while: predicate",
    XS,
    observed={"x": [[3, 1, 2, 6], [4, 2, 3], [3, 4], [4]]},
    # The loop asks the predicate twice: whether to go on, and which lanes do.
    unharvested={"x": [[3, 1, 2, 6], [4, 2, 3, 6], [4, 3, 4, 6]] * 2 + [[4, 4, 4, 6]]},
)
def _(report, xs):
    return jax.vmap(
        lambda x: lax.while_loop(lambda x: (report("x", x), x < 4)[1], lambda x: x + 1, x)
    )(xs)


@loops("vmap of while, one count for all", XS, observed={"x": [[3, 1, 2, 6], [6, 2, 4, 12]]})
def _(report, xs):
    def lane(x):
        def trip(state):
            i, x = state
            report("x", x)
            return i + 1, x * 2

        return lax.while_loop(lambda state: state[0] < 2, trip, (0, x))

    return jax.vmap(lane)(xs)


@loops(
    "vmap of vmap of while",
    ROWS,
    observed={"x": [[0, 1, 2], [1, 2], [2]]},
    unharvested={"x": [[0, 1, 2, 3, 4, 5], [1, 2, 3, 3, 4, 5], [2, 3, 3, 3, 4, 5]]},
)
def _(report, rows):
    def lane(x):
        return lax.while_loop(lambda x: x < 3, lambda x: (report("x", x), x + 1)[1], x)

    return jax.vmap(jax.vmap(lane))(rows)


@loops("map", XS, observed={"x": each(3, 1, 2, 6)})
def _(report, xs):
    return lax.map(lambda x: (report("x", x), jnp.sin(x))[1], xs)


@loops("map in batches", XS, observed={"x": [[3, 1], [2, 6]]})
def _(report, xs):
    return lax.map(lambda x: (report("x", x), jnp.sin(x))[1], xs, batch_size=2)


@loops("associative_scan", XS, observed={"x": each(15, 32, 0, 8)}, unordered=True)
def _(report, xs):
    def combine(a, b):
        report("x", (a * b).sum())
        return a + b

    return lax.associative_scan(combine, xs)


# -------------------------------------------------------------------------------------- branches

branches = functools.partial(case, family="branches")


@branches("cond, taken", X, observed={"yes": [[2]]})
def _(report, x):
    def yes(x):
        report("yes", x)
        return jnp.sin(x)

    return lax.cond(x > 0, yes, jnp.cos, x)


@branches("cond, not taken", X, observed={})
def _(report, x):
    def yes(x):
        report("yes", x)
        return jnp.sin(x)

    return lax.cond(x < 0, yes, jnp.cos, x)


@branches("switch", X, np.int32(1), observed={"all": [[3]], "some": [[2]]})
def _(report, x, index):
    def branch(number, x):
        report("all", x + number)
        if number:
            report("some", x)
        return jnp.sin(x) * number

    return lax.switch(index, [functools.partial(branch, number) for number in range(3)], x)


@branches("grad of cond", X, observed={"yes": [[2]]})
def _(report, x):
    def yes(x):
        report("yes", x)
        return jnp.sin(x)

    return jax.grad(lambda x: lax.cond(x > 0, yes, jnp.cos, x))(x)


@branches("cond in scan", XS, observed={"big": each(3, 6), "small": each(1, 2)})
def _(report, xs):
    def body(c, x):
        y = lax.cond(
            x > 2, lambda: (report("big", x), jnp.sin(x))[1], lambda: (report("small", x), x)[1]
        )
        return c + y, y

    return lax.scan(body, 0.0, xs)


@branches("cond in while", X, observed={"even": each(2, 4)})
def _(report, x):
    def trip(x):
        lax.cond(x % 2 == 0, lambda: report("even", x), lambda: None)
        return x + 1

    return lax.while_loop(lambda x: x < 6, trip, x)


@branches("scan in cond", XS, observed={"x": each(3, 1, 2, 6)})
def _(report, xs):
    def yes(xs):
        return lax.scan(lambda c, x: (report("x", x), (c + jnp.sin(x), None))[1], 0.0, xs)[0]

    return lax.cond(xs.sum() > 0, yes, jnp.sum, xs)


@branches("cond in cond", X, observed={"x": [[2]]})
def _(report, x):
    def inner(x):
        return lax.cond(x > 1, lambda x: (report("x", x), jnp.sin(x))[1], jnp.cos, x)

    return lax.cond(x > 0, inner, jnp.tan, x)


@branches("vmap of cond, one predicate", XS, np.True_, observed={"yes": [[3, 1, 2, 6]]})
def _(report, xs, predicate):
    def lane(x):
        return lax.cond(predicate, lambda x: (report("yes", x), jnp.sin(x))[1], jnp.cos, x)

    return jax.vmap(lane)(xs)


@branches(
    "vmap of cond, a predicate for each lane",
    XS,
    observed={"big": [[3, 6]], "small": [[1, 2]], "after": [[3, 1, 2, 6]]},
    unharvested={"big": [[3, 1, 2, 6]], "small": [[3, 1, 2, 6]], "after": [[3, 1, 2, 6]]},
)
def _(report, xs):
    def lane(x):
        def big(x):
            report("big", x)
            return x * 1.0

        def small(x):
            report("small", x)
            return x + 0.0

        y = lax.cond(x > 2, big, small, x)
        report("after", y)
        return jnp.sin(y)

    return jax.vmap(lane)(xs)


@branches(
    "vmap of cond: a constant in a branch",
    XS,
    observed={"constant": [[7]]},
    note="depends on no operand of the branch, and counts once, whichever lanes are in it",
)
def _(report, xs):
    def big(x):
        report("constant", 7.0)
        return jnp.sin(x)

    return jax.vmap(lambda x: lax.cond(x > 2, big, jnp.cos, x))(xs)


@branches(
    "vmap of switch in scan under grad",
    XS,
    observed={
        "0": [[3, 6], [4, 7]],
        "1": [[1], [2]],
        "2": [[2], [3]],
        "grad": [[2, 8, 18, 2]],
    },
    unharvested={
        **{str(number): [[3, 1, 2, 6], [4, 2, 3, 7]] for number in range(3)},
        "grad": [[2, 8, 18, 2]],
    },
)
def _(report, xs):
    def branch(number, x, w):
        report(str(number), x)
        return w * (number + 1)

    def lane(x):
        index = x.astype(jnp.int32) % 3

        def total(w):
            def body(w, i):
                numbered = [functools.partial(branch, number) for number in range(3)]
                return lax.switch(index, numbered, x + i, w), None

            return lax.scan(body, w, jnp.arange(2.0))[0]

        gradient = jax.grad(total)(1.0)
        report("grad", gradient * 2)
        return gradient * jnp.sin(x)

    return jax.vmap(lane)(xs)


@branches(
    "vmap of a cond that loops",
    XS,
    observed={"x": [[3, 6], [4, 7]]},
    unharvested={"x": [[3, 1, 2, 6], [4, 2, 3, 7]]},
)
def _(report, xs):
    def loop(x):
        return lax.fori_loop(0, 2, lambda i, x: (report("x", x), x + 1)[1], x)

    return jax.vmap(lambda x: lax.cond(x > 2, loop, jnp.sin, x))(xs)


@branches("platform_dependent", X, observed={"cpu": [[2]]})
def _(report, x):
    def on_cpu(x):
        report("cpu", x)
        return jnp.sin(x)

    def elsewhere(x):
        report("elsewhere", x)
        return jnp.cos(x)

    return lax.platform_dependent(x, cpu=on_cpu, default=elsewhere)


# ---------------------------------------------------------------------------------------- meshes

meshes = functools.partial(case, family="meshes", unordered=True)
EIGHT = np.arange(8, dtype=np.float32)


def line() -> jax.sharding.Mesh:
    return jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))


def grid() -> jax.sharding.Mesh:
    return jax.make_mesh((4, 2), ("x", "y"), axis_types=(AxisType.Auto,) * 2)


@meshes("shard_map", EIGHT, observed={"x": each(*range(8))})
def _(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))(xs)


@meshes(
    "shard_map: psum",
    EIGHT,
    observed={"x": each(*range(8)), "total": [[28]]},
    unharvested={"x": each(*range(8)), "total": each(*[28] * 8)},
)
def _(report, xs):
    def shard(x):
        total = lax.psum(x.sum(), "d")
        report("total", total)
        report("x", x.sum())
        return jnp.sin(x) * total

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))(xs)


@meshes(
    "shard_map: check_vma=False",
    EIGHT,
    observed={"total": each(*[28] * 8)},
    note="JAX does not know that it is the same on all devices: each counts",
)
def _(report, xs):
    def shard(x):
        total = lax.psum(x.sum(), "d")
        report("total", total)
        return jnp.sin(x) * total

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"), check_vma=False)(xs)


@meshes(
    "shard_map over two axes, one used",
    EIGHT,
    observed={"x": each(1, 5, 9, 13)},
    unharvested={"x": each(*[1, 5, 9, 13] * 2)},
)
def _(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=grid(), in_specs=P("x"), out_specs=P("x"))(xs)


@meshes("shard_map, partly automatic", EIGHT, observed={"x": each(1, 5, 9, 13)})
def _(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=grid(), in_specs=P("x"), out_specs=P("x"), axis_names={"x"})(
        xs
    )


@meshes("shard_map in shard_map", EIGHT, observed={"x": each(*range(8))})
def _(report, xs):
    def inner(x):
        report("x", x.sum())
        return jnp.sin(x)

    def outer(x):
        return jax.shard_map(inner, in_specs=P("y"), out_specs=P("y"), axis_names={"y"})(x)

    return jax.shard_map(outer, mesh=grid(), in_specs=P("x"), out_specs=P("x"), axis_names={"x"})(
        xs
    )


@meshes(
    "scan in shard_map",
    EIGHT,
    observed={"x": each(*range(8), *range(1, 9)), "i": each(0, 1)},
    unharvested={"x": each(*range(8), *range(1, 9)), "i": each(*[0, 1] * 8)},
)
def _(report, xs):
    def shard(x):
        def body(c, i):
            report("x", c.sum())
            report("i", i)
            return c + 1, jnp.sin(c)

        return lax.scan(body, x, jnp.arange(2.0))[0]

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))(xs)


@meshes("while in shard_map", EIGHT, observed={"x": each(2, 1, 2, *[0, 1, 2])})
def _(report, xs):
    def shard(x):
        x = lax.while_loop(lambda x: x[0] < 3, lambda x: (report("x", x[0]), x + 1)[1], x)
        return jnp.sin(x)

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))(xs)


@meshes("cond in shard_map", EIGHT, observed={"big": each(5, 6, 7), "small": each(0, 1, 2, 3, 4)})
def _(report, xs):
    def shard(x):
        def big(x):
            report("big", x[0])
            return jnp.sin(x)

        def small(x):
            report("small", x[0])
            return jnp.cos(x)

        return lax.cond(x[0] > 4, big, small, x)

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))(xs)


@meshes("grad of shard_map", EIGHT, observed={"x": each(*range(8))})
def _(report, xs):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    mapped = jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))
    return jax.grad(lambda xs: mapped(xs).sum())(xs)


@meshes("grad in shard_map", EIGHT, observed={"x": each(*range(8))})
def _(report, xs):
    def shard(x):
        return jax.grad(functools.partial(loss, report))(x)

    return jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d"))(xs)


@meshes(
    "vmap of shard_map",
    np.stack([EIGHT, EIGHT + 8]),
    observed={"x": [[i, i + 8] for i in range(8)]},
)
def _(report, rows):
    def shard(x):
        report("x", x.sum())
        return jnp.sin(x)

    return jax.vmap(jax.shard_map(shard, mesh=line(), in_specs=P("d"), out_specs=P("d")))(rows)


@meshes("pmap", EIGHT, observed={"x": each(*range(8))})
def _(report, xs):
    def device(x):
        report("x", x)
        return jnp.sin(x) * lax.psum(x, "d")

    return jax.pmap(device, axis_name="d")(xs)


@meshes("NamedSharding", EIGHT, observed={"x": [[28]]})
def _(report, xs):
    xs = lax.with_sharding_constraint(xs, NamedSharding(line(), P("d")))
    report("x", xs.sum())
    return jnp.sin(xs)


@meshes("vmap over a sharded axis", EIGHT, observed={"x": [list(range(8))]})
def _(report, xs):
    xs = lax.with_sharding_constraint(xs, NamedSharding(line(), P("d")))
    return jax.vmap(lambda x: (report("x", x), jnp.sin(x))[1])(xs)


@meshes("scan over a sharded batch", EIGHT, observed={"x": each(28, 36)})
def _(report, xs):
    xs = lax.with_sharding_constraint(xs, NamedSharding(line(), P("d")))
    return lax.scan(lambda c, i: (report("x", c.sum()), (c + 1, jnp.sin(c)))[1], xs, None, length=2)
