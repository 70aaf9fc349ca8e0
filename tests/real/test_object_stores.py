"""Runs in object stores: real servers of S3, Google Cloud Storage and Azure on the loopback interface."""

# pyright: reportMissingImports=false, reportAttributeAccessIssue=false

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from ports import free_port

pytestmark = pytest.mark.real

KEYS = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
AZURE_KEY = (  # The documented key of every emulator.
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)


class Store(NamedTuple):
    """A running object store.

    Attributes:
        url: an empty bucket.
        environment: the variables by which clients find it.
    """

    url: str
    environment: dict[str, str]


@contextlib.contextmanager
def process(*command: str, port: int, environment: dict[str, str]) -> Iterator[None]:
    """Run a server for the duration of a block."""
    server = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )
    try:
        for _ in range(600):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert server.poll() is None
            time.sleep(0.1)
        yield
    finally:
        server.kill()
        server.wait()


@contextlib.contextmanager
def s3(folder) -> Iterator[Store]:
    for name in ("moto.server", "s3fs"):
        pytest.importorskip(name)
    port = free_port()
    # A name, not an address: the run resolves it while the interpreter ends.
    url = f"http://localhost:{port}"
    environment = {**KEYS, "AWS_ENDPOINT_URL": url, "S3_ENDPOINT": url}
    command = ("-m", "moto.server", "-H", "127.0.0.1", "-p", str(port))
    with process(sys.executable, *command, port=port, environment=KEYS):
        urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT"), timeout=30)
        yield Store("s3://bucket", environment)


@contextlib.contextmanager
def gs(folder) -> Iterator[Store]:
    for name in ("gcp_storage_emulator", "gcsfs"):
        pytest.importorskip(name)
    port = free_port()
    environment = {
        "STORAGE_EMULATOR_HOST": f"http://localhost:{port}",
        "FSSPEC_GS_TOKEN": "anon",
        "FSSPEC_GCS_TOKEN": "anon",
        "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",  # Asks a second server, which has no emulator.
    }
    command = ("start", "--host=localhost", f"--port={port}", "--in-memory")
    code = "from gcp_storage_emulator.__main__ import main; main()"
    bucket = "--default-bucket=bucket"
    with process(sys.executable, "-c", code, *command, bucket, port=port, environment={}):
        yield Store("gs://bucket", environment)


@contextlib.contextmanager
def az(folder) -> Iterator[Store]:
    pytest.importorskip("adlfs")
    azurite = shutil.which("azurite-blob")
    if azurite is None:
        pytest.skip("needs azurite: npm install -g azurite")
    port = free_port()
    account = f"AccountName=devstoreaccount1;AccountKey={AZURE_KEY}"
    endpoint = f"BlobEndpoint=http://localhost:{port}/devstoreaccount1"
    connection = f"DefaultEndpointsProtocol=http;{account};{endpoint};"
    command = ("--blobPort", str(port), "--location", str(folder), "--skipApiVersionCheck")
    with process(azurite, *command, port=port, environment={}):
        from azure.storage.blob import BlobServiceClient

        with BlobServiceClient.from_connection_string(connection) as client:
            client.create_container("bucket").close()
        yield Store("az://bucket", {"AZURE_STORAGE_CONNECTION_STRING": connection})


@pytest.fixture(scope="module", params=[s3, gs, az], ids=lambda store: store.__name__)
def store(request, tmp_path_factory) -> Iterator[Store]:
    """Run a test with every store."""
    with request.param(tmp_path_factory.mktemp("store")) as running:
        yield running


def python(code: str, store: Store, *arguments: str) -> str:
    """Run a program and return its output."""
    command = [sys.executable, "-c", textwrap.dedent(code), store.url, *arguments]
    environment = {**os.environ, **store.environment}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


READ = """
import json, sys
sys.modules["tensorflow"] = None  # TensorBoard then reads with boto3, or with fsspec.
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
multiplexer = EventMultiplexer(tensor_size_guidance={"scalars": 0})
multiplexer.AddRunsFromDirectory(sys.argv[1] + "/" + sys.argv[2])
multiplexer.Reload()
print(json.dumps({
    run: [[point.step, float(point.tensor_proto.float_val[0])] for point in multiplexer.Tensors(run, "x")]
    for run in multiplexer.Runs()
}))
"""


def shown(store: Store, logdir: str) -> Any:
    """Return the points of each run as TensorBoard reads them."""
    return json.loads(python(READ, store, logdir))


def points(steps: range) -> list[list[float]]:
    return [[step, 0.5 * step] for step in steps]


LEFT_OPEN = """
import sys, jaxboard as jb
run = jb.Run(sys.argv[1] + "/left/run", max_file_bytes=3000)
for first in range(0, 400, 100):
    for step in range(first, first + 100):
        jb.scalar("x", 0.5 * step, step=step)
    run.child("eval").scalar("x", 0.5 * first, step=first)
    run.flush()
for step in range(400, 500):
    jb.scalar("x", 0.5 * step, step=step)
assert not sys.modules.get("tensorflow")
"""


def test_a_run_that_is_left_open(store):
    """A run over several files, closed by the end of the interpreter, is read by TensorBoard point by point."""
    python(LEFT_OPEN, store)
    assert shown(store, "left") == {
        "run": points(range(500)),
        "run/eval": points(range(0, 400, 100)),
    }


SHORT = """
import sys, jaxboard as jb
first, last = map(int, sys.argv[2:])
jb.Run(sys.argv[1] + "/short", step=first)
for step in range(first, last):
    jb.scalar("x", 0.5 * step, step=step)
"""


def test_short_programs_that_resume(store):
    """A program that ends immediately loses nothing, and the next one replaces the points from its step on."""
    python(SHORT, store, "0", "10")
    python(SHORT, store, "5", "15")
    assert shown(store, "short") == {".": points(range(15))}


FORK = """
import os, sys, jaxboard as jb
def write(name):
    with jb.Run(f"{sys.argv[1]}/fork/{name}") as run:
        for step in range(10):
            jb.scalar("x", 0.5 * step, step=step)
with jb.Run(sys.argv[1] + "/fork/parent") as run:
    jb.scalar("x", 0.0, step=0)
    run.flush()
    child = os.fork()
    if not child:
        write("child")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for step in range(1, 10):
        jb.scalar("x", 0.5 * step, step=step)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_fork_during_a_run(store):
    """A forked child can write a run of its own, and its parent goes on."""
    python(FORK, store)
    assert shown(store, "fork") == {"parent": points(range(10)), "child": points(range(10))}
