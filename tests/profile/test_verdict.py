"""The verdict on a profile names what limits the steps, and what grew since the previous window."""

import importlib.util
import re
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from by_hand import DEADLINE
from jax.profiler import ProfileData

import jaxboard as jb
from jaxboard._profile.comparison import Growth, compare
from jaxboard._profile.device_timeline import DeviceTimeline
from jaxboard._profile.history import RecordedWindow
from jaxboard._profile.summary import (
    Compilation,
    HostPart,
    Operation,
    Pause,
    TimeParts,
    TraceSummary,
)
from jaxboard._profile.summary_records import summary_records
from jaxboard._profile.trace_events import Marker
from jaxboard._profile.trace_reader import summarize
from jaxboard._profile.verdict import verdict
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink

MS = 10**9  # picoseconds


@jb.instrument
@jax.jit
def train_step(x, repeats):
    with jb.trace("head"):
        x = jnp.tanh(x)
    with jb.trace("attention"):
        return jax.lax.fori_loop(0, repeats, lambda _, x: x @ x / len(x), x)


def scalars(records):
    return {r.tag: float(r.value) for r in records if r.kind is Kind.SCALAR}


def verdicts(records):
    return [str(r.value) for r in records if r.tag == "profile/verdict"]


# Recorded on this machine. How long a step takes depends on what else it does, so these tests compare no times.


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """Return the records and traces of a run with two profiles: one with a slow loader, and one with long steps."""
    sink = MemorySink()
    logdir = tmp_path_factory.mktemp("verdict") / "run"
    x, small = jnp.ones((200, 200)), jnp.ones((8, 8))
    train_step.lower(x, 1).compile()
    train_step.lower(small, 1).compile()
    with jb.Run(logdir, sinks=[sink]):
        with jb.profile((2, 5)) as first:
            for _ in range(6):
                with jb.trace("load_batch"):
                    time.sleep(0.05)
                jax.block_until_ready(train_step(small, 1))
        with jb.profile((8, 11)) as second:
            for _ in range(6):
                jax.block_until_ready(train_step(x, 300))
    records = [record for record in sink.records if record.tag.startswith("profile/")]
    traces = [summarize(str(profiler.path)) for profiler in (first, second)]
    return types.SimpleNamespace(logdir=logdir, records=records, traces=traces)


def test_a_slow_loader(profiled):
    """The devices wait for the loader between the steps, which has its name in the trace."""
    loader, _ = verdicts(profiled.records)
    assert loader.startswith("**Steps 2-4: ")
    time = profiled.traces[0].time
    assert time.between_parts[0].name == "load_batch"
    assert time.between >= time.between_parts[0].ms >= 2 * 50
    figures = scalars(r for r in profiled.records if r.step == 4)
    parts = {tag: v for tag, v in figures.items() if tag.startswith("profile/time_percent/")}
    assert sorted(tag.rpartition("/")[2] for tag in parts) == [
        "between_steps",
        "compute",
        "exposed_communication",
        "within_steps",
    ]
    assert sum(parts.values()) == pytest.approx(100)
    between = parts["profile/time_percent/between_steps"]
    assert between == pytest.approx(100 * time.between / time.whole, rel=1e-6)
    assert figures["profile/communication_percent"] == 0
    assert "profile/step_time_ratio" not in figures


def test_the_previous_window(profiled):
    """The second profile of a run is compared with the first, and its longest operation has its name scope."""
    _, second = verdicts(profiled.records)
    assert second.startswith("**Steps 8-10: ")
    ratio = scalars(r for r in profiled.records if r.step == 10)["profile/step_time_ratio"]
    found = compare(*reversed(profiled.traces))
    assert found is not None
    assert ratio == pytest.approx(found.ratio, rel=1e-6)
    assert re.search(r"\*\*(As long|[\d.]+ times as (slow|fast)) as steps 2-4:\*\* ", second)
    longest = profiled.traces[1].device[0]
    assert (longest.program, longest.scope) == (
        "jit_train_step",
        "attention/while/body/dot_general",
    )


