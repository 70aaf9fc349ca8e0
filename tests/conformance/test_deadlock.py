"""A callback never waits for the program that waits for it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import os
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=8"
import jax, jax.numpy as jnp, numpy as np
from jax import lax
from jax.sharding import AxisType, PartitionSpec as P
import jaxboard as jb
from jaxboard.testing import capture

mesh = jax.make_mesh((8,), ("d",), axis_types=(AxisType.Auto,))

@jax.jit
def program(x):
    def shard(x):
        def body(x, _):
            jb.scalar("count", x.sum(), reduce="count")
            # Here each device waits for all others and for its own callback.
            return x + lax.psum(x, "d"), None

        return lax.scan(body, x, None, length=50)[0]

    return jax.shard_map(shard, mesh=mesh, in_specs=P("d"), out_specs=P("d"))(x)

with capture() as records:
    x = jnp.zeros((8, 40_000))
    busy = np.ones((200, 200))
    for call in range(48):
        x = program(x)  # asynchronous
        busy = busy @ busy / 200
        if call % 16 == 15:
            # With 33 calls in flight, XLA may deadlock without any callback: the 33rd call waits on one
            # of the eight threads that the devices of the first call need.
            x.block_until_ready()
    x.block_until_ready()
print([(record.tag, record.step, int(record.value)) for record in records])
"""


def test_many_callbacks():
    """All 19,200 reports of eight devices arrive while sixteen calls are in flight and the main thread is busy."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=240, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[('count', 0, 19200)]"
