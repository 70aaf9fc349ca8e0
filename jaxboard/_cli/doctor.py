"""``python -m jaxboard doctor``: what is installed, what works, and the command that mends what doesn't.

What may crash or hang (TensorFlow's import, a TensorBoard with clashing plugins, a device that another
process holds) is tried in processes of its own, so that the report comes in any case.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

_SHOWN = ("jax", "jaxlib", "flax", "tensorflow", "tensorboard", "xprof", "protobuf")

_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow")
"""Distributions of the one module ``tensorflow``."""

_OWN = "jaxboard-tb"

_PIP = f"{sys.executable} -m pip"

_SECONDS = 180
"""How long one trial may take: importing TensorFlow from a cold network disk takes a minute."""


class State(enum.Enum):
    """How a thing is."""

    OK = "ok"
    MISSING = "missing"  # something optional
    BROKEN = "broken"


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        state: how it is.
        text: what was found.
        command: what mends it.
    """

    state: State
    text: str
    command: str | None = None


class Installed:
    """The distributions on a path.

    Args:
        path: directories to look in; by default those that Python imports from.
    """

    def __init__(self, path: list[str] | None = None):
        found = importlib.metadata.distributions(path=sys.path if path is None else path)
        self._found: dict[str, importlib.metadata.Distribution] = {}
        for distribution in found:
            # The first on the path is the one that is imported.
            self._found.setdefault(_normal(distribution.metadata["Name"] or ""), distribution)

    def version(self, name: str) -> str | None:
        """Of a distribution, None where it isn't installed."""
        found = self._found.get(name)
        return None if found is None else found.version

    def among(self, names: Iterable[str]) -> list[str]:
        """Those of ``names`` that are installed."""
        return [name for name in names if name in self._found]

    def matching(self, pattern: str) -> list[str]:
        """The names that match a regular expression."""
        return sorted(name for name in self._found if re.fullmatch(pattern, name))

    def plugins(self) -> dict[str, list[str]]:
        """TensorBoard plugin -> the distributions that bring it."""
        found: dict[str, list[str]] = {}
        for name, distribution in sorted(self._found.items()):
            for entry in distribution.entry_points:
                if entry.group == "tensorboard_plugins":
                    found.setdefault(entry.name, []).append(name)
        return found

    def unmet(self, name: str) -> list[str]:
        """What a distribution requires and is not there, or in another version."""
        try:
            from packaging.requirements import Requirement
        except ModuleNotFoundError:  # TensorBoard requires it; without, there is little to check
            return []
        found = self._found.get(name)
        lines = (found.requires or []) if found is not None else []
        missing = []
        for requirement in map(Requirement, lines):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            version = self.version(_normal(requirement.name))
            if version is None or not requirement.specifier.contains(version, prereleases=True):
                missing.append(f"{requirement.name}{requirement.specifier}")
        return missing


def main() -> int:
    """Prints the report.

    Returns:
        The exit status: 1 if something is broken.
    """
    installed = Installed()
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(", ".join(versions(installed)))
    broken = False
    # One after the other as they come: some take a while.
    for finding in (*packages(installed), *trials(installed)):
        broken |= finding.state is State.BROKEN
        print(f"\n{finding.state.value:8} {finding.text}", flush=True)
        if finding.command is not None:
            print(f"{'':8} mend it: {finding.command}")
    return int(broken)


def versions(installed: Installed) -> list[str]:
    """What is installed of what matters here."""
    names = [_OWN, *_SHOWN]
    lines = [f"{name} {installed.version(name)}" for name in installed.among(names)]
    others = [name for name in installed.among(_TENSORFLOWS) if name not in names]
    absent = [name for name in names if installed.version(name) is None]
    if others and "tensorflow" in absent:
        absent.remove("tensorflow")
    lines += [f"{name} {installed.version(name)}" for name in others]
    if _OWN in absent:  # a source tree that was never installed
        absent.remove(_OWN)
    return [*lines, *(f"no {name}" for name in absent)]


def packages(installed: Installed) -> Iterator[Finding]:
    """What can be told from the distributions alone, without importing one."""
    for name in installed.among([_OWN, "tensorboard", "xprof", *_TENSORFLOWS]):
        unmet = installed.unmet(name)
        if unmet:
            wanted = " ".join(f"'{requirement}'" for requirement in unmet)
            text = f"{name} {installed.version(name)} requires {', '.join(unmet)}."
            yield Finding(State.BROKEN, text, f"{_PIP} install {wanted}")
    yield from _clashes(installed)
    yield from _accelerators(installed)


def _clashes(installed: Installed) -> Iterator[Finding]:
    tensorflows = installed.among(_TENSORFLOWS)
    if len(tensorflows) > 1:
        keep = tensorflows[0]
        yield Finding(
            State.BROKEN,
            f"{_and(tensorflows)} overwrite each other: all are the module tensorflow.",
            f"{_PIP} uninstall -y {' '.join(tensorflows)} && {_PIP} install "
            f"{keep}=={installed.version(keep)}",
        )
    tensorboards = installed.among(["tensorboard", "tb-nightly"])
    if len(tensorboards) > 1:
        yield Finding(
            State.BROKEN,
            "tensorboard and tb-nightly overwrite each other: both are the module tensorboard.",
            f"{_PIP} uninstall -y tensorboard tb-nightly && {_PIP} install 'tensorboard>=2.21'",
        )
    # The last releases of tensorboard-plugin-profile are empty and bring nothing.
    for plugin, owners in installed.plugins().items():
        if len(owners) > 1 and not set(owners) <= set(tensorboards):
            remove = [name for name in owners if name not in ("xprof", "tensorboard")]
            yield Finding(
                State.BROKEN,
                f"{_and(owners)} both bring TensorBoard's {plugin} plugin, and TensorBoard does not "
                "start with a plugin that is there twice.",
                f"{_PIP} uninstall -y {' '.join(remove or owners[1:])}",
            )