def test_the_histogram(profiled):
    """The histogram has the times from each step to the next."""
    histograms = [r for r in profiled.records if r.tag == "profile/step_interval_ms"]
    assert [(r.step, int(r.value.counts.sum())) for r in histograms] == [(4, 2), (10, 2)]
    assert histograms[0].value.edges[0] >= 50


def test_after_a_restart(profiled):
    """The first profile after a restart is compared with the newest one in the log directory."""
    sink = MemorySink()
    with jb.Run(profiled.logdir, sinks=[sink], step=20), jb.profile((21, 23)):
        for _ in range(4):
            jax.block_until_ready(train_step(jnp.ones((8, 8)), 1))
    (text,) = verdicts(sink.records)
    assert " as steps 8-10:** a step takes " in text
    assert "Largest increases" not in text


def test_a_repeated_profile_of_slow_steps(tmp_path):
    """slow= records a second window once the steps became slower, and its trace has the cause."""
    sink = MemorySink()
    x = jnp.ones((8, 8))
    train_step.lower(x, 1).compile()
    end = time.monotonic() + DEADLINE
    with jb.Run(tmp_path, sinks=[sink]), jb.profile((2, 4), slow=3.0) as profiler:
        for i in range(10**6):
            if i > 500:
                with jb.trace("load_batch"):
                    time.sleep(0.2)  # longer than a step takes on a busy machine
            else:
                time.sleep(0.002)
            jax.block_until_ready(train_step(x, 1))
            *_, first, last = -1, -1, *profiler.captured
            if (first > 500 and last == first + 1) or time.monotonic() > end:
                break
    assert profiler.captured[:2] == (2, 3)
    assert len(profiler.paths) == len(profiler.captured) / 2 >= 2
    assert profiler.path == profiler.paths[-1]
    found = summarize(str(profiler.path)).time
    assert found is not None
    assert found.between_parts[0].name == "load_batch"
    assert found.between_parts[0].ms >= 200
    assert len(verdicts(sink.records)) == len(profiler.paths)


def test_a_recompile(tmp_path):
    """The verdict has the number of a step that compiles."""
    x = jnp.ones((8, 8))
    with jb.Run(tmp_path, sinks=[sink := MemorySink()]), jb.profile((1, 4)):
        for arguments in [(x, 1), (x, 1), (jnp.ones((9, 9)), 1), (x, 1)]:
            jax.block_until_ready(train_step(*arguments))
    (text,) = verdicts(sink.records)
    assert text.startswith("**Steps 1-3: ")
    assert re.search(
        r"JAX compiled in or after steps? (1-)?2, for [\d.e+]+ ms with tracing\.", text
    )


