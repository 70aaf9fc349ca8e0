"""The arguments of ``profile``: the forms of ``steps=``, and errors for invalid options."""

import ctypes
import dataclasses
import shutil
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest
from traces import markers, traces

import jaxboard as jb
from jaxboard import _compat
from jaxboard._profile.step_range import parse_steps

FORMS = [
    range(10, 20),
    (10, 20),
    [10, 20],
    slice(10, 20),
    slice(10, 20, 1),
    "10..20",
    " 10 .. 20 ",
    (np.int64(10), np.int32(20)),
]


@pytest.mark.parametrize("steps", FORMS, ids=repr)
def test_forms_of_one_range(steps):
    """Every form means steps 10 to 19."""
    assert parse_steps(steps) == range(10, 20)


def test_open_forms():
    """None stays None; a slice without a start begins at 0."""
    assert parse_steps(None) is None
    assert parse_steps(slice(None, 3)) == range(3)


@pytest.mark.parametrize(
    ("steps", "problem"),
    [
        (range(10, 20, 2), "a stride is not possible"),
        (slice(10, 20, 2), "a stride is not possible"),
        (range(20, 10, -1), "a stride is not possible"),
        (range(10, 10), "the range is empty"),
        ((20, 10), "the range is empty"),
        ("20..10", "the range is empty"),
        (range(-3, 3), "steps count from 0"),
        ("10-20", "expected a range of steps"),
        ("10..", "expected a range of steps"),
        (15, "expected a range of steps"),
        ((10, 15, 20), "expected a range of steps"),
        ((1.5, 3), "expected a range of steps"),
        (slice(10, None), "expected a range of steps"),
    ],
    ids=repr,
)
def test_invalid_steps(steps, problem):
    """Invalid steps raise an error with the value, the problem and the valid forms."""
    with pytest.raises(ValueError, match=problem) as caught:
        jb.profile(steps=steps)
    assert isinstance(caught.value, jb.UsageError)
    assert f"steps={steps!r}" in str(caught.value)
    assert "range(10, 20)" in str(caught.value)


@pytest.mark.parametrize(
    "option",
    [
        {"logdir": ""},
        {"logdir": 3},
        {"name": ""},
        {"name": "a/b"},
        {"host_level": 4},
        {"host_level": True},
        {"sync": "yes"},
        {"max_seconds": 0},
        {"max_seconds": "60"},
        {"on_error": "ignore"},
        {"every": 0},
        {"every": 4.5},
        {"every": 4},
        {"every_secs": 0},
        {"every_secs": "hourly"},
        {"slow": 1},
        {"slow": float("inf")},
        {"slow": True},
        {"nsys": "x"},
        {"python": "yes"},
        {"hlo": None},
        {"advanced": "gpu"},
        {"advanced": ["gpu_pm_sample_counters"]},
    ],
    ids=repr,
)
def test_invalid_options(option):
    """An invalid option raises an error with its name and what is expected."""
    (name,) = option
    with pytest.raises(jb.UsageError, match=rf"profile\({name}=.*: expected "):
        jb.profile(**option)


# Options of the tracers.


def test_advanced_options():
    """Fields of JAX's options, and keys of their configuration, are passed to JAX."""
    advanced = {
        "include_dataset_ops": False,
        "gpu_max_activity_api_events": 10,
        "tpu_trace_mode": "TRACE_COMPUTE",
        "advanced_configuration": {"gpu_of_tomorrow": True},
    }
    found = jb.profile(advanced=advanced)._settings.advanced
    assert found == {
        "include_dataset_ops": False,
        "advanced_configuration": {
            "gpu_max_activity_api_events": 10,
            "tpu_trace_mode": "TRACE_COMPUTE",
            "gpu_of_tomorrow": True,
        },
    }
    options = _compat.profile_options(**found)
    assert options.include_dataset_ops is False
    assert options.advanced_configuration == found["advanced_configuration"]


def test_a_profile_with_advanced_options(tmp_path):
    """A trace with advanced options is recorded."""
    advanced = {"raise_error_on_start_failure": True}
    with jb.profile((0, 1), tmp_path, advanced=advanced) as profiler, profiler.step(0):
        pass
    assert markers(profiler.path) == [0]


@pytest.mark.parametrize("name", ["tpu_trace_mod", "device_tracer_level", 3, None, ("a",)])
def test_unknown_advanced_options(name):
    """An unknown option raises an error with a similar name, and all names."""
    with pytest.raises(jb.UsageError) as caught:
        jb.profile(advanced={name: 1})
    text = str(caught.value)
    start = f"profile(advanced={{{name!r}: ...}}): the installed JAX has no such option. "
    assert text.startswith(start)
    assert (
        ("Did you mean 'tpu_trace_mode'?" in text)
        is ("Did you" in text)
        is (name == "tpu_trace_mod")
    )
    options = [n for n in dir(jax.profiler.ProfileOptions()) if not n.startswith("_")]
    assert "raise_error_on_start_failure" in options
    known = set(text.partition("The options are ")[2].partition(". ")[0].split(", "))
    assert {"raise_error_on_start_failure", "gpu_pm_sample_counters", "tpu_trace_mode"} <= known
    assert known.isdisjoint({"session_id", "host_tracer_level"})


