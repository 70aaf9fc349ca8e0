"""Requests to a run: how it acts on them, and which it refuses, as others may have written these files."""

from __future__ import annotations

import json
import logging
import os
import pathlib
import threading
import time
from collections.abc import Callable

import pytest

import jaxboard as jb
from jaxboard._cli.ask import _Asked
from jaxboard._cli.main import main
from jaxboard._control.listener import Listener
from jaxboard._control.request_files import place_of
from jaxboard._host.buffer import Buffer
from jaxboard._host.channel import NEVER, Channel
from jaxboard._host.flush_request import FlushRequest
from jaxboard._host.selection import Selection
from jaxboard.sinks import MemorySink

NAME = "20300101-000000-00000000"


class Thread:
    """The flusher of a run, which the tests call instead."""

    def __init__(self) -> None:
        self.polls: list[Callable[[], object]] = []

    def request_flush(self) -> FlushRequest:
        return FlushRequest("flush")


class Asked:
    """A listener, and the directory of one request to it."""

    def __init__(self, logdir: pathlib.Path) -> None:
        logdir.mkdir()
        self.place = pathlib.Path(place_of(str(logdir)))
        self.directory = self.place / NAME
        self.channel = Channel(Buffer(100, 10**6))
        self.listener = Listener(logdir, self.channel, Thread())
        self._now = 0.0
        self.place.mkdir(parents=True)

    def poll(self) -> None:
        self._now += 10.0
        self.listener.poll(self._now)

    def write(self, contents: object, file: str = "request.json") -> None:
        self.directory.mkdir(exist_ok=True)
        text = contents if isinstance(contents, str) else json.dumps(contents)
        (self.directory / file).write_text(text)

    def answer(self) -> dict[str, object]:
        (path,) = self.directory.glob("answer.*.json")
        return json.loads(path.read_text())


@pytest.fixture
def asked(tmp_path):
    return Asked(tmp_path / "logs")


def test_a_request_to_an_earlier_run(tmp_path) -> None:
    """A request that is there when the run is opened is ignored; one that comes before the first poll is not."""
    earlier = Asked(tmp_path / "logs")
    earlier.write({"name": NAME, "verb": "stacks"})
    listener = Listener(tmp_path / "logs", earlier.channel, Thread())
    listener.poll(10.0)
    assert not list(earlier.directory.glob("answer.*.json"))
    earlier.poll()
    assert "test_a_request_to_an_earlier_run" in str(earlier.answer()["text"])


def test_the_agreed_step(asked) -> None:
    """A change of cadences happens at the step that the request names, and the answer has it."""
    asked.write({"name": NAME, "verb": "every", "cadences": [["a", 7], ["b", None]]})
    for _ in range(3):
        asked.channel.begin(True)
    asked.poll()
    (seen,) = asked.directory.glob("seen.*.json")
    contents = json.loads(seen.read_text())
    assert (contents["step"], contents["process"], contents["processes"]) == (3, 0, 1)
    asked.write({"step": 5}, "step.json")
    asked.poll()
    for step in (3, 4):
        assert asked.channel.begin(True) == step
        asked.poll()
        assert asked.channel.selection is None
    assert asked.channel.begin(True) == 5
    assert asked.channel.selection is not None
    assert asked.channel.selection.cadences == {"a": 7, "b": None}
    assert asked.channel.act_at == NEVER
    asked.poll()
    answer = asked.answer()
    assert (answer["step"], answer["late"]) == (5, False)
    assert answer["done"] == "cadences from step 5 on: a=7, b=off"


def test_a_step_that_has_passed(asked) -> None:
    """A process that has passed the step acts at its next one, and reports that."""
    asked.write({"name": NAME, "verb": "every", "cadences": [["a", 7]]})
    asked.poll()
    for _ in range(10):
        asked.channel.begin(True)
    asked.write({"step": 5}, "step.json")
    asked.poll()
    assert asked.channel.selection is None
    asked.channel.begin(True)
    asked.poll()
    assert (asked.answer()["step"], asked.answer()["late"]) == (10, True)


def test_a_program_without_steps(asked) -> None:
    """In a program that takes no steps, cadences change immediately."""
    asked.write({"name": NAME, "verb": "every", "cadences": [["a", 7]]})
    asked.poll()
    asked.write({"step": 1}, "step.json")
    asked.poll()
    assert asked.channel.selection.cadences == {"a": 7}
    assert (asked.answer()["step"], asked.answer()["late"]) == (0, False)


@pytest.mark.parametrize("verb", ["every", "profile"])
@pytest.mark.parametrize("knows_step", [True, False])
def test_a_run_that_closes(asked, verb, knows_step) -> None:
    """A run that closes before the step answers that."""
    asked.channel.begin(True)
    asked.write({"name": NAME, "verb": verb, "cadences": [["a", 7]]})
    asked.poll()
    if knows_step:
        asked.write({"step": 1000}, "step.json")
        asked.poll()
    asked.listener.close()
    assert "error" in asked.answer()


