"""The summary of a trace: what the run says of it is what is in it, and what xprof says."""

import json
import logging
import os
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
from jaxboard._profile import report
from jaxboard._profile.read import summarize, summarize_apart
from jaxboard._profile.summary import Op, Summary
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
    """Steps 3 to 7 of a run, and what the run was told of them."""
    sink = MemorySink()
    logdir = tmp_path_factory.mktemp("summary") / "run"
    x = jnp.ones((100, 100))
    with jb.Run(logdir, sinks=[sink]), jb.profile((3, 8)) as profiler:
        for _ in range(10):
            x = train_step(augment(x))
    told = [record for record in sink.records if record.tag.startswith("profile/")]
    return types.SimpleNamespace(path=profiler.path, told=told)


def scalars(told, tag):
    return [(r.step, float(r.value)) for r in told if r.kind is Kind.SCALAR and r.tag == tag]


def table(told, tag):
    (record,) = [r for r in told if r.kind is Kind.TEXT and r.tag == tag]
    assert record.step == 7
    return record.value


def durations(path):
    """Milliseconds of each step by its number, as they are in the file."""
    return {
        dict(event.stats)["step_num"]: event.duration_ns / 1e6
        for plane in ProfileData.from_file(path).planes
        for line in plane.lines
        for event in line.events
        if event.name == "train"
    }


def test_step_times(profiled):
    """A curve of the steps' times, and their mean, least and most with the steps of these."""
    times = durations(profiled.path)
    assert dict(scalars(profiled.told, "profile/step_ms")) == times
    assert list(times) == [3, 4, 5, 6, 7]
    mean, least, most = sum(times.values()) / 5, min(times.values()), max(times.values())
    assert scalars(profiled.told, "profile/step_ms_mean") == [(7, pytest.approx(mean))]
    assert scalars(profiled.told, "profile/step_ms_min") == [(7, least)]
    assert scalars(profiled.told, "profile/step_ms_max") == [(7, most)]
    slowest = next(step for step, ms in times.items() if ms == most)
    assert table(profiled.told, "profile/step_times")[0] == ["step time", "ms", "step"]
    assert table(profiled.told, "profile/step_times")[1:] == [
        ["mean", f"{mean:.3f}", "3-7"],
        ["min", f"{least:.3f}", str(next(s for s, ms in times.items() if ms == least))],
        ["max", f"{most:.3f}", str(slowest)],
    ]


def test_steps_that_do_not_wait(tmp_path):
    """Their markers say how long dispatching took; only the mean of the whole window is a step's time."""
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


def rows(told, tag):
    """The rows of a table, each by its head."""
    head, *rows = table(told, tag)
    return [dict(zip(head, row, strict=True)) for row in rows]


def test_operations(profiled):
    """What the program's operations took, the longest first, each without what ran within it."""
    listed = rows(profiled.told, "profile/device_ops")
    assert 3 <= len(listed) <= 10
    own = [float(row["ms, by itself"]) for row in listed]
    assert own == sorted(own, reverse=True)
    ran = Counter(
        (name, stats["hlo_module"]) for _, name, stats in events(profiled.path) if "hlo_op" in stats
    )
    for row in listed:
        assert int(row["times"]) == ran[row["operation"], row["in the program"]]
    assert {row["in the program"] for row in listed} == {"jit_train_step", "jit_augment"}
    shares = {
        r.tag.removeprefix("profile/device_ops_percent/"): float(r.value)
        for r in profiled.told
        if r.tag.startswith("profile/device_ops_percent/")
    }
    assert list(shares) == [f"{row['in the program']}/{row['operation']}" for row in listed[:5]]
    assert [f"{share:.1f} %" for share in shares.values()] == [row["share"] for row in listed[:5]]
    assert 90 < sum(shares.values()) < 101
    # The loop lasts as long as all of its iterations, and spends next to nothing by itself.
    loops = [share for name, share in shares.items() if "while" in name]
    assert sum(loops) < 50


def test_operations_have_the_users_names(profiled):
    """Each is told by what it is in the user's program, with the scopes that it is in."""
    pytest.importorskip("xprof")
    names = {
        (row["in the program"], row["which is"])
        for row in rows(profiled.told, "profile/device_ops")
    }
    assert ("jit_augment", "noise/dot_general") in names
    assert ("jit_augment", "noise/sin") in names
    loop = [name for program, name in names if program == "jit_train_step"]
    assert [name for name in loop if name.startswith("layers/while/body/")]


def test_host_operations(profiled):
    """What host threads did is told apart from the program's operations."""
    host = rows(profiled.told, "profile/host_ops")
    assert list(host[0]) == ["share", "ms, by itself", "times", "operation"]
    names = {row["operation"] for row in host}
    assert "train" in names
    assert names.isdisjoint(row["operation"] for row in rows(profiled.told, "profile/device_ops"))


def test_two_processes_agree(profiled):
    """What is read in another process is what is read in this one."""
    apart = summarize_apart(profiled.path, timeout=60)
    here = summarize(profiled.path)
    assert json.loads(json.dumps(vars(here))) == json.loads(json.dumps(vars(apart)))
    assert here.source == "trace"