def test_the_devices_of_a_cpu(tmp_path):
    """A recorded trace of several CPU devices has the times of each, and their communication."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:2]), ("d",))
    spec = jax.sharding.PartitionSpec("d")
    x = jax.device_put(jnp.ones((200, 100)), jax.sharding.NamedSharding(mesh, spec))
    f = jax.jit(
        jax.shard_map(
            lambda x: jax.lax.psum(x.T @ x, "d"),
            mesh=mesh,
            in_specs=spec,
            out_specs=jax.sharding.PartitionSpec(),
        )
    )
    jax.block_until_ready(f(x))
    with jb.profile(logdir=tmp_path) as profiler:
        for i in range(3):
            with profiler.step(i):
                f(x)
    found = summarize(str(profiler.path)).time
    assert found is not None
    assert found.devices == 2
    assert 0 < found.exposed <= found.communication < found.whole
    assert found.compute > 0


def test_a_cpu_device_that_only_waits():
    """On a busy machine, CPU devices wait for the program with which jaxboard ends a profile: they are not in use."""
    timeline = DeviceTimeline()
    wait = "ThunkExecutor::Execute (wait for completion)"
    timeline.add_host_event("dot.1", {"hlo_op": "dot.1", "device_ordinal": 0}, [(10.0, 20.0)])
    timeline.add_host_event(wait, {"device_ordinal": 0}, [(20.0, 40.0)])
    timeline.add_host_event(wait, {"device_ordinal": 1}, [(10.0, 90.0)])
    found = timeline.parts([([], [Marker(0, 0.0, 1e8)])])
    assert found is not None
    assert found.devices == 1
    assert found.compute == 30.0 / 1e6


# Traces of accelerators, made by hand.

DETAILS = "regs:32 static_shared:0 dynamic_shared:0 grid:1,1,1 block:128,1,1 occ_pct:50"


def event(kind, start, length, *stats):
    return (
        f"events {{ metadata_id: {kind} offset_ps: {start * MS} duration_ps: {length * MS} "
        + " ".join(f"stats {{ metadata_id: {i} {value} }}" for i, value in stats)
        + " }\n"
    )


def trace(tmp_path, device, names, lines, host=(), *, starts=(0, 30)):
    """Write a trace of steps of 20 ms on one device, and return its summary.

    Args:
        tmp_path: the directory.
        device: the name of its plane.
        names: the names of its events.
        lines: by line: its name, and the event, start and length of each of its events in milliseconds.
        host: the name, start and length of each event of the host's thread.
        starts: the start of each step in milliseconds.
    """
    details = (1, f'str_value: "{DETAILS}"')
    planes = f'planes {{ id: 1 name: "{device}" '
    for i, name in enumerate(names, 1):
        planes += f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }} '
    planes += 'stat_metadata { key: 1 value { id: 1 name: "kernel_details" } } '
    for i, (line, events) in enumerate(lines):
        content = "".join(
            event(names.index(name) + 1, start, length, details) for name, start, length in events
        )
        planes += f'lines {{ id: {i} name: "{line}" timestamp_ns: 1000 {content} }} '
    planes += '} planes { id: 2 name: "/host:CPU" '
    for i, name in enumerate(["train", *(name for name, *_ in host)], 1):
        planes += f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }} '
    planes += 'stat_metadata { key: 1 value { id: 1 name: "step_num" } } '
    planes += 'stat_metadata { key: 2 value { id: 2 name: "_r" } } '
    content = "".join(
        event(1, start, 20, (1, f"int64_value: {i}"), (2, "int64_value: 1"))
        for i, start in enumerate(starts)
    )
    content += "".join(event(i, start, length) for i, (_, start, length) in enumerate(host, 2))
    planes += f'lines {{ id: 1 name: "python" timestamp_ns: 1000 {content} }} }}'
    file = tmp_path / "host.xplane.pb"
    file.write_bytes(ProfileData.text_proto_to_serialized_xspace(planes))
    return summarize(str(file))


def test_communication_of_a_gpu(tmp_path):
    """Communication that a computation on another stream hides is not exposed."""
    nccl = "ncclDevKernel_AllReduce_Sum_f32"
    summary = trace(
        tmp_path,
        "/device:GPU:0",
        ["gemm", nccl],
        [
            ("Stream #1(Compute)", [("gemm", 1, 4), ("gemm", 31, 4)]),
            ("Stream #2(Compute)", [(nccl, 3, 15), (nccl, 33, 15)]),
        ],
    )
    assert summary.steps == [(0, 20.0), (1, 20.0)]
    assert summary.intervals == [30.0]
    # In each step: 1 ms nothing, 4 ms gemm, 13 ms only NCCL, 2 ms nothing.
    assert summary.time == TimeParts(8, 26, 10, 6, 30, 1, [], [], [])
    text = verdict(summary, None, synchronized=False)
    assert text.startswith(
        "**Steps 0-1: bound by communication.** 52 % of the time, the devices only communicate, and no "
        "computation hides it."
    )
    assert "| 52.0 % | 13.000 | the devices only communicate |" in text
    assert "Communication takes 15.000 ms a step, of which computation hides 13 %." in text


def test_asynchronous_collectives_of_a_tpu(tmp_path):
    """A TPU shows asynchronous collectives on a line of their own, and loops around operations."""
    summary = trace(
        tmp_path,
        "/device:TPU:0",
        ["while.1", "fusion.2", "all-gather.3", "all-reduce.4", "step", "jit_f(1)"],
        [
            ("Steps", [("step", 0, 20), ("step", 30, 20)]),
            ("XLA Modules", [("jit_f(1)", 0, 15), ("jit_f(1)", 30, 20)]),
            (
                "XLA Ops",
                [
                    ("while.1", 0, 10),
                    ("fusion.2", 1, 4),
                    ("all-reduce.4", 5, 5),
                    ("fusion.2", 30, 20),
                ],
            ),
            ("Async XLA Ops", [("all-gather.3", 12, 3), ("all-gather.3", 32, 4)]),
        ],
    )
    # The loop computes in [0, 5), where it encloses nothing or a fusion; the second gather is hidden.
    assert summary.time == TimeParts(25, 8, 10, 7, 12, 1, [], [], [])
    if importlib.util.find_spec("xprof") is not None:
        assert 50 < summary.metrics["device_duty_cycle_percent"] < 100
    assert verdict(summary, None, synchronized=False).startswith(
        "**Steps 0-1: bound by computation.** The devices compute 50 % of the time."
    )


def test_the_host_of_an_accelerator(tmp_path):
    """The host's parts are listed for the time in which the device is idle, the outermost ones that contain no step."""
    summary = trace(
        tmp_path,
        "/device:GPU:0",
        ["gemm"],
        [("Stream #1(Compute)", [("gemm", 15, 10), ("gemm", 45, 5)])],
        [
            ("epoch", 0, 50),
            ("next_batch", 20, 9),
            ("decode", 21, 8),
            ("augment", 2, 4),
            ("flip", 3, 1),
        ],
    )
    assert summary.time == TimeParts(
        15, 0, 5, 30, 0, 1, [HostPart("next_batch", 4.0)], [HostPart("augment", 4.0)], []
    )
    text = verdict(summary, None, synchronized=False)
    assert text.startswith(
        "**Steps 0-1: bound by the host within the steps.** 60 % of the time, the devices wait while the host "
        "is in a step: 15 ms a step. The longest parts: `augment` 2 ms. Most of it has no name"
    )
    assert "communicate" not in text


