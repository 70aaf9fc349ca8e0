"""Values that a program may pass by mistake, each made anew for every call."""

from __future__ import annotations

import dataclasses
import decimal
import fractions
import functools
import pathlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import sparse


@dataclasses.dataclass(frozen=True)
class Value:
    """A value by name. ``make`` is called with a number or a tracer: the value of the surrounding program."""

    name: str
    make: Callable[[Any], Any]

    def __repr__(self):
        return f"<{self.name}>"


class Hostile:
    """An object of which everything raises."""

    def _raise(self, *args, **kwargs):
        raise ZeroDivisionError("a property of the object")

    __array__ = __jax_array__ = __iter__ = __len__ = __index__ = __float__ = __int__ = _raise
    __bool__ = __eq__ = __hash__ = __repr__ = __str__ = __fspath__ = __getitem__ = __call__ = _raise
    __lt__ = __gt__ = __le__ = __ge__ = __enter__ = __dlpack__ = items = to_dict = _raise
    shape = dtype = figure = write = flush = close = property(_raise)


class NoRepr:
    """An object that has no text."""

    def __repr__(self):
        raise ValueError("no text")


class BadArray:
    """An object whose conversion to an array raises."""

    def __array__(self, dtype=None, copy=None):
        raise OSError("the file of the array is gone")


class WrongArray:
    """An object whose conversion returns something else."""

    def __array__(self, dtype=None, copy=None):
        return "text"


class WrongJaxArray:
    """An object whose conversion for JAX returns something else."""

    def __jax_array__(self):
        return "text"


