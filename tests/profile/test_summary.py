"""The summary of a trace agrees with the trace itself and with xprof."""

import json
import logging
import os
import re
import sys
import types
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.profiler import ProfileData
from traces import events, markers

import jaxboard as jb
import jaxboard._profile
from jaxboard._paths import view_command
from jaxboard._profile.notices import notify
from jaxboard._profile.summary import Operation, TraceSummary
from jaxboard._profile.summary_records import summary_records
from jaxboard._profile.trace_reader import summarize, summarize_in_subprocess
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink

MS = 10**9  # picoseconds


@jb.instrument
@jax.jit
def train_step(x):
    with jb.trace("layers"):
        return jax.lax.fori_loop(0, 50, lambda _, x: jnp.sin(x @ x), x)


@jax.jit
def augment(x):
    with jb.trace("noise"):
        return jnp.sin(x @ x)


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """Return a run with a profile of steps 3 to 7, and the records of the profile."""
    sink = MemorySink()
    logdir = tmp_path_factory.mktemp("summary") / "run"
    x = jnp.ones((100, 100))
    with jb.Run(logdir, sinks=[sink]), jb.profile((3, 8)) as profiler:
        for _ in range(10):
            x = train_step(augment(x))
    records = [record for record in sink.records if record.tag.startswith("profile/")]
    return types.SimpleNamespace(path=profiler.path, records=records)


def scalars(records, tag):
    return [(r.step, float(r.value)) for r in records if r.kind is Kind.SCALAR and r.tag == tag]


def table(records, tag):
    (record,) = [r for r in records if r.kind is Kind.TEXT and r.tag == tag]
    assert record.step == 7
    return record.value


def durations(path):
    """Return the milliseconds of each step in the file, by its number."""
    return {
        dict(event.stats)["step_num"]: event.duration_ns / 1e6
        for plane in ProfileData.from_file(path).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    }


def test_step_times(profiled):
    """The run has a curve of the step times, and their mean, minimum and maximum with their steps."""
    times = durations(profiled.path)
    assert dict(scalars(profiled.records, "profile/step_ms")) == times
    assert list(times) == [3, 4, 5, 6, 7]
    mean, shortest, longest = sum(times.values()) / 5, min(times.values()), max(times.values())
    assert scalars(profiled.records, "profile/step_ms_mean") == [(7, pytest.approx(mean))]
    assert scalars(profiled.records, "profile/step_ms_min") == [(7, shortest)]
    assert scalars(profiled.records, "profile/step_ms_max") == [(7, longest)]
    slowest = next(step for step, ms in times.items() if ms == longest)
    assert table(profiled.records, "profile/step_times")[0] == ["step time", "ms", "step"]
    assert table(profiled.records, "profile/step_times")[1:] == [
        ["mean", f"{mean:.3f}", "3-7"],
        ["min", f"{shortest:.3f}", str(next(s for s, ms in times.items() if ms == shortest))],
        ["max", f"{longest:.3f}", str(slowest)],
    ]


def test_asynchronous_steps(tmp_path):
    """Markers of asynchronous steps cover only dispatch, so the summary has only the mean step time."""
    sink = MemorySink()
    big = jnp.ones((200, 200))
    step = jb.instrument(
        jax.jit(lambda x: jax.lax.fori_loop(0, 200, lambda _, x: jnp.sin(x @ x), x))
    )
    with jb.Run(tmp_path, sinks=[sink]), jb.profile((1, 4), sync=False) as profiler:
        for _ in range(5):
            step(big)
    assert scalars(sink.records, "profile/step_ms") == []
    ((at, mean),) = scalars(sink.records, "profile/step_ms_mean")
    data = ProfileData.from_file(str(profiler.path))
    spans = [event for plane in data.planes for line in plane.lines for event in line.events]
    first = min(event.start_ns for event in spans if event.name == "train")
    last = max(
        event.start_ns + event.duration_ns
        for event in spans
        if any(key == "hlo_op" for key, _ in event.stats) and "jaxboard" not in str([*event.stats])
    )
    assert at == 3
    assert 3 * mean >= (last - first) / 1e6
    marked = sum(event.duration_ns for event in spans if event.name == "train") / 1e6
    assert 3 * mean > marked


def rows(records, tag):
    """Return the rows of a table as dicts by column."""
    header, *rows = table(records, tag)
    return [dict(zip(header, row, strict=True)) for row in rows]


def test_operations(profiled):
    """The table lists operations by self time, the longest first, with their counts and shares."""
    listed = rows(profiled.records, "profile/device_ops")
    assert 3 <= len(listed) <= 10
    self_times = [float(row["self time (ms)"]) for row in listed]
    assert self_times == sorted(self_times, reverse=True)
    ran = Counter(
        (name, stats["hlo_module"]) for _, name, stats in events(profiled.path) if "hlo_op" in stats
    )
    for row in listed:
        assert int(row["count"]) == ran[row["operation"], row["program"]]
    assert {row["program"] for row in listed} == {"jit_train_step", "jit_augment"}
    shares = {
        r.tag.removeprefix("profile/device_ops_percent/"): float(r.value)
        for r in profiled.records
        if r.tag.startswith("profile/device_ops_percent/")
    }
    assert list(shares) == [f"{row['program']}/{row['operation']}" for row in listed[:5]]
    assert [f"{share:.1f} %" for share in shares.values()] == [row["share"] for row in listed[:5]]
    assert 90 < sum(shares.values()) < 101
    # A loop lasts as long as all of its iterations, but its self time is small.
    loops = [share for name, share in shares.items() if "while" in name]
    assert sum(loops) < 50


