"""The order of fork hooks. Each test forks a real process."""

import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import jaxboard

pytestmark = pytest.mark.skipif(os.name != "posix", reason="forks are POSIX's")

PRELUDE = """
import os, sys
from jaxboard._process.fork import Stage, on_fork

def announce(*words):
    def hook():
        os.write(1, (" ".join(words) + "\\n").encode())
    return hook

def register(stage, name=None):
    name = name or stage.name
    on_fork(
        stage,
        before=announce("before", name),
        in_parent=announce("parent", name),
        in_child=announce("child", name),
    )

def fork():
    pid = os.fork()
    if not pid:
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
"""


def python(code):
    """Run a program of its own; return the lines that it prints, and its standard error."""
    program = PRELUDE + textwrap.dedent(code)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.splitlines(), done.stderr


def of(process, lines):
    return [line.split()[1] for line in lines if line.startswith(process)]


def test_stages_run_in_order_before_a_fork_and_in_the_opposite_order_after_it():
    """The order of hooks is that of their stages, whatever the order of their registration."""
    lines, _ = python(
        """
        for stage in (Stage.SIGNALS, Stage.WRITES, Stage.STATE, Stage.QUEUES):
            register(stage)
        fork()
        """
    )
    stages = ["WRITES", "QUEUES", "SIGNALS", "STATE"]
    assert of("before", lines) == stages
    assert of("parent", lines) == stages[::-1]
    assert of("child", lines) == stages[::-1]


def test_hooks_of_one_stage_nest():
    """Within a stage, hooks run in the order of registration before a fork, and in the opposite order after it."""
    lines, _ = python(
        """
        register(Stage.QUEUES, "first")
        register(Stage.QUEUES, "second")
        fork()
        """
    )
    assert of("before", lines) == ["first", "second"]
    assert of("parent", lines) == of("child", lines) == ["second", "first"]


def test_a_hook_that_raises_is_logged_and_the_others_run():
    """A failing hook stops neither the fork nor the remaining hooks."""
    lines, errors = python(
        """
        on_fork(Stage.WRITES, before=lambda: 1 / 0)
        register(Stage.STATE)
        fork()
        """
    )
    assert sorted(lines) == ["before STATE", "child STATE", "parent STATE"]
    assert errors == "jaxboard: a fork hook failed: ZeroDivisionError: division by zero\n"


def test_every_part_with_state_registers_in_its_stage():
    """The hooks of a process with a run and event files: their modules, in the order of execution."""
    lines, _ = python(
        """
        import jaxboard._run, jaxboard.sinks._writers
        from jaxboard._process import fork
        for stage, *hooks in fork._registered:
            (module,) = {hook.__module__ for hook in hooks if hook}
            print(stage.name, module)
        """
    )
    assert lines == [
        "WRITES jaxboard._process.fork",
        "QUEUES jaxboard.sinks._tensorflow",
        "SIGNALS jaxboard._process.exit",
        "STATE jaxboard._process.fork",
        "STATE jaxboard._host.active_channel",
        "STATE jaxboard._run.directories",
        "STATE jaxboard._live.displays",
        "STATE jaxboard._run.run",
        "STATE jaxboard.sinks._quiet_import",
    ]


def test_only_one_module_registers_with_the_interpreter():
    """os.register_at_fork, whose order depends on imports, is called in one module only."""
    (package,) = jaxboard.__path__
    calls = [
        str(path.relative_to(package))
        for path in pathlib.Path(package).rglob("*.py")
        if "os.register_at_fork(" in path.read_text()
    ]
    assert calls == [os.path.join("_process", "fork.py")]
