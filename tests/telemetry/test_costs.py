"""FLOPs, MFU, memory and jaxboard's own cost are what XLA and the devices report, and nothing is guessed."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

import jaxboard as jb
from jaxboard._telemetry.device_memory import live_bytes, select_stats
from jaxboard._telemetry.peak_flops import peak_flops
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink, TensorBoardSink


def run_steps(step, calls, **settings):
    """Return what a run with telemetry writes: {tag: [values or texts]}."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], telemetry=jb.Telemetry(**settings)):
        for args in calls:
            jax.block_until_ready(step(*args))
    points: dict = {}
    for record in sink.records:
        value = float(record.value) if record.kind is Kind.SCALAR else record.value
        points.setdefault(record.tag.removeprefix("jaxboard/"), []).append(value)
    return points


@jax.jit
def matmul(a, b):
    return a @ b


A, B = np.ones((16, 32), np.float32), np.ones((32, 8), np.float32)
FLOPS = 2 * 16 * 32 * 8


def test_flops_of_a_product():
    """A matrix product takes two operations per multiplication and accesses its three matrices."""
    points = run_steps(jb.instrument(matmul), [(A, B)] * 5)
    assert points["cost/matmul/flops"] == [FLOPS]
    assert points["cost/matmul/bytes_accessed"] == [4 * (16 * 32 + 32 * 8 + 16 * 8)]
    (per_second,) = points["step/matmul/per_second"]
    assert points["step/matmul/flops_per_second"] == [FLOPS * per_second]
    assert "counts once" in points["cost/matmul"][0]


def test_exact_results():
    """With exact=True the cost is that of the program that returns the results, without reports."""

    @partial(jb.instrument, exact=True)
    @jax.jit
    def reporting(a, b):
        jb.histogram("product", a @ b @ b.T, every=2)
        return a @ b

    points = run_steps(reporting, [(A, B)] * 5, peak_flops=1e9)
    assert points["cost/reporting/flops"] == [FLOPS] * len(points["cost/reporting/flops"])
    assert "recompiles/reporting" not in points
    (per_second,) = points["step/reporting/per_second"]
    assert points["step/reporting/flops_per_second"] == [FLOPS * per_second]
    assert points["step/reporting/mfu"] == [FLOPS * per_second / 1e9]


def test_mfu():
    """The MFU refers to the given peak; on unknown hardware without one there is no MFU."""
    points = run_steps(jb.instrument(matmul), [(A, B)] * 5, peak_flops=1e9)
    (per_second,) = points["step/matmul/per_second"]
    assert points["step/matmul/mfu"] == pytest.approx([FLOPS * per_second / 1e9])
    assert "step/matmul/mfu" not in run_steps(jb.instrument(matmul), [(A, B)] * 5)


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("TPU v5p", 459e12),
        ("NVIDIA H100 80GB HBM3", 989.5e12),
        ("NVIDIA H100", None),
        ("cpu", None),
        ("", None),
    ],
)
def test_peaks(kind, peak):
    """The peak is looked up by the exact name that JAX gives a device."""
    assert peak_flops(kind) == peak