@pytest.mark.parametrize(
    ("name", "argument"), [("host_tracer_level", "host_level="), ("session_id", "name=")]
)
def test_options_that_have_an_argument(name, argument):
    """An option that has an argument is refused."""
    with pytest.raises(jb.UsageError, match=f"'{name}': ...}}\\): use {argument} instead"):
        jb.profile(advanced={name: 1})


@pytest.mark.parametrize(
    ("advanced", "expected"),
    [
        ({"include_dataset_ops": 1}, "expected bool"),
        ({"gpu_pm_sample_counters": ["a"]}, "expected int or bool or str"),
        ({"advanced_configuration": {"x": 1.5}}, "expected int or bool or str"),
        ({"advanced_configuration": {3: 1}}, "expected the name of an option"),
        ({"advanced_configuration": 3}, "expected options by name"),
    ],
)
def test_values_of_advanced_options(advanced, expected):
    """A value of another type raises an error."""
    with pytest.raises(jb.UsageError, match=expected):
        jb.profile(advanced=advanced)


# NVIDIA's Nsight Systems.

RUNTIME = """
#include <stdio.h>
static int called(const char *name) {
    FILE *file = fopen("calls", "a"); fprintf(file, "%s\\n", name); fclose(file);
    return CODE;
}
int cudaProfilerStart(void) { return called("start"); }
int cudaProfilerStop(void) { return called("stop"); }
const char *cudaGetErrorString(int code) { return code == 999 ? "unknown error" : ""; }
"""


def runtime(tmp_path, monkeypatch, code=0):
    """Make a stand-in for the CUDA runtime, which writes down its calls, and let jaxboard find it."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler makes the library")
    folder = tmp_path / "packages" / "nvidia/cuda_runtime/lib"
    folder.mkdir(parents=True)
    (tmp_path / "runtime.c").write_text(RUNTIME.replace("CODE", str(code)))
    library = folder / "libcudart.so.12"
    command = [compiler, "-shared", "-fPIC", "-o", library, tmp_path / "runtime.c"]
    subprocess.run(command, check=True)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    monkeypatch.chdir(tmp_path)


def test_nsight(tmp_path, monkeypatch):
    """With nsys=True, each window is enclosed in cudaProfilerStart and cudaProfilerStop."""
    runtime(tmp_path, monkeypatch)
    with jb.profile((1, 2), tmp_path / "logs", nsys=True, every=2) as profiler:
        for i in range(5):
            with profiler.step(i), open("calls", "a") as calls:
                calls.write(f"{i}\n")
    assert profiler.captured == (1, 3)
    calls = (tmp_path / "calls").read_text().split()
    assert calls == ["0", "start", "1", "stop", "2", "start", "3", "stop", "4"]


def test_a_fault_of_cuda(tmp_path, monkeypatch, caplog):
    """An error of the CUDA runtime is logged, and the training goes on."""
    runtime(tmp_path, monkeypatch, code=999)
    with jb.profile((0, 1), tmp_path / "logs", nsys=True) as profiler, profiler.step(0):
        pass
    assert profiler.path is None
    assert "no profile: cudaProfilerStart failed: unknown error (error 999)" in caplog.text


def test_without_cuda(monkeypatch):
    """Without the CUDA runtime, an error explains where it is from."""

    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    with pytest.raises(jb.UsageError, match=r"nsys=True\): there is no CUDA runtime \(libcudart\)"):
        jb.profile(nsys=True)


# Pathways.


def test_pathways(tmp_path, monkeypatch, capfd):
    """With Pathways, which replaces start_trace, the log directory goes to it as it is."""
    started = []
    start = jax.profiler.start_trace

    def start_trace(log_dir, *, profiler_options):
        if not str(log_dir).startswith("gs://"):
            raise ValueError(f"log_dir must be a GCS bucket path, got {log_dir}")
        started.append((log_dir, profiler_options.session_id))
        start(str(tmp_path), profiler_options=profiler_options)

    monkeypatch.setattr(jax.profiler, "start_trace", start_trace)
    with jb.profile((3, 5), "gs://bucket/run") as profiler:
        for i in range(6):
            with profiler.step(i):
                pass
    assert started == [("gs://bucket/run", "steps_3-4")]
    assert profiler.path == "gs://bucket/run/plugins/profile/steps_3-4"
    assert traces(tmp_path) == [f"plugins/profile/steps_3-4/{socket.gethostname()}.xplane.pb"]
    assert "profiled 2 steps (3-4), saved in " in capfd.readouterr().err
    with (
        pytest.raises(jb.ProfileError, match="log_dir must be a GCS bucket path"),
        jb.profile((0, 1), tmp_path, on_error="raise") as profiler,
        profiler.step(0),
    ):
        pass


def test_configuration_of_a_trainer(tmp_path):
    """The bounds of a trainer's configuration are checked like a range of steps."""

    @dataclasses.dataclass(slots=True)
    class ProfilingConfig:
        log_dir: str = str(tmp_path)
        start_step: int = 20
        end_step: int = 10

    with pytest.raises(jb.UsageError, match="the range is empty"):
        jb.JAXProfiler(ProfilingConfig())


@pytest.mark.parametrize("processes", ["all", -1, [], [0, -1], [0.5], [None], {}], ids=repr)
def test_invalid_processes(processes):
    """Anything but numbers of processes raises."""
    with pytest.raises(jb.UsageError, match=r"profile\(processes="):
        jb.profile(processes=processes)
