"""A capture in TensorBoard's Profile tab, queried through xprof and a real TensorBoard."""

import gzip
import json
import logging
import threading
import time
import types

import jax
import jax.numpy as jnp
import pytest
from by_hand import DEADLINE
from ports import free_port
from tensorboard_server import tensorboard
from traces import markers, traces

import jaxboard as jb
from jaxboard import _compat
from jaxboard._profile.trace_reader import summarize

pytest.importorskip("xprof")

RUN = "train/steps_10-19"


@jb.instrument
@jax.jit
def scoped_step(x):
    with jb.trace("encoder"):
        x = jnp.tanh(x @ x)
    with jb.trace("decoder"):
        x = jnp.sin(x @ x)
    jb.scalar("mean", x.mean())
    return x


@pytest.fixture(scope="module")
def profiled(tmp_path_factory):
    """Return a run of 25 steps in real event files with a profile of steps 10 to 19."""
    logdir = tmp_path_factory.mktemp("logs")
    x = jnp.ones((64, 64))
    with jb.Run(logdir / "train"), jb.profile(steps=range(10, 20)) as profiler:
        for _ in range(25):
            x = scoped_step(x)
    return types.SimpleNamespace(logdir=logdir, path=profiler.path)


# In process.


@pytest.fixture(scope="module")
def tool(profiled):
    """Return a function that queries one of xprof's tools."""
    from xprof.convert import raw_to_tool_data

    host = profiled.path.rpartition("/")[2].removesuffix(".xplane.pb")

    def query(name, **parameters):
        parameters = {"use_saved_result": False, "hosts": [host], **parameters}
        data, _ = raw_to_tool_data.xspace_to_tool_data([profiled.path], name, parameters)
        return data if isinstance(data, str) else data.decode()

    return query


def step_times(overview):
    """Return milliseconds by step number; xprof names the rows "train 11" or "11"."""
    table = overview[1]
    column = [column["id"] for column in table["cols"]].index("stepTimeMs")
    rows = [[cell["v"] for cell in row["c"]] for row in table["rows"]]
    return {int(row[0].split()[-1]): float(row[column]) for row in rows}


def test_overview_page(tool):
    """The page has a row for each step except the first and the last, which xprof leaves out."""
    overview = json.loads(tool("overview_page"))
    assert list(step_times(overview)) == list(range(11, 19))
    assert "No step marker" not in json.dumps(overview)


def test_step_times_agree(profiled, tool):
    """The run's curve and xprof's table have the same step times."""
    ours = dict(summarize(profiled.path).steps)
    theirs = step_times(json.loads(tool("overview_page")))
    assert len(theirs) == 8
    for step, ms in theirs.items():
        assert ours[step] == pytest.approx(ms, abs=1e-3)


# Over HTTP.


class ProfileTab:
    """The requests of the Profile tab to its server."""

    def __init__(self, server, run):
        self.server = server
        self.run = run
        server.until(lambda: run in self.query("runs", run=""))
        self.host = server.until(lambda: self.query("hosts", tag="overview_page"))[0]["hostname"]

    def read(self, path, **query):
        body = self.server.read(f"data/plugin/profile/{path}", **{"run": self.run, **query})
        return gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body

    def query(self, path, **query):
        return json.loads(self.read(path, **query) or "[]")

    def data(self, tool, **query):
        return self.read("data", tag=tool, host=self.host, **query).decode()


@pytest.fixture(scope="module")
def tab(profiled):
    with tensorboard(profiled.logdir) as server:
        yield ProfileTab(server, RUN)


@pytest.fixture(scope="module")
def module(tab):
    """Return the name of the training step's program in xprof's tools."""
    names = tab.read("module_list").decode().split(",")
    return next(name for name in names if name.startswith("jit_scoped_step"))


def test_the_tab_is_there(tab):
    """The Profile tab lists the profile under the name of the run, with its tools."""
    assert tab.server.get("data/plugins_listing")["profile"]["enabled"]
    assert RUN in tab.query("runs")
    assert len(tab.server.scalars("train", "mean", count=25)) == 25
    assert {"overview_page", "trace_viewer@", "memory_viewer", "graph_viewer"} <= set(
        tab.query("run_tools")
    )


def test_trace_viewer(tab):
    """The timeline has exactly steps 10 to 19."""
    found = [
        event.get("name", "") for event in json.loads(tab.data("trace_viewer@"))["traceEvents"]
    ]
    steps = {name for name in found if name.startswith("train ")}
    assert steps == {f"train {step}" for step in range(10, 20)}


def test_step_table(tab):
    """The overview page has a row for each step."""
    assert list(step_times(json.loads(tab.data("overview_page")))) == list(range(11, 19))


def test_memory_viewer(tab, module):
    """The memory viewer shows the peak memory of the step, and its buffers by scope."""
    answer = json.loads(tab.data("memory_viewer", module_name=module))
    assert answer["peakHeapMib"] >= 64 * 64 * 4 / 2**20
    assert "encoder" in json.dumps(answer) or "decoder" in json.dumps(answer)


def test_graph_viewer(tab, module):
    """The operations of the program carry their name scopes."""
    text = tab.read(
        "data",
        tag="graph_viewer",
        host=tab.host,
        module_name=module,
        type="long_txt",
        show_metadata="true",
    ).decode()
    assert "/encoder/" in text
    assert "/decoder/" in text


def test_the_summary_is_shown(tab):
    """TensorBoard shows the curve of the step times and the tables."""
    curve = tab.server.scalars("train", "profile/step_ms", count=10)
    assert [step for _, step, _ in curve] == list(range(10, 20))
    (entry,) = tab.server.text("train", "profile/step_times")
    assert "<table>" in entry["text"]
    assert entry["step"] == 19


@pytest.mark.filterwarnings("ignore:.*no run is open")
def test_while_tensorboard_captures(tab, tmp_path, caplog):
    """A profile during TensorBoard's own capture does nothing, and the next profile works."""
    port = free_port()
    jax.profiler.start_server(port)
    try:
        query = {"service_addr": f"localhost:{port}", "duration": 3000, "num_retry": 0}
        theirs = threading.Thread(target=tab.read, args=("capture_profile",), kwargs=query)
        theirs.start()
        end = time.monotonic() + DEADLINE
        while not _compat.trace_is_on() and time.monotonic() < end:
            scoped_step(jnp.ones((64, 64)))
        with jb.profile((0, 2), tmp_path) as profiler:
            for _ in range(3):
                scoped_step(jnp.ones((64, 64)))
        assert profiler.path is None
        (message,) = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
        assert "TensorBoard's Capture profile" in message
        theirs.join()
    finally:
        jax.profiler.stop_server()
    with jb.profile((0, 2), tmp_path) as profiler:
        for _ in range(3):
            scoped_step(jnp.ones((64, 64)))
    assert markers(profiler.path) == [0, 1]
    assert len(traces(tmp_path)) == 1
    assert len(tab.query("runs")) == 2