class AnyAttribute:
    """An object that has every attribute, such as a mock."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        return self


class TextIndex:
    """An object whose index is not an integer."""

    def __index__(self):
        return "3"  # noqa: PLE0305


@jax.tree_util.register_pytree_node_class
class BadNode:
    """A node of a pytree that cannot be flattened."""

    def tree_flatten(self):
        raise AttributeError("no children")

    @classmethod
    def tree_unflatten(cls, _, children):
        return cls()


class Text(str):
    """A text of another type."""

    __slots__ = ()


class BadPath:
    """A path whose text is not available."""

    def __fspath__(self):
        raise OSError("no path")


class BytesPath:
    """A path of bytes."""

    def __fspath__(self):
        return b"bytes"


def _deleted():
    with jax.ensure_compile_time_eval():
        array = jax.device_put(np.arange(3.0, dtype=np.float32))
    array.delete()
    return array


def _deleted_scalar():
    with jax.ensure_compile_time_eval():
        array = jax.device_put(np.float32(1))
    array.delete()
    return array


@functools.cache
def _leaked():
    kept = []
    jax.make_jaxpr(lambda x: kept.append(x) or x)(1.0)
    return kept[0]


@functools.cache
def _leaked_vector():
    kept = []
    jax.make_jaxpr(lambda x: kept.append(x) or x)(jnp.ones(3))
    return kept[0]


def _freed_ref():
    ref = jax.new_ref(jnp.ones(3))
    jax.freeze(ref)
    return ref


def _cycle():
    values: list[Any] = [1.0]
    values.append(values)
    return values


def _cyclic_dict():
    values: dict[str, Any] = {}
    values["a"] = values
    return values


def _deep():
    value: Any = 1.0
    for _ in range(5_000):
        value = [value]
    return value


def _sharded():
    mesh = jax.make_mesh((8,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("d"))
    return jax.device_put(np.arange(16.0, dtype=np.float32), sharding)


def _masked():
    return np.ma.masked_array([1.0, 2.0], mask=[True, False])


def _generator():
    yield from (1.0, "two")


def _named(**makers):
    return [Value(name, maker) for name, maker in makers.items()]


NUMBERS = _named(
    zero=lambda x: 0,
    one=lambda x: 1,
    minus_one=lambda x: -1,
    true=lambda x: True,
    half=lambda x: 0.5,
    nan=lambda x: float("nan"),
    inf=lambda x: float("inf"),
    minus_inf=lambda x: float("-inf"),
    large_float=lambda x: 1e300,
    tiny_float=lambda x: 5e-324,
    beyond_32_bits=lambda x: 2**40,
    beyond_64_bits=lambda x: 2**70,
    beyond_floats=lambda x: 10**400,
    minus_beyond_floats=lambda x: -(10**400),
    too_long_to_print=lambda x: 10**5000,
    largest_int64=lambda x: 2**63 - 1,
    smallest_int64=lambda x: -(2**63),
    numpy_nan=lambda x: np.float32("nan"),
    numpy_int=lambda x: np.int8(3),
    numpy_uint64=lambda x: np.uint64(2**64 - 1),
    longdouble=lambda x: np.longdouble("1e4000"),
    decimal=lambda x: decimal.Decimal("1.5"),
    decimal_nan=lambda x: decimal.Decimal("sNaN"),
    fraction=lambda x: fractions.Fraction(1, 3),
    complex_number=lambda x: 1j,
    jax_scalar=lambda x: jnp.float32(2),
    jax_int=lambda x: jnp.int32(2),
    jax_bool=lambda x: jnp.array(True),
    jax_nan=lambda x: jnp.float32(jnp.nan),
    traced=lambda x: x,
    traced_int=lambda x: jnp.asarray(x, jnp.int32),
    traced_bool=lambda x: jnp.asarray(x) > 0,
    traced_nan=lambda x: jnp.asarray(x) * jnp.nan,
)

ARRAYS = _named(
    empty=lambda x: np.zeros((0,)),
    empty_matrix=lambda x: jnp.zeros((3, 0)),
    vector=lambda x: np.arange(3.0),
    jax_vector=lambda x: jnp.arange(4.0),
    jax_bfloat16=lambda x: jnp.ones((2, 2), jnp.bfloat16),
    jax_float8=lambda x: jnp.ones(3, jnp.float8_e4m3fn),
    jax_int4=lambda x: jnp.ones(3, jnp.int4),
    with_nan=lambda x: jnp.array([1.0, jnp.nan, jnp.inf, -jnp.inf]),
    all_nan=lambda x: np.full(3, np.nan),
    large_values=lambda x: np.array([1e300, -1e300]),
    float16=lambda x: np.full((2, 2), 65504, np.float16),
    uint64=lambda x: np.array([2**64 - 1], np.uint64),
    bools=lambda x: np.array([True, False]),
    complexes=lambda x: jnp.ones(2, jnp.complex64),
    image=lambda x: np.zeros((4, 5, 3), np.uint8),
    float_image=lambda x: jnp.full((2, 4, 5, 1), 7.0),
    int_image=lambda x: np.zeros((4, 5, 3), np.int32),
    nan_image=lambda x: np.full((4, 5, 1), np.nan, np.float32),
    five_axes=lambda x: np.zeros((1, 1, 1, 1, 1)),
    strided=lambda x: np.arange(24.0).reshape(4, 6)[::-2, ::3],
    read_only=lambda x: np.broadcast_to(np.float32(1), (3, 3)),
    fortran=lambda x: np.asfortranarray(np.ones((3, 4))),
    big_endian=lambda x: np.arange(3, dtype=">f4"),
    petabytes=lambda x: np.broadcast_to(np.float32(1), (2**50,)),
    more_than_possible=lambda x: np.broadcast_to(np.bool_(True), (2**31, 2**30)),
    masked=lambda x: _masked(),
    unmasked=lambda x: np.ma.masked_array([1.0, 2.0]),
    objects=lambda x: np.array([1, None, "a"], object),
    numbers_as_objects=lambda x: np.array([1, 2.5, 10**30], object),
    texts=lambda x: np.array(["a", "b"]),
    raw_bytes=lambda x: np.array([b"a"]),
    void=lambda x: np.zeros(2, "V8"),
    structured=lambda x: np.zeros(2, [("a", "f4"), ("b", "i4")]),
    times=lambda x: np.array(["2020-01-01"], "datetime64[D]"),
    durations=lambda x: np.array([1], "timedelta64[s]"),
    sharded=lambda x: _sharded(),
    other_device=lambda x: jax.device_put(jnp.ones(3), jax.devices()[5]),
    sparse=lambda x: sparse.BCOO.fromdense(jnp.eye(3), nse=3),
    traced_vector=lambda x: jnp.stack([jnp.asarray(x), jnp.asarray(x)]),
    traced_image=lambda x: jnp.zeros((3, 4, 1)) + x,
    traced_empty=lambda x: jnp.zeros((0,)) + x,
)

BROKEN = _named(
    none=lambda x: None,
    text=lambda x: "text",
    empty_text=lambda x: "",
    bytes=lambda x: b"bytes",
    own_text=lambda x: Text("train"),
    nul=lambda x: "a\0b",
    surrogate=lambda x: "a\ud800b",
    unicode=lambda x: "Ünï/ço∂é\u202e🙂",
    newline=lambda x: "a\nb\r\t",
    slashes=lambda x: "///a//..//",
    long_text=lambda x: "a" * 100_000,
    traced_text=lambda x: f"layer_{x}",
    ellipsis=lambda x: ...,
    not_implemented=lambda x: NotImplemented,
    a_type=lambda x: int,
    a_function=lambda x: len,
    a_lambda=lambda x: lambda *args, **kwargs: None,
    failing_function=lambda x: lambda *args, **kwargs: 1 / 0,
    a_module=lambda x: np,
    an_object=lambda x: object(),
    an_exception=lambda x: ValueError("no"),
    no_repr=lambda x: NoRepr(),
    hostile=lambda x: Hostile(),
    list_of_hostile=lambda x: [Hostile(), Hostile()],
    dict_of_hostile=lambda x: {"a": Hostile()},
    any_attribute=lambda x: AnyAttribute(),
    bad_array=lambda x: BadArray(),
    wrong_array=lambda x: WrongArray(),
    wrong_jax_array=lambda x: WrongJaxArray(),
    text_index=lambda x: TextIndex(),
    bad_node=lambda x: BadNode(),
    bad_path=lambda x: BadPath(),
    bytes_path=lambda x: BytesPath(),
    deleted=lambda x: _deleted(),
    deleted_scalar=lambda x: _deleted_scalar(),
    leaked_tracer=lambda x: _leaked(),
    leaked_vector=lambda x: _leaked_vector(),
    ref=lambda x: jax.new_ref(jnp.ones(3)),
    scalar_ref=lambda x: jax.new_ref(jnp.float32(1)),
    freed_ref=lambda x: _freed_ref(),
    key=lambda x: jax.random.key(0),
    abstract=lambda x: jax.ShapeDtypeStruct((3,), jnp.float32),
    cycle=lambda x: _cycle(),
    cyclic_dict=lambda x: _cyclic_dict(),
    deep=lambda x: _deep(),
    generator=lambda x: _generator(),
    empty_list=lambda x: [],
    empty_tuple=lambda x: (),
    empty_dict=lambda x: {},
    empty_set=lambda x: set(),
    ragged=lambda x: [[1.0], [2.0, 3.0]],
    numbers=lambda x: [1.0, 2.0],
    mixed_list=lambda x: [1.0, "two", None],
    tracers_in_list=lambda x: [x, 2.0],
    dict_of_mixed_keys=lambda x: {1: 1.0, "1": 2.0},
    dict_of_slashes=lambda x: {"a/b": 1.0, "a": {"b": 2.0}},
    dict_of_surrogates=lambda x: {"\ud800": 1.0},
    dict_of_hostile_keys=lambda x: {NoRepr(): 1.0},
    tree=lambda x: {"w": jnp.ones((2, 3)), "b": np.zeros(2), "n": 3},
    tree_of_deleted=lambda x: {"w": _deleted(), "b": jnp.ones(2)},
    tree_of_traced=lambda x: {"w": jnp.asarray(x, jnp.float32), "b": [x, None]},
    rows=lambda x: [["a", "b"], [1, NoRepr()]],
    rows_of_texts=lambda x: [["name", "value"], ["x", "y"]],
    a_slice=lambda x: slice(None, None, 0),
    a_range=lambda x: range(3),
    path=lambda x: pathlib.PurePath("relative"),
)  # fmt: skip

ANYTHING = [*NUMBERS, *ARRAYS, *BROKEN]