def test_the_cost_analysis_compiles_nothing():
    """Programs with donated, sharded and static arguments and windows come from JAX's caches."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))

    @jb.instrument
    @partial(jax.jit, donate_argnums=0, static_argnames="scale")
    def train_step(state, x, *, scale):
        jb.scalar("mean", x.mean(), every=4)
        jb.histogram("x", x, every=3)
        return jax.tree.map(lambda leaf: leaf + scale * x.sum(), state)

    compiled = []

    def listen(event, duration_secs, **kwargs):
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(kwargs["fun_name"])

    x = jax.device_put(np.ones((8, 2), np.float32), NamedSharding(mesh, P("data")))
    counts = []
    for telemetry in (False, True):
        state = jax.device_put({"w": jnp.ones(3)}, NamedSharding(mesh, P()))
        jax.clear_caches()
        jax.monitoring.register_event_duration_secs_listener(listen)
        try:
            with jb.Run(None, sinks=[MemorySink()], telemetry=telemetry):
                for _ in range(9):
                    state = train_step(state, x, scale=2.0)
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)
        counts.append(compiled.count("jit(train_step)"))
        compiled.clear()
    assert counts[0] == counts[1] > 0


def test_several_programs_are_not_mixed_up():
    """There is no rate once different arguments led to programs of different cost."""
    points = run_steps(
        jb.instrument(matmul), [(A, B), (A, B), (A, B), (A[:4], B), (A[:4], B), (A, B)]
    )
    assert points["cost/matmul/flops"] == [FLOPS, FLOPS / 4]
    assert "step/matmul/per_second" in points
    assert "step/matmul/flops_per_second" not in points


def test_unknown_flops():
    """A program without floating-point operations has no count, neither 0 nor -1."""
    points = run_steps(
        jb.instrument(jax.jit(lambda x: x.reshape(4)), name="f"), [(np.ones((2, 2)),)] * 4
    )
    assert "cost/f/flops" not in points
    assert "step/f/flops_per_second" not in points


def test_memory_of_the_program():
    """The memory that a program needs is written as a table."""
    (table,) = run_steps(jb.instrument(matmul), [(A, B)])["memory/matmul"]
    sizes = dict(table[1:])
    assert table[0] == ["memory of one device", "bytes"]
    assert sizes["arguments"] == f"{4 * (16 * 32 + 32 * 8):,}"
    assert sizes["outputs"] == f"{4 * 16 * 8:,}"


def test_live_bytes():
    """Arrays count on the devices that hold them: whole, in shards, or as copies."""
    mesh = jax.make_mesh((8,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    before = live_bytes()
    here = jax.device_put(np.ones(10, np.float32), jax.devices()[3])
    split = jax.device_put(np.ones(16, np.float32), NamedSharding(mesh, P("data")))
    copies = jax.device_put(np.ones(2, np.float32), NamedSharding(mesh, P()))
    after = live_bytes()
    grown = {d.id: after.get(d.id, 0) - before.get(d.id, 0) for d in jax.devices()}
    assert grown == {d.id: 8 + 8 + (40 if d.id == 3 else 0) for d in jax.devices()}
    del here, split, copies


def test_statistics_of_a_gpu():
    """Bytes in use, peak and limit are selected, each only if the device reports it."""
    stats = {
        "num_allocs": 6,
        "bytes_in_use": 2048,
        "peak_bytes_in_use": 4096,
        "largest_alloc_size": 1024,
        "bytes_limit": 8192,
        "pool_bytes": 2**21,
    }
    assert select_stats(stats) == {"in_use_bytes": 2048, "peak_bytes": 4096, "limit_bytes": 8192}
    assert select_stats({"bytes_limit": 1}) == {"limit_bytes": 1}


def test_memory_of_the_devices():
    """A device without statistics has the bytes of its arrays instead."""
    kept = jax.device_put(np.ones(1000, np.float32), jax.devices()[2])
    points = run_steps(jb.instrument(matmul), [(A, B)] * 4)
    assert points["memory/cpu_2/live_bytes"] == [live_bytes()[2]]
    assert points["memory/cpu_2/live_bytes"][0] >= kept.nbytes
    assert sum(tag.endswith("/live_bytes") for tag in points) == 8
    assert not any(tag.endswith(("/in_use_bytes", "/limit_bytes")) for tag in points)


@pytest.mark.filterwarnings("ignore:TensorFlow cannot be imported")
def test_own_cost(logdir):
    """The run has points for jaxboard's time in calls, the flusher's time and the bytes on disk."""
    step = jb.instrument(matmul)
    sink = MemorySink()
    with jb.Run(logdir, sinks=[TensorBoardSink(logdir), sink], telemetry=True) as run:
        for _ in range(4):
            step(A, B)
        run.flush()
        flushed = sum(e.stat().st_size for e in os.scandir(logdir) if "tfevents" in e.name)
    values = {
        record.tag: float(record.value)
        for record in sink.records
        if record.tag.startswith("jaxboard/overhead/")
    }
    assert {tag.rpartition("/")[2] for tag in values} == {
        "wrapper_seconds",
        "flusher_cpu_seconds",
        "bytes_written",
    }
    assert values["jaxboard/overhead/bytes_written"] >= flushed > 0
    assert values["jaxboard/overhead/flusher_cpu_seconds"] > 0
    assert 0 < values["jaxboard/overhead/wrapper_seconds"] < 10


def test_bytes_of_earlier_runs_do_not_count(logdir):
    """A run that continues in a directory counts only the bytes that it writes."""
    os.makedirs(logdir)
    with open(os.path.join(logdir, "events.out.tfevents.0.earlier"), "wb") as file:
        file.write(bytes(10**6))
    step = jb.instrument(matmul)
    sink = MemorySink()
    with jb.Run(logdir, sinks=[sink], telemetry=True):
        for _ in range(4):
            step(A, B)
    (written,) = [r.value for r in sink.records if r.tag == "jaxboard/overhead/bytes_written"]
    assert written == 0


def test_memory_snapshot(logdir, tmp_path):
    """A gzipped pprof file is written by default to the run's directory; the run records its path."""
    sink = MemorySink()
    with jb.Run(logdir, sinks=[sink], step=7):
        kept = jnp.ones(1000)
        default = jb.memory_snapshot()
        explicit = jb.memory_snapshot(tmp_path / "new" / "m.prof")
        assert jb.memory_snapshot(explicit) == explicit
    del kept
    assert default == pathlib.Path(logdir) / "memory_7.prof"
    for file in (default, explicit):
        assert file is not None
        assert gzip.decompress(file.read_bytes())
    assert sorted(os.listdir(tmp_path / "new")) == ["m.prof"]
    assert [(r.step, r.tag) for r in sink.records] == [(7, "jaxboard/memory_snapshot")] * 3
    assert sink.records[0].value == f"`{default}`; to see it: `pprof -http=: {default}`"


