"""``python -m jaxboard doctor``: checks of the installation, each with a command that fixes the problem.

Checks that may crash or hang (importing TensorFlow, starting TensorBoard with clashing plugins, opening a
device that another process holds) run in separate processes, so that the report is always complete.
"""

from __future__ import annotations

import dataclasses
import enum
import importlib.machinery
import importlib.metadata
import itertools
import os
import platform
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

from jaxboard._cli.console import wrapped

_PACKAGES = ("jax", "jaxlib", "flax", "tensorflow", "tensorboard", "xprof", "protobuf")

_TENSORFLOWS = ("tensorflow", "tensorflow-cpu", "tf-nightly", "tf-nightly-cpu", "intel-tensorflow")
"""Distributions that install the module ``tensorflow``; others may, too."""

_TENSORBOARDS = ("tensorboard", "tb-nightly")
"""Distributions that install the module ``tensorboard``."""

_JAXBOARD = "jaxboard-tb"

_PIP = f"{sys.executable} -m pip"

_TIMEOUT_SECS = 180
"""The time limit of one check: importing TensorFlow from a cold network disk takes a minute."""


class Status(enum.Enum):
    """The outcome of a check."""

    OK = "ok"
    MISSING = "missing"  # an optional feature is not available
    BROKEN = "broken"