def test_operations_have_scopes(profiled):
    """Each operation has the user's operation and name scopes."""
    pytest.importorskip("xprof")
    names = {(row["program"], row["scope"]) for row in rows(profiled.records, "profile/device_ops")}
    assert ("jit_augment", "noise/dot_general") in names
    assert ("jit_augment", "noise/sin") in names
    loop = [name for program, name in names if program == "jit_train_step"]
    assert [name for name in loop if name.startswith("layers/while/body/")]


def test_host_operations(profiled):
    """Operations of host threads are listed separately from those of programs."""
    host = rows(profiled.records, "profile/host_ops")
    assert list(host[0]) == ["share", "self time (ms)", "count", "operation"]
    names = {row["operation"] for row in host}
    assert "train" in names
    assert names.isdisjoint(
        row["operation"] for row in rows(profiled.records, "profile/device_ops")
    )


def test_two_processes_agree(profiled):
    """Reading in a subprocess gives the same summary as reading in this process."""
    there = summarize_in_subprocess(profiled.path, timeout=60)
    here = summarize(profiled.path)
    assert json.loads(json.dumps(vars(here))) == json.loads(json.dumps(vars(there)))
    assert here.source == "trace"


def test_a_file_that_is_not_a_trace(tmp_path):
    """A file that is not a trace raises a one-line error."""
    (tmp_path / "host.xplane.pb").write_bytes(b"no trace")
    with pytest.raises(jb.ProfileError, match="^cannot read the trace: .+") as caught:
        summarize_in_subprocess(str(tmp_path / "host.xplane.pb"), timeout=60)
    assert "\n" not in str(caught.value)


def test_nested_markers_count_once(tmp_path):
    """A step marker within another one does not count."""
    with jax.profiler.trace(str(tmp_path)):
        for i in range(2):
            with (
                jax.profiler.StepTraceAnnotation("outer", step_num=i),
                jax.profiler.StepTraceAnnotation("inner", step_num=i + 100),
            ):
                pass
    (path,) = tmp_path.rglob("*.xplane.pb")
    assert [step for step, _ in summarize(str(path)).steps] == [0, 1]


def test_self_times(tmp_path):
    """The time of an operation excludes operations within it on the same thread."""
    # By thread: name, start, end.
    threads = [
        [("while", 0, 10), ("dot", 1, 5), ("sin", 5, 9), ("dot", 11, 12)],
        [("dot", 3, 6), ("end: dot", 6, 7)],
    ]
    names = ["while", "dot", "sin", "end: dot"]
    text = 'name: "/host:CPU" '
    for i, name in enumerate(names):
        text += f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }} '
    text += 'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } } '
    for i, thread in enumerate(threads):
        spans = "".join(
            f"events {{ metadata_id: {names.index(name)} offset_ps: {start * MS} "
            f'duration_ps: {(end - start) * MS} stats {{ metadata_id: 1 str_value: "op" }} }} '
            for name, start, end in thread
        )
        text += f"lines {{ id: {i} {spans} }} "
    file = tmp_path / "host.xplane.pb"
    file.write_bytes(ProfileData.text_proto_to_serialized_xspace(f"planes {{ {text} }}"))
    found = [(op.name, op.executions, op.ms) for op in summarize(str(file)).device]
    assert found == [("dot", 3, 8.0), ("sin", 1, 4.0), ("while", 1, 2.0)]


# The trace of a GPU.

GPU = """
planes {{
  id: 1 name: "/device:GPU:0"
  event_metadata {{ key: 1 value {{ id: 1 name: "fusion_1" }} }}
  event_metadata {{ key: 2 value {{ id: 2 name: "gemm" }} }}
  stat_metadata {{ key: 1 value {{ id: 1 name: "kernel_details" }} }}
  lines {{ id: 1 name: "Stream #1(Compute)" timestamp_ns: 1000 {kernels} }}
}}
planes {{
  id: 2 name: "/host:CPU"
  event_metadata {{ key: 1 value {{ id: 1 name: "train" }} }}
  stat_metadata {{ key: 1 value {{ id: 1 name: "step_num" }} }}
  stat_metadata {{ key: 2 value {{ id: 2 name: "_r" }} }}
  lines {{ id: 1 name: "python" timestamp_ns: 1000 {steps} }}
}}
"""
DETAILS = "regs:32 static_shared:0 dynamic_shared:0 grid:1,1,1 block:128,1,1 occ_pct:50"