def test_cadences_of_several_requests() -> None:
    """Patterns of later requests come last, and "code" removes one."""
    first = Selection({"*": None, "a": 2})
    second = first.including([("*", 3), ("b", 4)])
    assert [second.choice(tag) for tag in ("a", "b", "c")] == [3, 4, 3]
    third = second.including([("*", "code"), ("b", None)])
    assert [third.choice(tag) for tag in ("a", "b", "c")] == [2, None, "code"]
    assert first.cadences == {"*": None, "a": 2}


@pytest.mark.parametrize(
    ("choice", "points"),
    [(5, [(15, 14), (20, 18), (22, 21.5)]), (1, [(n, n) for n in range(13, 23)]), (None, [])],
)
def test_a_cadence_that_changes_within_a_window(choice, points) -> None:
    """In plain Python, the values before the change make a point at the last of their steps; so do those of runs below."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]) as run:
        for run.step in range(23):
            if run.step == 13:
                run._channel.select(Selection({"a": choice}))
                run.flush()
            jb.scalar("a", run.step, every=10)
            run.child("eval").scalar("a", run.step, every=10)
            jb.scalar("b", run.step, every=10)
    for name in ("", "eval"):
        found = [(r.step, float(r.value)) for r in sink.records if (r.tag, r.run) == ("a", name)]
        assert found == [(0, 0), (10, 5.5), (12, 11.5), *points]
    found = [(r.step, float(r.value)) for r in sink.records if r.tag == "b"]
    assert found == [(0, 0), (10, 5.5), (20, 15.5), (22, 21.5)]


def everything(directory: pathlib.Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


INVALID = {
    "no JSON": "{",
    "a deep list": "[" * 100_000,
    "no object": [1],
    "another name": {"name": "x", "verb": "stacks"},
    "no verb": {"name": NAME},
    "an unknown verb": {"name": NAME, "verb": "run"},
    "a verb that is no text": {"name": NAME, "verb": ["stacks"]},
    "another field": {"name": NAME, "verb": "stacks", "path": "/etc/passwd"},
    "no steps": {"name": NAME, "verb": "profile", "steps": 0},
    "many steps": {"name": NAME, "verb": "profile", "steps": 10**30},
    "steps that are no number": {"name": NAME, "verb": "profile", "steps": True},
    "no processes": {"name": NAME, "verb": "stacks", "processes": "all"},
    "a negative process": {"name": NAME, "verb": "stacks", "processes": [-1]},
    "no list of cadences": {"name": NAME, "verb": "every", "cadences": {"a": 1}},
    "a cadence of 0": {"name": NAME, "verb": "every", "cadences": [["a", 0]]},
    "a cadence of a text": {"name": NAME, "verb": "every", "cadences": [["a", "__import__('os')"]]},
    "a pattern that is no text": {"name": NAME, "verb": "every", "cadences": [[1, 1]]},
    "cadences of one process": {
        "name": NAME,
        "verb": "every",
        "cadences": [["a", 1]],
        "processes": [0],
    },
    "a large file": " " * (2 << 20),
}


@pytest.mark.parametrize("contents", INVALID.values(), ids=INVALID)
def test_invalid_requests(asked, caplog, contents) -> None:
    """An invalid request is logged once and answered, and changes nothing."""
    asked.write(contents)
    with caplog.at_level(logging.WARNING, logger="jaxboard"):
        asked.poll()
        asked.poll()
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"jaxboard, run run: the request {NAME!r} is refused: ")
    assert str(asked.answer()["error"]).startswith("refused: ")
    assert asked.channel.selection is None


@pytest.mark.parametrize("step", [{"step": -1}, {"step": 2**63}, {"step": "1"}, [], "{"], ids=repr)
def test_invalid_steps(asked, caplog, step) -> None:
    """An invalid step is refused like an invalid request."""
    asked.write({"name": NAME, "verb": "every", "cadences": [["a", 1]]})
    asked.poll()
    asked.write(step, "step.json")
    with caplog.at_level(logging.WARNING, logger="jaxboard"):
        asked.poll()
        asked.poll()
    assert len(caplog.records) == 1
    assert str(asked.answer()["error"]).startswith("refused: ")
    assert asked.channel.selection is None


def test_requests_of_other_users(asked, caplog, monkeypatch) -> None:
    """A request of another user is refused, and nothing is written into its directory."""
    asked.write({"name": NAME, "verb": "stacks"})
    owner = os.stat(asked.directory).st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    before = everything(asked.place)
    with caplog.at_level(logging.WARNING, logger="jaxboard"):
        asked.poll()
    (record,) = caplog.records
    assert record.getMessage().endswith("is refused: it belongs to another user.")
    assert everything(asked.place) == before


@pytest.mark.parametrize("kind", ["link", "file", "pipe"])
def test_directories_that_are_none(asked, caplog, tmp_path, kind) -> None:
    """A link, a file and a pipe in place of the directory of a request are refused; nothing is written through a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "request.json").write_text(json.dumps({"name": NAME, "verb": "stacks"}))
    if kind == "link":
        asked.directory.symlink_to(outside)
    elif kind == "file":
        asked.directory.write_text("x")
    else:
        os.mkfifo(asked.directory)
    with caplog.at_level(logging.WARNING, logger="jaxboard"):
        asked.poll()
    assert len(caplog.records) == 1
    assert everything(outside) == {"request.json"}