def test_memory_snapshot_without_a_run(tmp_path, caplog):
    """Without a run, a path is required; a write error is logged and not raised."""
    with pytest.raises(jb.UsageError) as caught:
        jb.memory_snapshot()
    assert str(caught.value) == (
        "memory_snapshot(): no run with a local log directory is active. Pass a path: "
        "memory_snapshot('memory.prof')."
    )
    (tmp_path / "file").touch()
    assert jb.memory_snapshot(tmp_path / "file" / "m.prof") is None
    (record,) = caplog.records
    assert record.getMessage().startswith(
        f"jaxboard: no memory snapshot in {tmp_path}/file/m.prof: "
    )


def test_memory_profile_of_a_trace(tmp_path):
    """In a trace of a CPU, xprof's memory profile shows the bytes of the live arrays at each step."""
    raw_to_tool_data = pytest.importorskip("xprof.convert.raw_to_tool_data")
    step = jb.instrument(jax.jit(lambda x: x + 1), name="train_step")
    kept = []
    with jb.Run(None, sinks=[MemorySink()], telemetry=True):
        step(np.ones(3))
        with jax.profiler.trace(str(tmp_path)):
            for _ in range(4):
                kept.append(jax.device_put(np.zeros(1000, np.float32)))
                jax.block_until_ready(step(np.ones(3)))
        step(np.ones(3))
    (trace,) = tmp_path.rglob("*.xplane.pb")
    data, _ = raw_to_tool_data.xspace_to_tool_data([str(trace)], "memory_profile", {})
    profile = json.loads(data)["memoryProfilePerAllocator"]["cpu"]
    timeline = [
        int(snapshot["aggregationStats"]["heapAllocatedBytes"])
        for snapshot in profile["sampledTimelineSnapshots"]
    ]
    assert np.diff(timeline).tolist() == [4000, 4000, 4000]
    assert int(profile["profileSummary"]["peakStats"]["peakBytesInUse"]) == timeline[-1]