@pytest.fixture
def gpu(tmp_path):
    """Return a trace of ten steps of 5 ms, each with 3 ms of one kernel and 1 ms of another."""

    def event(kind, start, length, *stats):
        return (
            f"events {{ metadata_id: {kind} offset_ps: {start} duration_ps: {length} "
            + " ".join(f"stats {{ metadata_id: {i} {value} }}" for i, value in stats)
            + " }\n"
        )

    details = (1, f'str_value: "{DETAILS}"')
    steps = kernels = ""
    for i in range(10):
        start = 5 * i * MS
        steps += event(1, start, 5 * MS, (1, f"int64_value: {10 + i}"), (2, "int64_value: 1"))
        kernels += event(1, start, 3 * MS, details) + event(2, start + 3 * MS, MS, details)
    text = GPU.format(kernels=kernels, steps=steps)
    file = tmp_path / "host.xplane.pb"
    file.write_bytes(ProfileData.text_proto_to_serialized_xspace(text))
    return str(file)


def test_a_gpus_kernels(gpu):
    """The operations of a device are read by xprof; if they are unknown, its kernels are."""
    pytest.importorskip("xprof")
    summary = summarize_in_subprocess(gpu, timeout=60)
    assert summary.steps == [[step, 5.0] for step in range(10, 20)]
    assert summary.device == [
        Operation("fusion_1", "", "", 10, 30.0),
        Operation("gemm", "", "", 10, 10.0),
    ]
    assert summary.source == "kernel_stats"
    records = list(summary_records(summary, 19))
    assert scalars(records, "profile/device_ops_percent/fusion_1") == [(19, 75.0)]
    (kernels,) = [r.value for r in records if r.tag == "profile/device_ops"]
    assert kernels == [
        ["share", "self time (ms)", "count", "operation"],
        ["75.0 %", "30.000", "10", "fusion_1"],
        ["25.0 %", "10.000", "10", "gemm"],
    ]


def test_a_gpu_without_xprof(gpu, monkeypatch):
    """Without xprof the summary has the step times, and a hint to install xprof."""
    for module in ("xprof", "xprof.convert"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "jaxboard._profile.xprof_tools", raising=False)
    monkeypatch.delattr(jaxboard._profile, "xprof_tools", raising=False)
    summary = summarize(gpu)
    assert [step for step, _ in summary.steps] == list(range(10, 20))
    assert (summary.device, summary.source) == ([], None)
    records = list(summary_records(summary, 19))
    (text,) = [r.value for r in records if r.tag == "profile/device_ops"]
    assert "-m pip install 'xprof>=2.21'" in text


def test_an_empty_summary():
    """A summary without steps and operations has no records."""
    assert list(summary_records(TraceSummary([], [], [], "trace"), 0)) == []


# The notice to the user.


def test_the_notice(tmp_path, capsys, caplog):
    """The notice on standard error has the steps, seconds, path, size and the next command."""
    logdir = tmp_path / "run"
    with jb.profile((0, 2), logdir) as profiler:
        for i in range(3):
            with profiler.step(i):
                pass
    assert profiler.path is not None
    size = os.path.getsize(profiler.path) / 1e6
    line = capsys.readouterr().err
    start = r"jaxboard: profiled 2 steps \(0-1\), saved in \d+\.\d s: "
    assert re.match(start + re.escape(f"{profiler.path}, {size:.1f} MB. "), line)
    assert line.endswith(f"View it in the Profile tab: {view_command(str(logdir))}\n")
    assert markers(profiler.path) == [0, 1]


def test_the_notice_as_a_log_message(capsys, caplog):
    """With logging at INFO the notice is logged; with a higher level it is dropped."""
    with caplog.at_level(logging.INFO, "jaxboard"):
        notify("profiled")
    assert [record.getMessage() for record in caplog.records] == ["jaxboard: profiled"]
    with caplog.at_level(logging.WARNING, "jaxboard"):
        notify("profiled")
    assert len(caplog.records) == 1
    assert capsys.readouterr().err == ""


def test_a_trace_without_steps(tmp_path, caplog):
    """A warning explains that there are no step times, and what a step is."""
    with jb.profile(logdir=tmp_path):
        pass
    assert "no step was taken during the recording" in caplog.text
    assert "jaxboard.instrument" in caplog.text


def test_a_trace_without_markers(tmp_path, caplog):
    """A warning appears if steps have no markers because host events are not recorded."""
    with jb.profile((0, 1), tmp_path, host_level=0) as profiler, profiler.step(0):
        pass
    assert "the trace has no step markers" in caplog.text
    assert markers(profiler.path) == []


@pytest.mark.parametrize("steps", [(0, 1), (0, 10)])
def test_a_run_that_closes_first(tmp_path, steps):
    """Closing the run ends the recording and waits for the summary."""
    sink = MemorySink()
    run = jb.Run(tmp_path, sinks=[sink])
    with jb.profile(steps) as profiler:
        with profiler.step(0):
            pass
        run.close()
        with profiler.step(1):
            pass
    assert [step for step, _ in scalars(sink.records, "profile/step_ms")] == [0]
    assert profiler.captured == (0,)
