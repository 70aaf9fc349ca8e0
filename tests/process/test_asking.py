"""Requests to an open run, in a job of two processes that compute together on the CPU."""

from __future__ import annotations

import gzip
import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import textwrap
import threading
from importlib.util import find_spec

import pytest
from by_hand import DEADLINE
from ports import free_port
from tensorboard_server import tensorboard
from traces import markers

import jaxboard as jb
from jaxboard._cli.main import main

PROGRAM = """
import os, sys, threading
import jax, jax.numpy as jnp, numpy as np
import jaxboard as jb

logdir, port, process = sys.argv[1], sys.argv[2], int(sys.argv[3])
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=process)
mesh = jax.make_mesh((2,), ("x",))
sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("x"))

@jb.instrument
@jax.jit
def step(flags):
    total = flags.sum()
    jb.scalar("total", total)
    jb.scalar("sampled", total, every=1000, reduce="last")
    jb.scalar("debug/total", total)
    return total

with jb.Run(logdir) as run, jb.profile(steps=range(3, 6), processes=[1]):
    stops = False
    # All processes end at the same step: what one of them sees reaches the others by the collective of the step.
    while not stops:
        seen = np.array([os.path.exists(os.path.join(logdir, "stop"))], np.float32)
        stops = float(step(jax.make_array_from_process_local_data(sharding, seen))) > 0
        jb.scalar("plain", run.step)
        if run.step == 8:
            print("running", flush=True)
        threading.Event().wait(0.005)
    print(step._cache_size(), flush=True)
"""


class Job:
    """Two processes."""

    def __init__(self, directory: pathlib.Path):
        self.logdir = directory / "run"
        # An earlier job, of one process, has left a profile of the same steps.
        earlier = self.logdir / "plugins" / "profile" / "steps_3-5" / "host-p0.xplane.pb"
        earlier.parent.mkdir(parents=True)
        earlier.touch()
        os.utime(earlier, (1e9, 1e9))
        program = directory / "program.py"
        program.write_text(textwrap.dedent(PROGRAM))
        port = free_port()
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""}
        self.processes = [
            subprocess.Popen(
                [sys.executable, str(program), str(self.logdir), str(port), str(process)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for process in range(2)
        ]

    def wait_until_it_runs(self) -> None:
        for process in self.processes:
            assert process.stdout is not None
            # Gloo prints lines of its own.
            lines = iter(process.stdout.readline, "")
            assert "running\n" in lines, self.end()

    def end(self) -> list[tuple[str, str]]:
        """End the job and return the output of each process."""
        (self.logdir / "stop").touch()
        try:
            return [process.communicate(timeout=DEADLINE) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    job = Job(tmp_path_factory.mktemp("job"))
    try:
        job.wait_until_it_runs()
        yield job
    finally:
        for process in job.processes:
            process.kill()


@pytest.fixture
def ask(job, capsys):
    """Return a function that asks by the command line, and returns its exit status and its answer."""

    def asked(*words, timeout=60):
        arguments = ["ask", str(job.logdir), *words, "--json", "--timeout", str(timeout)]
        status = main(arguments)
        return status, json.loads(capsys.readouterr().out)

    return asked


def answers(answer, *names):
    """Return these fields of the answers of both processes."""
    assert [each["process"] for each in answer["answers"]] == [0, 1], answer
    return [tuple(each.get(name) for name in names) for each in answer["answers"]]


def test_a_job_of_two_processes(job, ask):
    """Both processes act on each request, at the same step where that matters."""
    status, asked = ask("every", "debug/*=off", "sampled=1", "nothing=3")
    changed = asked["step"]
    assert (status, answers(asked, "step", "late")) == (0, [(changed, False)] * 2)

    status, asked = ask("profile", "steps=4")
    first = asked["step"]
    assert (status, answers(asked, "step", "late")) == (0, [(first, False)] * 2)
    (session,) = {os.path.dirname(each["path"]) for each in asked["answers"]}
    host = socket.gethostname()
    assert sorted(os.listdir(session)) == [f"{host}-p{n}.xplane.pb" for n in range(2)]

    status, asked = ask("profile", "steps=2", "processes=1")
    assert (status, [each["process"] for each in asked["answers"]]) == (0, [1])

    status, asked = ask("stacks")
    assert status == 0
    assert all("Thread 'MainThread':" in text for (text,) in answers(asked, "text"))

    status, asked = ask("memory")
    assert status == 0
    assert [os.path.basename(path).split("_")[-1] for (path,) in answers(asked, "path")] == [
        "p0.prof",
        "p1.prof",
    ]

    assert ask("flush")[0] == 0

    os.kill(job.processes[1].pid, signal.SIGSTOP)
    status, asked = ask("stacks", timeout=4)
    os.kill(job.processes[1].pid, signal.SIGCONT)
    assert (status, asked["unseen"]) == (1, [1])
    (waiting,) = asked["answers"]
    assert waiting["process"] == 0
    assert "program.py" in waiting["text"]

    outputs = job.end()
    assert [process.returncode for process in job.processes] == [0, 0], outputs
    assert [out.splitlines()[-1] for out, _ in outputs] == ["1", "1"]
    assert "no report has a tag that matches 'nothing'" in outputs[0][1]
    points = jb.read(job.logdir)
    steps = {tag: set(points[points.tag == tag].step) for tag in points.tag.unique()}
    last = max(steps["total"])
    assert steps["total"] == set(range(last + 1))
    assert steps["debug/total"] == set(range(changed))
    assert {step for step in steps["sampled"] if step >= changed} == set(range(changed, last + 1))
    assert {step for step in steps["sampled"] if step < changed} == set(range(0, changed, 1000))
    early = job.logdir / "plugins" / "profile" / "steps_3-5_1"
    assert [path.name for path in early.iterdir()] == [f"{host}-p1.xplane.pb"]
    if find_spec("xprof") is not None:
        assert {f"{host}-p0", f"{host}-p1"} <= hosts_of(job.logdir, os.path.basename(session))


def test_a_plain_loop(tmp_path, capsys):
    """A loop that sets the step of its run is asked like one that calls an instrumented function."""
    answers = []

    def ask_all():
        for words in (["every", "a=off"], ["profile", "steps=3"]):
            main(["ask", str(tmp_path), *words, "--json", "--timeout", "60"])
            answers.append(json.loads(capsys.readouterr().out))

    asking = threading.Thread(target=ask_all)
    with jb.Run(tmp_path, telemetry=False) as run:
        jb.scalar("a", 0.0)
        run.flush()  # The run has looked for earlier requests.
        asking.start()
        while asking.is_alive():
            run.step += 1
            jb.scalar("a", 1.0)
            jb.scalar("b", 1.0)
            asking.join(0.005)
    cadences, profile = answers
    assert cadences["ok"], cadences
    assert profile["ok"], profile
    (path,) = [answer["path"] for answer in profile["answers"]]
    first = profile["step"]
    assert markers(path) == [first, first + 1, first + 2]
    points = jb.read(tmp_path)
    assert points[points.tag == "a"].step.max() == cadences["step"] - 1


def hosts_of(logdir, session):
    """Return the hosts that TensorBoard's Profile tab lists for a session."""
    query = {"run": session, "tag": "trace_viewer@"}
    with tensorboard(logdir) as server:
        hosts = server.until(
            lambda: gzip.decompress(server.read("data/plugin/profile/hosts", **query))
        )
    return {each["hostname"] for each in json.loads(hosts)}
