"""The contents of an installation of jaxboard, and the place where Python finds it."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import zipfile

ROOT = pathlib.Path(__file__).parents[2]


def build(what: str, folder: pathlib.Path) -> pathlib.Path:
    """Build a wheel of the project with its own build backend and return its path."""
    program = f"from hatchling.build import {what}; print({what}({str(folder)!r}))"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return folder / done.stdout.split()[-1]


def test_an_editable_install_is_found_beside_the_checkout(tmp_path: pathlib.Path) -> None:
    """A script in the folder that holds a checkout named ``jaxboard`` imports the package, not that folder."""
    site = tmp_path / "site"
    with zipfile.ZipFile(build("build_editable", tmp_path)) as wheel:
        wheel.extractall(site)
    (tmp_path / "work" / "jaxboard").mkdir(parents=True)
    script = tmp_path / "work" / "train.py"
    script.write_text(
        "import site, sys, importlib.util\n"
        "site.addsitedir(sys.argv[1])\n"
        "print(importlib.util.find_spec('jaxboard').origin)\n"
    )
    # -S leaves out the environment of these tests, where jaxboard is installed too.
    command = [sys.executable, "-S", str(script), str(site)]
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=env)
    assert done.stdout.strip() == str(ROOT / "jaxboard" / "__init__.py")


def test_a_wheel_holds_the_package_and_nothing_else(tmp_path: pathlib.Path) -> None:
    """A wheel contains every file of the package, and no tests or benchmarks."""
    with zipfile.ZipFile(build("build_wheel", tmp_path)) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    package = ROOT / "jaxboard"
    files = [path for path in package.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sorted(names) == sorted(str(path.relative_to(ROOT)) for path in files)
    assert "jaxboard/py.typed" in names