def test_a_pause(tmp_path):
    """A single pause, such as an evaluation, is left out of the parts, and named with its step."""
    starts = [0, 30, 60, 590, 620]
    summary = trace(
        tmp_path,
        "/device:GPU:0",
        ["gemm"],
        [("Stream #1(Compute)", [("gemm", start, 20) for start in [*starts, 90]])],
        [("evaluate", 81, 500)],
        starts=starts,
    )
    # Device: 20 ms a step, and 20 ms during the pause, in which it is idle for 490 ms.
    assert summary.time is not None
    assert summary.time == TimeParts(120, 0, 30, 0, 0, 1, [], [], [Pause(2, 490.0, "evaluate")])
    assert summary.intervals == [30.0, 30.0, 530.0, 30.0]
    text = verdict(summary, None, synchronized=False)
    assert text.startswith(
        "**Steps 0-4: bound by computation.** The devices compute 80 % of the time."
    )
    assert "A single pause of 490 ms after step 2 in `evaluate` is left out" in text
    found = compare(summary, summary)
    assert found is not None
    assert found.now == 30
    assert "Slower" not in verdict(summary, found, synchronized=False)


def test_without_operations(tmp_path):
    """Without operations of devices, the limit is unknown."""
    text = verdict(trace(tmp_path, "/device:GPU:0", [], []), None, synchronized=False)
    assert text == "**Steps 0-1: unknown limit.** The trace has no operations of devices."