def _accelerators(installed: Installed) -> Iterator[Finding]:
    jax, jaxlib = installed.version("jax"), installed.version("jaxlib")
    for name in installed.matching(r"jax-cuda\d+-(plugin|pjrt)"):
        if jaxlib is not None and installed.version(name) != jaxlib:
            extra = name.split("-")[1]
            yield Finding(
                State.BROKEN,
                f"{name} {installed.version(name)} is for another jaxlib than {jaxlib}: JAX leaves "
                "the GPU alone.",
                f"{_PIP} install 'jax[{extra}]=={jax}'",
            )
    if os.path.exists("/proc/driver/nvidia/version") and not installed.matching(
        r"jax-cuda\d+-plugin"
    ):
        yield Finding(
            State.MISSING,
            "this machine has an NVIDIA GPU that JAX cannot use: there is no CUDA plugin.",
            f"{_PIP} install 'jax[cuda13]=={jax}'",
        )


_DEVICES = """
import collections, jax
kinds = collections.Counter(f"{d.platform} ({d.device_kind})" for d in jax.local_devices())
print(", ".join(f"{n} x {kind}" for kind, n in kinds.items()))
"""

_TENSORBOARD = """
from tensorboard import default
print(*sorted(p.plugin_name if hasattr(p, "plugin_name") else "" for p in default.get_plugins()))
"""

_TRACE = """
import glob, os, sys, tempfile
import jax
with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder), jax.profiler.StepTraceAnnotation("step", step_num=0):
        jax.jit(lambda x: x + 1)(1.0).block_until_ready()
    (path,) = glob.glob(folder + "/plugins/profile/*/*.xplane.pb")
    print(os.path.getsize(path))
    if "xprof" in sys.argv:
        from xprof.convert import raw_to_tool_data
        names = raw_to_tool_data.xspace_to_tool_names([path])
        assert "overview_page" in names, names
"""


def trials(installed: Installed) -> Iterator[Finding]:
    """What only trying shows."""
    # A device that won't start is for its driver to mend; without it, JAX runs on the CPU.
    yield _tried(
        "JAX's devices", [_DEVICES], lambda out: f"JAX runs on {out}.", "export JAX_PLATFORMS=cpu"
    )
    if installed.among(_TENSORFLOWS):
        yield _tried(
            "TensorFlow",
            ["import tensorflow; print(tensorflow.__version__)"],
            lambda out: f"TensorFlow {out} can be imported: event files are written by tf.summary.",
            f"{_PIP} install --force-reinstall {installed.among(_TENSORFLOWS)[0]}",
        )
    else:
        yield Finding(
            State.MISSING,
            "no TensorFlow: event files are written by TensorBoard's own writer, which does as well "
            "on local disks; gs:// and other URLs need TensorFlow.",
            f"{_PIP} install tensorflow-cpu",
        )
    if not installed.among(["tensorboard", "tb-nightly"]):
        yield Finding(State.BROKEN, "no TensorBoard.", f"{_PIP} install 'tensorboard>=2.21'")
        return
    yield _tried(
        "TensorBoard",
        [_TENSORBOARD],
        lambda _: "TensorBoard finds its plugins.",
        f"{_PIP} install --force-reinstall 'tensorboard>=2.21'",
    )
    yield _profile_tab(installed)


def _profile_tab(installed: Installed) -> Finding:
    if installed.version("xprof") is not None:
        return _tried(
            "the Profile tab",
            [_TRACE, "xprof"],
            lambda _: "the Profile tab works: a trace was captured, and xprof reads it.",
            f"{_PIP} install --force-reinstall 'xprof>=2.21'",
        )
    captured = _tried("capturing a trace", [_TRACE], lambda _: "profiles can be captured here")
    if captured.state is State.BROKEN:
        return captured
    if (platform.system(), platform.machine()) == ("Linux", "aarch64"):
        return Finding(
            State.MISSING,
            "profiles can be captured here, but not looked at: xprof has no release for Linux on ARM. "
            "Copy the log directory to another machine and open it there.",
        )
    return Finding(
        State.MISSING,
        "profiles can be captured here, but TensorBoard's Profile tab needs xprof.",
        f"{_PIP} install 'xprof>=2.21'",
    )


def _tried(
    what: str, program: list[str], told: Callable[[str], str], command: str | None = None
) -> Finding:
    """Runs a program; ``told`` makes a text of what it prints."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", *program],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return Finding(State.BROKEN, f"{what}: no answer within {_SECONDS} s.", command)
    if done.returncode != 0:
        why = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        return Finding(State.BROKEN, f"{what}: {why}", command)
    return Finding(State.OK, told(done.stdout.strip().rpartition("\n")[2]))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _and(names: list[str]) -> str:
    return " and ".join(names)
