"""Telemetry of a run as a real TensorBoard shows it."""

from __future__ import annotations

import html

import jax
import numpy as np
import pytest

import jaxboard as jb


@pytest.mark.filterwarnings("ignore:TensorFlow cannot be imported")
def test_telemetry_is_shown(tmp_path, shared_tensorboard):
    """Scalars appear under jaxboard/, tables and alarms among the texts."""

    @jb.instrument
    @jax.jit
    def train_step(x):
        return x @ x.T

    with jb.Run(tmp_path / "run", telemetry=jb.Telemetry(peak_flops=1e12)):
        for rows in (4, 4, 4, 4, 5):
            train_step(np.ones((rows, 8), np.float32))
    with jb.Run(tmp_path / "windows", telemetry=jb.Telemetry(window=1e-6)):
        for _ in range(3):
            train_step(np.ones((4, 8), np.float32))
    server = shared_tensorboard("rust")
    run = f"{server.show(tmp_path)}run"
    counts = server.scalars(run, "jaxboard/compile/train_step/count", count=2)
    assert [(step, value) for _, step, value in counts] == [(0, 1), (4, 2)]
    flops = server.scalars(run, "jaxboard/cost/train_step/flops", count=2)
    assert [(step, value) for _, step, value in flops] == [
        (0, 2 * 4 * 4 * 8),
        (4, 2 * 5 * 5 * 8),
    ]
    tags = set(server.tags("scalars", run))
    step = "jaxboard/step/train_step/"
    assert {tag.removeprefix(step) for tag in tags if tag.startswith(step)} == {
        "per_second",
        "seconds_p50",
        "seconds_p95",
        "seconds_max",
        "call_seconds",
        "host_wait_seconds",
    }
    assert {"jaxboard/overhead/wrapper_seconds", "jaxboard/memory/cpu_0/live_bytes"} <= tags
    seconds = [
        server.scalars(run, tag)[-1][2] for tag in tags if tag.startswith("jaxboard/time/seconds/")
    ]
    shares = [tag for tag in tags if tag.startswith("jaxboard/time/share/")]
    assert len(seconds) == len(shares) > 2
    assert min(seconds) > 0
    assert "% of the time" in server.text(run, "jaxboard/time/summary")[-1]["text"]
    (picture,) = server.tags("images", f"{run.removesuffix('run')}windows")
    assert picture == "jaxboard/time/picture"
    (alarm,) = server.text(run, "jaxboard/recompiles/train_step")
    assert alarm["step"] == 4
    assert "x: float32[4,8] -> float32[5,8] (shape)" in html.unescape(alarm["text"])
    table = server.text(run, "jaxboard/compile/train_step", count=2)[-1]["text"]
    assert table.count("<tr>") == 3
    assert "<table>" in server.text(run, "jaxboard/memory/train_step")[0]["text"]
