"""``python -m jaxboard doctor`` finds problems and prints the commands that fix them."""

from __future__ import annotations

import importlib.metadata
import os
import sys

import pytest
from listening import LOOPBACK, run_watched

from jaxboard._cli import doctor
from jaxboard._cli.doctor import CheckResult, InstalledPackages, Status, check_packages, versions

PIP = f"{sys.executable} -m pip"
PROFILE = "[tensorboard_plugins]\nprofile = {}.profile_plugin_loader:ProfilePluginLoader\n"


def distribution(folder, name, version="1.0", *, requires=(), entry_points="", files=()):
    """Write the metadata of a distribution in the format of pip, with a list of files if there are any."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
    lines += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(lines) + "\n")
    (info / "entry_points.txt").write_text(entry_points)
    if files:
        (info / "RECORD").write_text("".join(f"{file},,\n" for file in files))


def results(folder):
    return [
        (result.status, result.text, result.command)
        for result in check_packages(InstalledPackages([str(folder)]))
        if "NVIDIA" not in result.text  # depends on the machine
    ]


def run_doctor(**environment):
    """Return the finished process; none of its processes may accept connections from other hosts."""
    command = [sys.executable, "-m", "jaxboard", "doctor"]
    done, addresses = run_watched(command, env={**os.environ, **environment})
    assert addresses <= LOOPBACK
    return done


def test_a_good_installation(tmp_path):
    """Matching versions, requirements of extras or other markers, and an empty plugin are accepted."""
    distribution(
        tmp_path,
        "jaxboard-tb",
        requires=["tensorboard>=2.21", "flax; extra == 'flax'", "absent; python_version < '3'"],
    )
    distribution(tmp_path, "tensorboard", "2.21.0")
    distribution(tmp_path, "xprof", "2.24.2", entry_points=PROFILE.format("xprof"))
    distribution(tmp_path, "tensorboard-plugin-profile", "2.24.2", requires=["xprof>=2.24"])
    assert results(tmp_path) == []


def test_versions(tmp_path):
    """TensorFlow is listed under any of its names, and missing packages are named."""
    for name in ("jax", "jaxlib", "tensorflow-cpu", "tensorboard", "protobuf"):
        distribution(tmp_path, name, "2.0")
    assert versions(InstalledPackages([str(tmp_path)])) == [
        "jax 2.0",
        "jaxlib 2.0",
        "tensorboard 2.0",
        "protobuf 2.0",
        "tensorflow-cpu 2.0",
        "no flax",
        "no xprof",
    ]


def test_unmet_requirements(tmp_path):
    """A version that does not match a requirement is reported with the required version."""
    distribution(tmp_path, "jaxboard-tb", requires=["tensorboard>=2.21", "numpy"])
    distribution(tmp_path, "tensorboard", "2.18.0")
    distribution(
        tmp_path, "tensorflow", "2.20.0", requires=["protobuf<6,>=5", "tensorboard~=2.18.0"]
    )
    distribution(tmp_path, "protobuf", "7.1")
    assert results(tmp_path) == [
        (
            Status.BROKEN,
            "jaxboard-tb 1.0 requires tensorboard>=2.21, numpy.",
            f"{PIP} install 'tensorboard>=2.21' 'numpy'",
        ),
        (
            Status.BROKEN,
            "tensorflow 2.20.0 requires protobuf<6,>=5.",
            f"{PIP} install 'protobuf<6,>=5'",
        ),
    ]


@pytest.mark.parametrize(
    ("name", "version", "files"),
    [
        ("tensorflow", "2.21.0", ()),
        ("tf-nightly", "2.22.0.dev20260101", ()),
        ("nvidia-tensorflow", "2.21.0+nv26.1", ["tensorflow/__init__.py"]),
        (None, None, ["tensorflow/__init__.py"]),
    ],
)
def test_another_build_of_tensorflow(tmp_path, name, version, files):
    """Any build of TensorFlow meets jaxboard's requirement, under any name and without metadata."""
    distribution(tmp_path, "jaxboard-tb", requires=["tensorflow-cpu>=2.20", "tensorboard>=2.20"])
    distribution(tmp_path, "tb-nightly", "2.22.0a20260101")
    distribution(tmp_path, "tensorflow-datasets", files=["tensorflow_datasets/__init__.py"])
    if name is not None:
        distribution(tmp_path, name, version, files=files)
    for file in files:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    assert results(tmp_path) == []
    installed = InstalledPackages([str(tmp_path)])
    assert installed.tensorflows() == ([] if name is None else [name])
    assert installed.has_module("tensorflow") == bool(files)


def test_an_old_build_of_tensorflow(tmp_path):
    """The fix for a TensorFlow that is too old updates its build instead of adding another."""
    distribution(tmp_path, "jaxboard-tb", requires=["tensorflow-cpu>=2.20"])
    distribution(tmp_path, "tensorflow", "2.10.0")
    assert results(tmp_path) == [
        (
            Status.BROKEN,
            "jaxboard-tb 1.0 requires tensorflow>=2.20.",
            f"{PIP} install 'tensorflow>=2.20'",
        )
    ]


