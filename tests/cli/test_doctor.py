"""``python -m jaxboard doctor``: what is broken is found, and the command that mends it."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys

import pytest

from jaxboard._cli.doctor import Installed, State, packages, versions

PIP = f"{sys.executable} -m pip"
PROFILE = "[tensorboard_plugins]\nprofile = {}.profile_plugin_loader:ProfilePluginLoader\n"


def distribution(folder, name, version="1.0", requires=(), entry_points=""):
    """Metadata as pip leaves it, of a distribution without files."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "entry_points.txt").write_text(entry_points)


def examined(folder):
    return [
        (finding.state, finding.text, finding.command)
        for finding in packages(Installed([str(folder)]))
        if "NVIDIA" not in finding.text  # true of some machines
    ]


def doctor(**environment):
    return subprocess.run(
        [sys.executable, "-m", "jaxboard", "doctor"],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )


def test_nothing_is_broken(tmp_path):
    """Versions that fit are left alone, markers and extras considered, and the empty stub of a plugin."""
    distribution(
        tmp_path,
        "jaxboard-tb",
        requires=["tensorboard>=2.21", "flax; extra == 'flax'", "absent; python_version < '3'"],
    )
    distribution(tmp_path, "tensorboard", "2.21.0")
    distribution(tmp_path, "xprof", "2.24.2", entry_points=PROFILE.format("xprof"))
    distribution(tmp_path, "tensorboard-plugin-profile", "2.24.2", requires=["xprof>=2.24"])
    assert examined(tmp_path) == []


def test_versions(tmp_path):
    """TensorFlow counts under whatever name it was installed; what is absent is named."""
    for name in ("jax", "jaxlib", "tensorflow-cpu", "tensorboard", "protobuf"):
        distribution(tmp_path, name, "2.0")
    assert versions(Installed([str(tmp_path)])) == [
        "jax 2.0",
        "jaxlib 2.0",
        "tensorboard 2.0",
        "protobuf 2.0",
        "tensorflow-cpu 2.0",
        "no flax",
        "no xprof",
    ]


def test_unmet_requirements(tmp_path):
    """A TensorBoard too old, or a protobuf too new for TensorFlow, is named with the version wanted."""
    distribution(tmp_path, "jaxboard-tb", requires=["tensorboard>=2.21", "numpy"])
    distribution(tmp_path, "tensorboard", "2.18.0")
    distribution(
        tmp_path, "tensorflow", "2.20.0", requires=["protobuf<6,>=5", "tensorboard~=2.18.0"]
    )
    distribution(tmp_path, "protobuf", "7.1")
    assert examined(tmp_path) == [
        (
            State.BROKEN,
            "jaxboard-tb 1.0 requires tensorboard>=2.21, numpy.",
            f"{PIP} install 'tensorboard>=2.21' 'numpy'",
        ),
        (
            State.BROKEN,
            "tensorflow 2.20.0 requires protobuf<6,>=5.",
            f"{PIP} install 'protobuf<6,>=5'",
        ),
    ]


@pytest.mark.parametrize(
    ("names", "text", "command"),
    [
        (
            {"tensorflow": "", "tensorflow-cpu": ""},
            "tensorflow and tensorflow-cpu overwrite each other: all are the module tensorflow.",
            f"{PIP} uninstall -y tensorflow tensorflow-cpu && {PIP} install tensorflow==1.0",
        ),
        (
            {"tensorboard": PROFILE.format("a"), "tb-nightly": PROFILE.format("a")},
            "tensorboard and tb-nightly overwrite each other: both are the module tensorboard.",
            f"{PIP} uninstall -y tensorboard tb-nightly && {PIP} install 'tensorboard>=2.21'",
        ),
        (
            {
                "xprof": PROFILE.format("xprof"),
                "tensorboard-plugin-profile": PROFILE.format("tensorboard_plugin_profile"),
            },
            (
                "tensorboard-plugin-profile and xprof both bring TensorBoard's profile plugin, and "
                "TensorBoard does not start with a plugin that is there twice."
            ),
            f"{PIP} uninstall -y tensorboard-plugin-profile",
        ),
    ],
    ids=["tensorflow", "tensorboard", "profile"],
)
def test_clashes(tmp_path, names, text, command):
    """Distributions that spoil each other are found by their metadata."""
    for name, entry_points in names.items():
        distribution(tmp_path, name, entry_points=entry_points)
    assert examined(tmp_path) == [(State.BROKEN, text, command)]


def test_a_cuda_plugin_of_another_version(tmp_path):
    """JAX ignores a plugin whose version isn't jaxlib's."""
    distribution(tmp_path, "jax", "0.10.2")
    distribution(tmp_path, "jaxlib", "0.10.2")
    distribution(tmp_path, "jax-cuda13-plugin", "0.10.1")
    distribution(tmp_path, "jax-cuda13-pjrt", "0.10.2")
    assert examined(tmp_path) == [
        (
            State.BROKEN,
            "jax-cuda13-plugin 0.10.1 is for another jaxlib than 0.10.2: JAX leaves the GPU alone.",
            f"{PIP} install 'jax[cuda13]==0.10.2'",
        )
    ]


def test_what_runs_here():
    """The report comes with or without TensorFlow and xprof, and says which of them are there."""
    done = doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       JAX runs on 8 x cpu (cpu)." in done.stdout
    assert "ok       TensorBoard finds its plugins." in done.stdout
    installed = Installed()
    tensorflow = installed.matching("tensorflow(-cpu)?")
    assert ("can be imported: event files are written by tf.summary" in done.stdout) == bool(
        tensorflow
    )
    tab = "ok       the Profile tab works" if installed.version("xprof") else "tab needs xprof"
    assert tab in done.stdout


def test_what_is_broken_here(tmp_path):
    """A TensorFlow that can't be imported and devices that don't start: status 1, and the rest still comes."""
    for name in ("tensorflow", "tensorflow-cpu"):
        if name in {d.metadata["Name"] for d in importlib.metadata.distributions()}:
            break
    else:
        name = "tensorflow"
        distribution(tmp_path, name)
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libcuda is not what it was')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = doctor(PYTHONPATH=path, JAX_PLATFORMS="abacus")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = lines.index("broken   TensorFlow: ImportError: libcuda is not what it was")
    assert lines[at + 1].startswith(f"         mend it: {PIP} install --force-reinstall tensorflow")
    assert any(line.startswith("broken   JAX's devices: ") for line in lines)
    assert "ok       TensorBoard finds its plugins." in lines
