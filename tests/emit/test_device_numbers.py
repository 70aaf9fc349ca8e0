"""Numbers on a device in a plain loop: no wait, no program for each tag, and a later donation changes nothing."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations_of
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import jaxboard as jb
from jaxboard._errors import RunError
from jaxboard.testing import capture


@jax.jit
def late(x):
    """Return ``x`` after about a tenth of a second."""
    busy = jnp.full((300, 300), 0.01) + x * 0
    busy = jax.lax.fori_loop(0, 40, lambda _, b: jnp.tanh(b @ b), busy)
    return x + 0 * busy[0, 0]


consume = jax.jit(lambda x: x * 0, donate_argnums=0)


def mesh(kind=AxisType.Auto):
    return jax.make_mesh((8,), ("d",), axis_types=(kind,))


def on_one_device():
    return SingleDeviceSharding(jax.devices()[2])


def on_all_devices():
    return NamedSharding(mesh(), PartitionSpec())


PLACES = pytest.mark.parametrize("place", [on_one_device, on_all_devices])
MESHES = pytest.mark.parametrize(
    "surroundings",
    [
        contextlib.nullcontext,
        lambda: jax.set_mesh(mesh()),
        lambda: jax.set_mesh(mesh(AxisType.Explicit)),
        lambda: jax.default_device(jax.devices()[1]),
        lambda: jax.transfer_guard("disallow"),
    ],
    ids=["nothing", "set_mesh", "set_mesh, explicit", "default_device", "guard"],
)


@PLACES
@MESHES
@pytest.mark.parametrize("ready", [True, False])
def test_a_number_that_is_donated_later(place, surroundings, ready):
    """A number is recorded as it was, computed or not, wherever it is and whatever is set around the report."""
    number = jax.device_put(jnp.float32(2.5), place())
    number = jax.block_until_ready(number) if ready else late(number)
    with capture() as records:
        with surroundings():
            jb.scalar("loss", number)
        consume(number)
        assert number.is_deleted()
    assert [float(record.value) for record in records] == [2.5]


@PLACES
def test_a_report_does_not_wait(place):
    """A report of a number that is not computed returns before it is."""
    number = late(jax.device_put(jnp.float32(2.5), place()))
    with capture() as records:
        jb.scalar("loss", number)
        assert not number.is_ready()
    assert [float(record.value) for record in records] == [2.5]


def test_one_program_copies_all_numbers():
    """Numbers of all tags and steps, in all scopes, are copied by one program; computed ones need none."""
    numbers = [late(jnp.float32(i)) for i in range(12)]
    with compilations_of("copy") as copies, capture() as records:
        jax.clear_caches()
        for i, number in enumerate(numbers):
            with jb.scope(f"scope {i % 3}"):
                jb.scalar(f"tag {i}", number, step=i, reduce="last" if i % 2 else "mean")
    assert len(copies) == 1
    assert {record.tag: float(record.value) for record in records} == {
        f"scope {i % 3}/tag {i}": i for i in range(12)
    }
    computed = [jax.block_until_ready(jnp.float32(i)) for i in range(3)]
    with compilations_of("copy") as copies, capture() as records:
        jax.clear_caches()
        for number in computed:
            jb.scalar("loss", number, step=int(number))
    assert copies == []
    assert [float(record.value) for record in records] == [0, 1, 2]


@pytest.mark.parametrize("check", [jax.debug_nans, jax.debug_infs])
@pytest.mark.parametrize("ready", [True, False])
def test_numbers_that_are_not_finite(check, ready):
    """A NaN is recorded, also while JAX checks results for NaN or infinity."""
    number = jnp.float32(jnp.nan)
    number = jax.block_until_ready(number) if ready else late(number)
    with capture() as records, check(True):
        jb.scalar("loss", number)
    assert np.isnan(records[0].value)


@pytest.mark.filterwarnings("ignore::jaxboard.JaxboardWarning")
@pytest.mark.parametrize("ready", [True, False])
def test_a_number_whose_computation_fails(ready):
    """The report does not raise; the number is counted as lost, and other reports are written."""

    def fail(x):
        raise ValueError("out of luck")

    shape = jax.ShapeDtypeStruct((), np.float32)
    program = jax.jit(lambda x: jax.pure_callback(fail, shape, x) * 2)
    failing = program.lower(jnp.float32(1)).compile()(late(jnp.float32(1)))
    if ready:
        with pytest.raises(jax.errors.JaxRuntimeError):
            failing.block_until_ready()
    records = []

    def report():
        with capture() as captured:
            jb.scalar("failing", failing)
            jb.scalar("loss", 2.5)
            nonlocal records
            records = captured

    with pytest.raises(RunError, match="1 report was lost"):
        report()
    assert [record.tag for record in records] == ["loss"]


def test_a_number_that_is_gone():
    """A donated array is an error of the program, as everywhere in JAX."""
    number = jnp.float32(2.5)
    number.delete()
    with capture(), pytest.raises(RuntimeError, match="deleted"):
        jb.scalar("loss", number)


def test_numbers_in_a_callback():
    """A host callback may report the arrays that it is called with."""

    @jax.jit
    def program(x):
        y = x @ x
        jax.debug.callback(lambda y: jb.scalar("loss", y, step=3), y[0, 0])
        return y

    with capture() as records:
        for _ in range(3):
            program(jnp.ones((300, 300)))
        jax.effects_barrier()
    assert [(record.step, float(record.value)) for record in records] == [(3, 300.0)] * 3