@dataclasses.dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check.

    Attributes:
        status: the outcome.
        text: a sentence about it.
        command: the shell command that fixes the problem, if there is one.
    """

    status: Status
    text: str
    command: str | None = None


class InstalledPackages:
    """The distributions on a path.

    Args:
        path: the directories to search; by default ``sys.path``.
    """

    def __init__(self, path: list[str] | None = None):
        self._distributions: dict[str, importlib.metadata.Distribution] = {}
        self._path = sys.path if path is None else path
        for distribution in importlib.metadata.distributions(path=self._path):
            # Python imports the first one on the path.
            name = _normalize(distribution.metadata["Name"] or "")
            self._distributions.setdefault(name, distribution)

    def version(self, name: str) -> str | None:
        """Return the version of a distribution; None if it is not installed."""
        distribution = self._distributions.get(name)
        return None if distribution is None else distribution.version

    def among(self, names: Iterable[str]) -> list[str]:
        """Return those of ``names`` that are installed."""
        return [name for name in names if name in self._distributions]

    def matching(self, pattern: str) -> list[str]:
        """Return the installed names that match a regular expression."""
        return sorted(name for name in self._distributions if re.fullmatch(pattern, name))

    def tensorflows(self) -> list[str]:
        """Return the installed distributions that contain the module ``tensorflow``, under any name."""
        names = [*self.among(_TENSORFLOWS), *self.matching(r".*tensorflow.*")]
        return [name for name in dict.fromkeys(names) if self._contains_tensorflow(name)]

    def _contains_tensorflow(self, name: str) -> bool:
        files = self._distributions[name].files
        if files is None:  # The distribution has no list of its files.
            return name in _TENSORFLOWS
        return any(file.as_posix() == "tensorflow/__init__.py" for file in files)

    def has_module(self, name: str) -> bool:
        """Return whether a module is on the path, with or without a distribution."""
        spec = importlib.machinery.PathFinder.find_spec(name, self._path)
        return spec is not None and spec.origin is not None

    def plugins(self) -> dict[str, list[str]]:
        """Return the distributions that provide each TensorBoard plugin, by plugin."""
        plugins: dict[str, list[str]] = {}
        for name, distribution in sorted(self._distributions.items()):
            for entry in distribution.entry_points:
                if entry.group == "tensorboard_plugins":
                    plugins.setdefault(entry.name, []).append(name)
        return plugins

    def unmet(self, name: str) -> list[str]:
        """Return the requirements of a distribution that are missing or have another version."""
        try:
            from packaging.requirements import Requirement
        except ModuleNotFoundError:
            return []  # TensorBoard requires it; without TensorBoard there is little to check.
        distribution = self._distributions.get(name)
        lines = (distribution.requires or []) if distribution is not None else []
        missing = []
        for requirement in map(Requirement, lines):
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
                continue
            required = _normalize(requirement.name)
            present = self._builds(required)
            if not present and required in _TENSORFLOWS and self.has_module("tensorflow"):
                continue  # Built from source: its version is unknown.
            versions = [self._distributions[other].version for other in present]
            if not any(requirement.specifier.contains(v, prereleases=True) for v in versions):
                # Installed beside another build of the same module, the required one would overwrite it.
                shown = requirement.name if not present or required in present else present[0]
                missing.append(f"{shown}{requirement.specifier}")
        return missing

    def _builds(self, name: str) -> list[str]:
        """Return the installed distributions that contain the same module as ``name``."""
        if name in _TENSORFLOWS:
            return self.tensorflows()
        return self.among(_TENSORBOARDS if name in _TENSORBOARDS else [name])


def main() -> int:
    """Print the report.

    Returns:
        The exit status: 1 if something is broken.
    """
    installed = InstalledPackages()
    print(f"Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(wrapped(", ".join(versions(installed))))
    broken = False
    # Each result is printed immediately, since some checks take a while.
    for result in itertools.chain(check_packages(installed), check_features(installed)):
        broken |= result.status is Status.BROKEN
        print(f"\n{wrapped(f'{result.status.value:8} {result.text}', indent=9)}", flush=True)
        if result.command is not None:
            print(f"{'':8} fix: {result.command}")  # One line, to be copied.
    return int(broken)


def versions(installed: InstalledPackages) -> list[str]:
    """Return the versions of the packages that jaxboard works with."""
    names = [_JAXBOARD, *_PACKAGES]
    lines = [f"{name} {installed.version(name)}" for name in installed.among(names)]
    others = [name for name in installed.tensorflows() if name not in names]
    absent = [name for name in names if installed.version(name) is None]
    if others and "tensorflow" in absent:
        absent.remove("tensorflow")
    lines += [f"{name} {installed.version(name)}" for name in others]
    if _JAXBOARD in absent:  # a source tree that was never installed
        absent.remove(_JAXBOARD)
    return [*lines, *(f"no {name}" for name in absent)]


def check_packages(installed: InstalledPackages) -> Iterator[CheckResult]:
    """Check the metadata of the distributions, without importing any."""
    checked = [*installed.among([_JAXBOARD, *_TENSORBOARDS, "xprof"]), *installed.tensorflows()]
    for name in checked:
        unmet = installed.unmet(name)
        if unmet:
            requirements = " ".join(f"'{requirement}'" for requirement in unmet)
            text = f"{name} {installed.version(name)} requires {', '.join(unmet)}."
            yield CheckResult(Status.BROKEN, text, f"{_PIP} install {requirements}")
    yield from _clashes(installed)
    yield from _accelerators(installed)


def _clashes(installed: InstalledPackages) -> Iterator[CheckResult]:
    tensorflows = installed.tensorflows()
    if len(tensorflows) > 1:
        keep = tensorflows[0]
        yield CheckResult(
            Status.BROKEN,
            f"{_join(tensorflows)} overwrite each other: all install the module tensorflow.",
            f"{_PIP} uninstall -y {' '.join(tensorflows)} && {_PIP} install "
            f"{keep}=={installed.version(keep)}",
        )
    tensorboards = installed.among(_TENSORBOARDS)
    if len(tensorboards) > 1:
        yield CheckResult(
            Status.BROKEN,
            "tensorboard and tb-nightly overwrite each other: both install the module tensorboard.",
            f"{_PIP} uninstall -y tensorboard tb-nightly && {_PIP} install 'tensorboard>=2.20'",
        )
    # The latest releases of tensorboard-plugin-profile are empty and provide no plugin.
    for plugin, owners in installed.plugins().items():
        if len(owners) > 1 and not set(owners) <= set(tensorboards):
            remove = [name for name in owners if name not in ("xprof", "tensorboard")]
            yield CheckResult(
                Status.BROKEN,
                f"{_join(owners)} both provide TensorBoard's {plugin} plugin, and TensorBoard does not "
                "start with a duplicate plugin.",
                f"{_PIP} uninstall -y {' '.join(remove or owners[1:])}",
            )


def _accelerators(installed: InstalledPackages) -> Iterator[CheckResult]:
    jax, jaxlib = installed.version("jax"), installed.version("jaxlib")
    for name in installed.matching(r"jax-cuda\d+-(plugin|pjrt)"):
        if jaxlib is not None and installed.version(name) != jaxlib:
            extra = name.split("-")[1]
            yield CheckResult(
                Status.BROKEN,
                f"{name} {installed.version(name)} does not match jaxlib {jaxlib}, so JAX ignores "
                "the GPU.",
                f"{_PIP} install 'jax[{extra}]=={jax}'",
            )
    if os.path.exists("/proc/driver/nvidia/version") and not installed.matching(
        r"jax-cuda\d+-plugin"
    ):
        yield CheckResult(
            Status.MISSING,
            "this machine has an NVIDIA GPU that JAX cannot use: no CUDA plugin is installed.",
            f"{_PIP} install 'jax[cuda13]=={jax}'",
        )


_DEVICES = """
import collections, jax
names = collections.Counter(
    d.platform + f" ({d.device_kind})" * (d.device_kind != d.platform) for d in jax.local_devices()
)
print(", ".join(f"{count} x {name}" for name, count in names.items()))
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