# Verdicts and comparisons of given summaries.


def summary_of(steps, compute=8.0, between=2.0, ops=(), parts=(), **fields):
    """Return a summary of steps of (compute + between) ms each."""
    count = len(steps)
    return TraceSummary(
        [(step, compute) for step in steps],
        [],
        [Operation(name, "jit_f", scope, count, ms * count) for name, scope, ms in ops],
        "trace",
        [compute + between] * (count - 1),
        TimeParts(
            compute * count,
            0.0,
            between * count,
            0.0,
            0.0,
            1,
            [HostPart(name, ms * count) for name, ms in parts],
            [],
            [],
        ),
        **fields,
    )


def test_a_loop_that_waits_for_data():
    """Devices that wait between the steps are input-bound, and the verdict names the longest part of the loop."""
    summary = summary_of([2, 3], compute=2.0, between=6.0, parts=[("load_batch", 5.0)])
    assert verdict(summary, None, synchronized=True).startswith(
        "**Steps 2-3: input-bound.** 75 % of the time, the devices wait for the loop between the steps, such as the "
        "loading of data: 6 ms a step. The longest parts: `load_batch` 5 ms.\n"
    )
    summary = summary_of([2], compute=2.0, between=6.0, parts=[("load_batch", 2.5)])
    assert "2.5 ms. Most of it has no name in the trace: put `jb.trace(name)` around" in verdict(
        summary, None, synchronized=True
    )


def test_steps_that_compile():
    """Compilations that take most of the time within the steps are the limit; others are a sentence."""
    summary = summary_of(
        [1, 2, 3],
        compute=1.0,
        between=0.5,
        compilations=[Compilation(1, 40.0), Compilation(2, 20.0)],
    )
    assert summary.time is not None
    summary.time = summary.time._replace(within=100.0)
    sentence = "JAX compiled in or after steps 1-2, for 60 ms with tracing."
    limit = verdict(summary, None, synchronized=False)
    assert limit.startswith(
        "**Steps 1-3: bound by compilation.** 96 % of the time, the devices wait for the host. "
        + sentence
    )
    assert limit.count("JAX compiled") == 1
    summary.time = summary.time._replace(within=121.0)
    other = verdict(summary, None, synchronized=False)
    assert other.startswith("**Steps 1-3: bound by the host within the steps.** ")
    assert sentence in other


def test_a_comparison():
    """Operations are compared by scope, because another compilation may rename them."""
    before = summary_of(
        [3, 4], ops=[("dot.1", "mlp/dot", 5.0), ("sin", "", 3.0)], parts=[("load", 1)]
    )
    now = summary_of(
        [7, 8, 9],
        compute=20.0,
        ops=[("dot.7", "mlp/dot", 11.0), ("exp", "", 6.0), ("sin", "", 3.1)],
        parts=[("load", 2)],
    )
    found = compare(now, before)
    assert found is not None
    assert found.ratio == pytest.approx(2.2)
    assert found.slower == [7, 8, 9]
    assert found.grown == [
        Growth("`mlp/dot` in `jit_f`", 5.0, 11.0),
        Growth("`exp` in `jit_f`", 0.0, 6.0),
    ]
    assert found.part == Growth("compute", 8.0, 20.0)
    text = verdict(now, found, synchronized=False)
    assert (
        "**2.2 times as slow as steps 3-4:** a step takes 22 ms, and took 10 ms. Slower than before: "
        "steps 7-9. Most of the increase is time in which the devices compute: 8 → 20 ms a step.\n\nLargest increases, in milliseconds a step:\n\n- `mlp/dot` in `jit_f`: 5 → 11\n"
        "- `exp` in `jit_f`: 0 → 6" in text
    )


