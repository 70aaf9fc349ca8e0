"""Numbers on a device in a plain loop: no wait, no program for each tag, and a later donation changes nothing."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compilations import compilations
from held_arrays import called_from, late, uncomputed
from jax.sharding import AxisType, NamedSharding, PartitionSpec, SingleDeviceSharding

import jaxboard as jb
from jaxboard._errors import RunError
from jaxboard.testing import capture


@contextlib.contextmanager
def computed(value=2.5):
    """Yield a number that the device has computed."""
    yield jax.block_until_ready(jnp.float32(value))


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


NUMBERS = pytest.mark.parametrize("number_of", [computed, uncomputed])


@PLACES
@MESHES
@NUMBERS
def test_a_number_that_is_donated_later(place, surroundings, number_of):
    """A number is recorded as it was, computed or not, wherever it is and whatever is set around the report."""
    with capture() as records, number_of() as number:
        number = jax.device_put(number, place())  # noqa: PLW2901
        with surroundings():
            jb.scalar("loss", number)
        consume(number)
        assert number.is_deleted()
    assert [float(record.value) for record in records] == [2.5]


@PLACES
@MESHES
def test_other_arrays_under_a_mesh(place, surroundings):
    """An array of any device is reported whatever mesh is set, and so is a number with a step or a weight there."""
    array = jax.device_put(jnp.arange(8.0), place())
    one, number = (jax.device_put(x, place()) for x in (jnp.int32(1), jnp.float32(2.5)))
    with capture() as records, surroundings():
        jb.histogram("histogram", array)
        jb.scalar("step", 2.5, step=one)
        jb.scalar("weight", number, weight=one)
    values = {(record.tag, record.step): record.value for record in records}
    assert values["histogram", 0].counts.sum() == 8
    assert (values["step", 1], values["weight", 0]) == (2.5, 2.5)


@PLACES
def test_a_report_does_not_wait(place):
    """A report of a number that is not computed returns before it is."""
    with capture() as records, uncomputed() as number:
        number = jax.device_put(number, place())  # noqa: PLW2901
        jb.scalar("loss", number)
        assert not number.is_ready()
    assert [float(record.value) for record in records] == [2.5]


def test_one_program_copies_all_numbers():
    """Numbers of all tags and steps, in all scopes, are copied by one program."""
    jax.clear_caches()
    with (
        capture() as records,
        compilations("copy") as copies,
        uncomputed(0) as zero,
    ):
        for i in range(6):
            with jb.scope(f"scope {i % 3}"):
                jb.scalar(f"tag {i}", zero + i, step=i, reduce="last" if i % 2 else "mean")
    assert len(copies) == 1
    assert {record.tag: float(record.value) for record in records} == {
        f"scope {i % 3}/tag {i}": i for i in range(6)
    }


def test_no_program_reads_a_number():
    """A number that the CPU has computed is read without a program."""
    compiled = []

    def listen(event: str, duration_secs: float, **more: object) -> None:
        compiled.append(more)

    jax.clear_caches()
    with capture() as records, computed() as number:
        jax.monitoring.register_event_duration_secs_listener(listen)
        jb.scalar("loss", number)
        jax.monitoring.unregister_event_duration_listener(listen)
    assert compiled == []
    assert [float(record.value) for record in records] == [2.5]


@pytest.mark.parametrize("check", [jax.debug_nans, jax.debug_infs])
@NUMBERS
def test_numbers_that_are_not_finite(check, number_of):
    """A NaN is recorded, also while JAX checks results for NaN or infinity."""
    with capture() as records, number_of(jnp.nan) as number, check(True):
        jb.scalar("loss", number)
    assert np.isnan(records[0].value)


@pytest.mark.parametrize("ready", [True, False])
def test_a_number_whose_computation_fails(ready):
    """The report does not raise; the number is counted as lost, and other reports are written."""
    records = []

    def fail(x):
        raise ValueError("out of luck")

    def report():
        nonlocal records
        with capture() as records:
            jb.scalar("failing", failing)
            jb.scalar("loss", 2.5)

    failing = called_from(fail)(late(jnp.float32(1)))
    if ready:
        with pytest.raises(jax.errors.JaxRuntimeError):
            failing.block_until_ready()
    with pytest.raises(RunError, match="1 report was lost"):
        report()
    assert [record.tag for record in records] == ["loss"]
    # JAX keeps the error for every later effects_barrier(), until another callback succeeds.
    called_from(lambda x: x)(jnp.float32(1)).block_until_ready()
    jax.effects_barrier()


def test_a_number_that_is_gone():
    """A donated array raises an error that names the report."""
    number = jnp.float32(2.5)
    number.delete()
    with capture(), pytest.raises(jb.ReportError, match=r"'loss' .*deleted, or donated"):
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
