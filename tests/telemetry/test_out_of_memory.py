"""The report of a call that runs out of memory."""

from __future__ import annotations

import functools
import inspect
import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxboard as jb
from jaxboard._telemetry.hlo_buffers import HloBuffer, largest_buffers
from jaxboard.sinks import MemorySink

TAG = "jaxboard/out_of_memory"


@jb.instrument
@functools.partial(jax.jit, static_argnames="n")
def fill(state, n):
    """Return n times n numbers; a petabyte of them fits nowhere."""
    jb.scalar("w", state["w"])
    with jax.named_scope("scores"):
        return jnp.zeros((n, n)).at[0].set(state["w"])


def test_a_call_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    """The error goes on unchanged. The entry has what changed, the arguments, the programs and the largest arrays."""
    caplog.set_level(logging.ERROR, logger="jaxboard")
    sink = MemorySink()
    state = {"w": jnp.float32(1), "unused": np.ones(1000, np.float32)}
    with jb.Run(None, sinks=[sink]):
        fill(state, 3)
        kept = jax.block_until_ready(jnp.ones((7, 11, 13)))
        with pytest.raises(jax.errors.JaxRuntimeError, match="^RESOURCE_EXHAUSTED") as raised:
            fill(state, 2**24)
        fill(state, 3)
    (record,) = [record for record in sink.records if record.tag == TAG]
    lines = record.value.splitlines()
    assert record.step == 1
    assert lines[0] == f"**Out of memory** in `fill`, step 1: {raised.value}"
    assert "**Since step 0, which fitted:**" in lines
    assert "- `n: 3 -> 16777216 (static value)`" in lines
    assert f"- Live arrays of type `float32[7,11,13]`: 0 B -> {kept.nbytes / 1024:.1f} KiB" in lines
    assert "| `state['unused']`: float32[1000] | 3.9 KiB |" in lines
    assert "| `state['w']`: float32[] | 4 B |" in lines
    assert "| `jit_fill` | 0 B | 4 B | 1.0 PiB |" in lines
    source, first = inspect.getsourcelines(inspect.unwrap(fill))
    (offset,) = [n for n, line in enumerate(source) if "jnp.zeros" in line]
    largest = lines[lines.index("| largest arrays of `jit_fill` | size | operation | line |") + 2]
    assert largest.startswith("| f32[16777216,16777216] | 1.0 PiB | `jit(fill)/scores/")
    assert largest.endswith(f"`{__file__}:{first + offset}` |")
    assert record.value in caplog.text


def test_a_computation_that_fails_later() -> None:
    """If the call has returned, the report is written when the values of the call cannot be read."""

    @jb.instrument
    @jax.jit
    def step(x):
        total = jnp.sort(jnp.outer(x, x), axis=0).sum()
        jb.scalar("total", total)
        return total

    sink = MemorySink()
    with pytest.raises(jb.RunError, match="Out of memory allocating"), jb.Run(None, sinks=[sink]):
        step(jnp.ones(2**24))
    (record,) = [record for record in sink.records if record.tag == TAG]
    headline, *_ = record.value.splitlines()
    assert headline.startswith("**Out of memory**, step 0: ")
    assert "Out of memory allocating" in headline
    assert "| `jit_step` | 1.0 PiB | 64.0 MiB |" in record.value


def test_other_errors() -> None:
    """Another error of the runtime is not reported, and with ``telemetry=False`` nothing is."""

    def fail(_):
        raise ValueError("mine")

    @jb.instrument
    @jax.jit
    def step(x):
        return jax.pure_callback(fail, x, x)

    sink = MemorySink()
    with jb.Run(None, sinks=[sink]), pytest.raises(Exception, match="mine"):
        jax.block_until_ready(step(1.0))
    with jb.Run(None, sinks=[sink], telemetry=False), pytest.raises(jax.errors.JaxRuntimeError):
        fill({"w": jnp.float32(1)}, 2**24)
    assert [record.tag for record in sink.records] == []


HLO = """\
HloModule jit_f

FileNames
1 "/home/me/train.py"
2 "/lib/site-packages/jax/_src/numpy/linalg.py"

FunctionNames
1 "f"

FileLocations
1 {file_name_id=1 function_name_id=1 line=6 end_line=6 column=11 end_column=18}
2 {file_name_id=2 function_name_id=1 line=90 end_line=90 column=1 end_column=2}

StackFrames
1 {file_location_id=1 parent_frame_id=1}
2 {file_location_id=2 parent_frame_id=1}


%fused (p: f32[100]) -> f32[100,1000] {
  ROOT %mul = f32[100,1000]{1,0} multiply(%p, %p), metadata={op_name="jit(f)/hidden" stack_frame_id=1}
}

ENTRY %main (x: f32[100]) -> bf16[10,10] {
  %x = f32[100000]{0} parameter(0), metadata={op_name="x"}
  %a = f32[100,10]{1,0} fusion(%x), kind=kLoop, calls=%fused, metadata={op_name="jit(f)/mul" stack_frame_id=2}
  %b = (s4[10,10]{1,0}, pred[]) custom-call(%a), metadata={op_name="jit(f)/call" source_file="other.py" source_line=7}
  ROOT %c = bf16[10,10]{1,0} convert(%b)
}
"""


def test_the_largest_arrays() -> None:
    """Arrays inside fused operations and arguments are left out; a line is in tables or at the operation."""
    assert largest_buffers(HLO, 3) == [
        HloBuffer(4000, "f32[100,10]", "jit(f)/mul", "/home/me/train.py:6"),
        HloBuffer(200, "bf16[10,10]", "", ""),
        HloBuffer(50, "s4[10,10]", "jit(f)/call", "other.py:7"),
    ]