def test_a_file_that_is_no_trace(tmp_path):
    """It is said in one line what was wrong."""
    (tmp_path / "host.xplane.pb").write_bytes(b"no trace")
    with pytest.raises(jb.ProfileError, match="^reading it failed: .+") as caught:
        summarize_apart(str(tmp_path / "host.xplane.pb"), timeout=60)
    assert "\n" not in str(caught.value)


def test_nested_markers_count_once(tmp_path):
    """A step marker within another is no step of its own."""
    with jax.profiler.trace(str(tmp_path)):
        for i in range(2):
            with (
                jax.profiler.StepTraceAnnotation("outer", step_num=i),
                jax.profiler.StepTraceAnnotation("inner", step_num=i + 100),
            ):
                pass
    (path,) = tmp_path.rglob("*.xplane.pb")
    assert [step for step, _ in summarize(str(path)).steps] == [0, 1]


def test_what_runs_within_an_operation(tmp_path):
    """Its time is its own, on each thread by itself."""
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
    told = [(op.name, op.times, op.ms) for op in summarize(str(file)).device]
    assert told == [("dot", 3, 8.0), ("sin", 1, 4.0), ("while", 1, 2.0)]


# --- A GPU's trace. -------------------------------------------------------------------------------

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
    """Ten steps of 5 ms each, with 3 ms of one kernel and 1 ms of another."""

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
    """What the device did is read by xprof: kernels where the operations aren't known."""
    pytest.importorskip("xprof")
    summary = summarize_apart(gpu, timeout=60)
    assert summary.steps == [[step, 5.0] for step in range(10, 20)]
    assert summary.device == [Op("fusion_1", "", "", 10, 30.0), Op("gemm", "", "", 10, 10.0)]
    assert summary.source == "kernel_stats"
    told = list(report.records(summary, 19))
    assert scalars(told, "profile/device_ops_percent/fusion_1") == [(19, 75.0)]
    (kernels,) = [r.value for r in told if r.tag == "profile/device_ops"]
    assert kernels == [
        ["share", "ms, by itself", "times", "operation"],
        ["75.0 %", "30.000", "10", "fusion_1"],
        ["25.0 %", "10.000", "10", "gemm"],
    ]


def test_a_gpu_without_xprof(gpu, monkeypatch):
    """It is said how to get what can read that; the steps' times are there all the same."""
    for module in ("xprof", "xprof.convert"):
        monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(sys.modules, "jaxboard._profile.xprof", raising=False)
    monkeypatch.delattr(jaxboard._profile, "_xprof", raising=False)
    summary = summarize(gpu)
    assert [step for step, _ in summary.steps] == list(range(10, 20))
    assert (summary.device, summary.source) == ([], None)
    told = list(report.records(summary, 19))
    (text,) = [r.value for r in told if r.tag == "profile/device_ops"]
    assert "pip install 'jaxboard-tb[profile]'" in text


def test_nothing_is_invented():
    """Without steps and operations there is nothing to say."""
    assert list(report.records(Summary([], [], [], "trace"), 0)) == []


# --- The line to the user. ------------------------------------------------------------------------


def test_the_line(tmp_path, capsys, caplog):
    """Path, size, steps, seconds and what to do next, on standard error."""
    logdir = tmp_path / "run"
    with jb.profile((0, 2), logdir) as profiler:
        for i in range(3):
            with profiler.step(i):
                pass
    assert profiler.path is not None
    size = os.path.getsize(profiler.path) / 1e6
    line = capsys.readouterr().err
    assert line.startswith("jaxboard: profiled 2 steps (0-1), saved in 0.")
    assert f" s: {profiler.path}, {size:.1f} MB. " in line
    assert line.endswith(f"tensorboard --logdir {logdir}\n")
    assert markers(profiler.path) == [0, 1]


def test_the_line_as_a_log(capsys, caplog):
    """Where logging is set up for it, it goes there; where faults alone are wanted, nowhere."""
    with caplog.at_level(logging.INFO, "jaxboard"):
        report.say("profiled")
    assert [record.getMessage() for record in caplog.records] == ["jaxboard: profiled"]
    with caplog.at_level(logging.WARNING, "jaxboard"):
        report.say("profiled")
    assert len(caplog.records) == 1
    assert capsys.readouterr().err == ""


def test_a_trace_without_steps(tmp_path, caplog):
    """It is said that TensorBoard will have no step times, and what a step is."""
    with jb.profile(logdir=tmp_path):
        pass
    assert "no step was taken while it was recorded" in caplog.text
    assert "jaxboard.instrument" in caplog.text


def test_a_trace_without_markers(tmp_path, caplog):
    """So it is where the steps were taken, but not marked, since the host isn't recorded at all."""
    with jb.profile((0, 1), tmp_path, host_level=0) as profiler, profiler.step(0):
        pass
    assert "the trace has no step markers" in caplog.text
    assert markers(profiler.path) == []


@pytest.mark.parametrize("steps", [(0, 1), (0, 10)])
def test_a_run_that_closes_first(tmp_path, steps):
    """Its closing ends the recording, and waits until the summary is in it."""
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