def check_features(installed: InstalledPackages) -> Iterator[CheckResult]:
    """Check the features by using them."""
    # A device that does not start needs its driver fixed; until then JAX can run on the CPU.
    yield _run_check(
        "JAX's devices", [_DEVICES], lambda out: f"JAX runs on {out}.", "export JAX_PLATFORMS=cpu"
    )
    tensorflows = installed.tensorflows()
    if tensorflows or installed.has_module("tensorflow"):
        yield _run_check(
            "TensorFlow",
            ["import tensorflow; print(tensorflow.__version__)"],
            lambda out: (
                f"TensorFlow {out} can be imported: gs:// and other URLs can be written to."
            ),
            f"{_PIP} install --force-reinstall {(tensorflows or ['tensorflow'])[0]}",
        )
    else:
        yield CheckResult(
            Status.MISSING,
            "TensorFlow is not installed. Only URLs need it, if s3fs, gcsfs or another package of fsspec is not installed.",
            f"{_PIP} install tensorflow-cpu",
        )
    if not installed.among(_TENSORBOARDS):
        yield CheckResult(
            Status.BROKEN, "TensorBoard is not installed.", f"{_PIP} install 'tensorboard>=2.20'"
        )
        return
    yield _run_check(
        "TensorBoard",
        [_TENSORBOARD],
        lambda _: "TensorBoard finds its plugins.",
        f"{_PIP} install --force-reinstall 'tensorboard>=2.20'",
    )
    yield _profile_tab(installed)


def _profile_tab(installed: InstalledPackages) -> CheckResult:
    if installed.version("xprof") is not None:
        return _run_check(
            "the Profile tab",
            [_TRACE, "xprof"],
            lambda _: "the Profile tab works: a trace was captured and xprof reads it.",
            f"{_PIP} install --force-reinstall 'xprof>=2.21'",
        )
    captured = _run_check("capturing a trace", [_TRACE], lambda _: "profiles can be captured here")
    if captured.status is Status.BROKEN:
        return captured
    if (platform.system(), platform.machine()) == ("Linux", "aarch64"):
        return CheckResult(
            Status.MISSING,
            "profiles can be captured here, but not viewed: xprof has no release for Linux on ARM. "
            "Copy the log directory to another machine and open it there.",
        )
    return CheckResult(
        Status.MISSING,
        "profiles can be captured here, but TensorBoard's Profile tab needs xprof.",
        f"{_PIP} install 'xprof>=2.21'",
    )


def _run_check(
    subject: str,
    program: list[str],
    describe: Callable[[str], str],
    command: str | None = None,
) -> CheckResult:
    """Run a Python program in a separate process.

    Args:
        subject: what the program checks, for messages.
        program: the source, and the command line arguments.
        describe: makes a sentence from the last line that the program prints.
        command: the command that fixes a failure.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-c", *program],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return CheckResult(
            Status.BROKEN, f"{subject}: no answer within {_TIMEOUT_SECS} s.", command
        )
    if done.returncode != 0:
        reason = done.stderr.strip().rpartition("\n")[2] or f"exit status {done.returncode}"
        return CheckResult(Status.BROKEN, f"{subject}: {reason}", command)
    return CheckResult(Status.OK, describe(done.stdout.strip().rpartition("\n")[2]))


def _normalize(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _join(names: list[str]) -> str:
    return " and ".join(names)