def test_no_tensorflow(tmp_path):
    """A required TensorFlow is missing only if no build is installed."""
    distribution(tmp_path, "jaxboard-tb", requires=["tensorflow-cpu>=2.20"])
    (tmp_path / "tensorflow").mkdir()  # an empty folder is not TensorFlow
    assert results(tmp_path) == [
        (
            Status.BROKEN,
            "jaxboard-tb 1.0 requires tensorflow-cpu>=2.20.",
            f"{PIP} install 'tensorflow-cpu>=2.20'",
        )
    ]


@pytest.mark.parametrize(
    ("names", "text", "command"),
    [
        (
            {"tensorflow": "", "tensorflow-cpu": ""},
            "tensorflow and tensorflow-cpu overwrite each other: all install the module tensorflow.",
            f"{PIP} uninstall -y tensorflow tensorflow-cpu && {PIP} install tensorflow==1.0",
        ),
        (
            {"tensorboard": PROFILE.format("a"), "tb-nightly": PROFILE.format("a")},
            "tensorboard and tb-nightly overwrite each other: both install the module tensorboard.",
            f"{PIP} uninstall -y tensorboard tb-nightly && {PIP} install 'tensorboard>=2.20'",
        ),
        (
            {
                "xprof": PROFILE.format("xprof"),
                "tensorboard-plugin-profile": PROFILE.format("tensorboard_plugin_profile"),
            },
            (
                "tensorboard-plugin-profile and xprof both provide TensorBoard's profile plugin, and "
                "TensorBoard does not start with a duplicate plugin."
            ),
            f"{PIP} uninstall -y tensorboard-plugin-profile",
        ),
    ],
    ids=["tensorflow", "tensorboard", "profile"],
)
def test_clashes(tmp_path, names, text, command):
    """Distributions that conflict are found by their metadata."""
    for name, entry_points in names.items():
        distribution(tmp_path, name, entry_points=entry_points)
    assert results(tmp_path) == [(Status.BROKEN, text, command)]


def test_a_cuda_plugin_of_another_version(tmp_path):
    """A CUDA plugin of another version than jaxlib, which JAX ignores, is reported."""
    distribution(tmp_path, "jax", "0.10.2")
    distribution(tmp_path, "jaxlib", "0.10.2")
    distribution(tmp_path, "jax-cuda13-plugin", "0.10.1")
    distribution(tmp_path, "jax-cuda13-pjrt", "0.10.2")
    assert results(tmp_path) == [
        (
            Status.BROKEN,
            "jax-cuda13-plugin 0.10.1 does not match jaxlib 0.10.2, so JAX ignores the GPU.",
            f"{PIP} install 'jax[cuda13]==0.10.2'",
        )
    ]


def test_each_result_is_printed_immediately(monkeypatch, capsys):
    """A result is printed before the next check starts."""

    def checks(_):
        yield CheckResult(Status.OK, "first")
        assert capsys.readouterr().out.endswith("\nok       first\n")
        yield CheckResult(Status.BROKEN, "second", "command")

    monkeypatch.setattr(doctor, "check_features", checks)
    assert doctor.main() == 1
    assert capsys.readouterr().out == "\nbroken   second\n         fix: command\n"


def test_a_narrow_terminal(monkeypatch, capsys):
    """Sentences are wrapped beside the status. A command stays in one line, to be copied."""
    command = "pip install " + 20 * "package "
    result = CheckResult(Status.BROKEN, "TensorBoard has two plugins of one name.", command)
    monkeypatch.setattr(doctor, "check_packages", lambda _: [result])
    monkeypatch.setattr(doctor, "check_features", lambda _: [])
    monkeypatch.setenv("COLUMNS", "30")
    assert doctor.main() == 1
    report = capsys.readouterr().out.partition("\n\n")[2]
    assert report == (
        f"broken   TensorBoard has two\n         plugins of one name.\n         fix: {command}\n"
    )


def test_the_report_of_this_machine():
    """The report is complete with or without TensorFlow and xprof, and lists the ones installed."""
    done = run_doctor()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ok       JAX runs on 8 x cpu." in done.stdout
    assert "ok       TensorBoard finds its plugins." in done.stdout
    installed = InstalledPackages()
    tensorflow = installed.matching("tensorflow(-cpu)?")
    assert ("can be imported: gs:// and other URLs can be written to" in done.stdout) == bool(
        tensorflow
    )
    tab = "ok       the Profile tab works" if installed.version("xprof") else "tab needs xprof"
    assert tab in done.stdout


def test_a_broken_installation(tmp_path):
    """A broken TensorFlow and broken devices give exit status 1, and the report is still complete."""
    for name in ("tensorflow", "tensorflow-cpu"):
        if name in {d.metadata["Name"] for d in importlib.metadata.distributions()}:
            break
    else:
        name = "tensorflow"
        distribution(tmp_path, name)
    (tmp_path / "tensorflow.py").write_text("raise ImportError('libcuda has the wrong version')\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = run_doctor(PYTHONPATH=path, JAX_PLATFORMS="abacus")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    at = lines.index("broken   TensorFlow: ImportError: libcuda has the wrong version")
    assert lines[at + 1].startswith(f"         fix: {PIP} install --force-reinstall tensorflow")
    assert any(line.startswith("broken   JAX's devices: ") for line in lines)
    assert "ok       TensorBoard finds its plugins." in lines