@pytest.mark.parametrize(
    ("ms", "expected"),
    [
        (8.5, "**As long as step 3:** a step takes 10.5 ms, and took 10 ms."),
        (2.0, "**2.5 times as fast as step 3:** a step takes 4 ms, and took 10 ms."),
    ],
)
def test_steps_that_are_not_slower(ms, expected):
    """Steps that take as long as those of the window before, or less, have no list of what grew."""
    before = summary_of([3], ops=[("dot", "", 1.0)])
    now = summary_of([5, 6], compute=ms, ops=[("dot", "", 2.0)])
    found = compare(now, before)
    assert found is not None
    assert found.grown == []
    assert verdict(now, found, synchronized=False).endswith(expected)


def test_single_slow_steps():
    """Only the steps that are slower than the mean of the previous window are named."""
    before, now = summary_of([3, 4]), summary_of([10, 11, 12, 13])
    now.intervals = [10.0, 50.0, 60.0]
    assert now.time is not None
    now.time = now.time._replace(between=80.0)
    found = compare(now, before)
    assert found is not None
    assert found.slower == [11, 12]


def test_windows_without_steps():
    """A window without steps is not compared."""
    assert compare(summary_of([]), summary_of([1])) is None
    assert compare(summary_of([1]), summary_of([])) is None


def test_windows_that_wait():
    """A trace is not read while those of several windows before it wait, so that the readers do not pile up."""
    with jb.Run(None, sinks=[MemorySink()]) as run:
        waiting = [RecordedWindow(run) for _ in range(5)]
        with pytest.raises(jb.ProfileError, match="Record windows less often"):
            waiting[-1].read("no file", timeout=1.0)
        waiting[0].summary = summary_of([1, 2])
        waiting[0].finish()
        for window in waiting[1:4]:
            with pytest.raises(jb.ProfileError, match="cannot read the trace"):
                window.read("no file", timeout=1e-9)
            window.finish()
        # The window before whose trace could be read is the one to compare with.
        waiting[4].summary = summary_of([8, 9])
        found = waiting[4].compare("no file", timeout=1.0)
        assert found is not None
        assert found.steps_before == [1, 2]


# xprof, and the histogram.


def test_what_xprof_adds():
    """The metrics, the roofline and the advice of xprof are in the text, and the metrics are scalars."""
    pytest.importorskip("xprof")
    summary = summary_of(
        [3],
        advice=["Your program is likely bottlenecked by X.\n- Do Y."],
        metrics={"device_duty_cycle_percent": 81.25, "hbm_utilization_percent": 40.0},
        bound_by="HBM",
    )
    text = verdict(summary, None, synchronized=False)
    assert (
        "**xprof:** device duty cycle 81.2 %; HBM utilization 40.0 %; the roofline model limits the program "
        "by HBM.\n\n**xprof advises:** Your program is likely bottlenecked by X.\n- Do Y." in text
    )
    figures = scalars(summary_records(summary, 3))
    assert figures["profile/xprof/device_duty_cycle_percent"] == 81.25
    assert figures["profile/xprof/hbm_utilization_percent"] == 40.0


@pytest.mark.parametrize(
    ("intervals", "edges", "counts"), [([2.0, 2.0], [2.0, 2.0], [2]), ([1.0, 4.0], None, None)]
)
def test_histograms(intervals, edges, counts):
    """Each interval is in the histogram; equal ones make one bucket."""
    summary = summary_of([1, 2, 3])
    summary.intervals = intervals
    (histogram,) = [r.value for r in summary_records(summary, 3) if r.kind is Kind.HISTOGRAM]
    assert histogram.sum == sum(intervals)
    assert histogram.sum_squares == sum(x * x for x in intervals)
    assert histogram.counts.sum() == 2
    assert histogram.edges[0] == min(intervals)
    assert histogram.edges[-1] == max(intervals)
    if edges is not None:
        np.testing.assert_array_equal(histogram.edges, edges)
        np.testing.assert_array_equal(histogram.counts, counts)