@pytest.mark.parametrize("kind", ["link", "directory", "pipe"])
def test_files_that_are_none(asked, caplog, tmp_path, kind) -> None:
    """A link, a directory and a pipe in place of the file of a request are refused, and none is waited for."""
    asked.directory.mkdir()
    file = asked.directory / "request.json"
    if kind == "link":
        (tmp_path / "request").write_text(json.dumps({"name": NAME, "verb": "stacks"}))
        file.symlink_to(tmp_path / "request")
    elif kind == "directory":
        file.mkdir()
    else:
        os.mkfifo(file)
    with caplog.at_level(logging.WARNING, logger="jaxboard"):
        asked.poll()
    assert len(caplog.records) == 1
    assert str(asked.answer()["error"]).startswith("refused: ")


def test_old_requests(tmp_path) -> None:
    """A run does not act on requests that were there when it was opened."""
    directory = pathlib.Path(place_of(str(tmp_path))) / NAME
    directory.mkdir(parents=True)
    (directory / "request.json").write_text(json.dumps({"name": NAME, "verb": "stacks"}))
    listener = Listener(tmp_path, Channel(Buffer(100, 10**6)), Thread())
    listener.poll(10.0)
    listener.poll(20.0)
    assert everything(directory) == {"request.json"}


def test_requests_of_long_ago_are_deleted(tmp_path, capsys) -> None:
    """A new request deletes those of more than a week ago, and nothing else."""
    place = pathlib.Path(place_of(str(tmp_path)))
    for name in ("old", ".begun", "recent"):
        (place / name).mkdir(parents=True)
        (place / name / "request.json").touch()
    (place / "file").touch()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "mine.json").touch()
    (place / "link").symlink_to(tmp_path / "elsewhere")
    for path in (place / "old", place / ".begun", place / "file", tmp_path / "elsewhere"):
        os.utime(path, (0, time.time() - 8 * 24 * 3600))
    assert main(["ask", str(tmp_path), "stacks", "--timeout", "0"]) == 1
    assert "No run has answered" in capsys.readouterr().out
    left = {path.name for path in place.iterdir()}
    assert left - {"recent", "file", "link"} == {max(left - {"recent", "file", "link"})}
    assert (tmp_path / "elsewhere" / "mine.json").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["profile", "steps=0"],
        ["profile", "path=x"],
        ["every"],
        ["every", "a"],
        ["every", "a=0"],
        ["every", "a=x"],
        pytest.param(["every", "a=" + 5000 * "1"], id="every a=111..."),
        ["stacks", "steps=1"],
        ["memory", "processes=-1"],
    ],
    ids=" ".join,
)
def test_invalid_arguments(tmp_path, capsys, words) -> None:
    """The command refuses invalid arguments, with the exit status 2, and leaves no request."""
    assert main(["ask", str(tmp_path), *words]) == 2
    assert capsys.readouterr().err.startswith("ask: ")
    assert list(tmp_path.rglob("*")) == []


def test_no_run_answers(tmp_path, capsys) -> None:
    """Without an open run, the command reports that after the timeout, with the exit status 1."""
    assert main(["ask", str(tmp_path), "stacks", "--timeout", "0"]) == 1
    assert capsys.readouterr().out.startswith(f"No run has answered in {str(tmp_path)!r}.")


def test_a_process_that_is_not_there(tmp_path) -> None:
    """The answer names it, and the command fails, if the run has no such process."""
    command = _Asked(str(tmp_path), ["profile", "processes=0,7"])
    message = {"process": 0, "processes": 1, "host": "a", "pid": 3, "step": 5}
    command.seen[0, "a", 3] = message
    command.answers[0, "a", 3] = message | {"done": "profiled"}
    assert command.lines()[1:] == ["there is no process 7: the run has 1, from 0 on."]
    assert not command.is_done
    assert command.as_json()["unseen"] == [7]


def test_a_process_that_the_job_lacks(asked, tmp_path, capsys) -> None:
    """A request to a process that does not exist is reported, with the exit status 1."""
    statuses: list[int] = []
    command = ["ask", str(tmp_path / "logs"), "stacks", "processes=3"]
    thread = threading.Thread(target=lambda: statuses.append(main(command)))
    thread.start()
    while thread.is_alive():
        asked.poll()
        thread.join(0.01)
    assert statuses == [1]
    text = "there is no process 3: the run has 1, from 0 on.\n"
    assert capsys.readouterr().out == text
