"""Process 0 reads the files of all processes; here the test writes them."""

import dataclasses
import logging

import pytest

from jaxboard._job import overview as overview_module
from jaxboard._job.fingerprints import fingerprint, first_difference, program_text
from jaxboard._job.overview import Overview
from jaxboard._job.shared_files import Beat, SharedFiles


class Job:
    """The files of four processes, and what process 0 reports about them."""

    def __init__(self, directory):
        self.files = SharedFiles(directory)
        self.points, self.entries = [], []
        self.beats = [
            Beat(index, f"host{index}", 100 + index, step=7, finished=6) for index in range(4)
        ]
        self.now = 0.0
        self.overview = self.opened()

    def opened(self):
        return Overview(
            "'runs/a'",
            4,
            self.files,
            silent_secs=10.0,
            put_point=self.points.append,
            put_entry=self.entries.append,
            clock=lambda: self.now,
        )

    def look(self, ended=(), **changes):
        """Write the files of processes that have changed, and read all of them."""
        for name, changed in changes.items():
            index = int(name.removeprefix("process_"))
            self.beats[index] = dataclasses.replace(self.beats[index], **changed)
        for beat in self.beats[1:]:
            if beat.process in ended:
                continue
            beat.number += 1
            self.files.write_beat(beat)
        self.overview.look(self.beats[0])
        return [
            (entry.tag.removeprefix("jaxboard/processes/"), entry.value) for entry in self.entries
        ]


@pytest.fixture
def job(tmp_path):
    return Job(tmp_path)


def test_statistics(job):
    """The curves have the smallest, the median and the largest value of all processes, once per step."""
    seconds = (0.5, 0.25, 1.0, 0.75)
    changes = {f"process_{i}": {"step_seconds": s} for i, s in enumerate(seconds)}
    job.look(**changes)
    job.look(**changes)
    points = [(point.tag, point.step, float(point.value)) for point in job.points]
    prefix = "jaxboard/processes/step_seconds"
    assert points == [
        (f"{prefix}/min", 7, 0.25),
        (f"{prefix}/median", 7, 0.625),
        (f"{prefix}/max", 7, 1.0),
    ]


def test_the_slowest_process(job, caplog):
    """The process that spends much more time outside of the device than most is named once, with its phase."""
    usual = {"phases": {"device": 36, "data": 4}}
    slow = {"phases": {"device": 8, "data": 30, "checkpoint": 2}}
    with caplog.at_level(logging.WARNING, "jaxboard"):
        job.look(process_0=usual, process_1=usual, process_2=slow, process_3=usual)
        entries = job.look()
    assert [tag for tag, _ in entries] == ["slowest"]
    expected = (
        "The slowest process is 2 (host host2): it spends 80% of its time outside of the device, most of it in the "
        "phase 'data'."
    )
    assert entries[0][1].startswith(expected)
    assert "| 2 | host2 | data | 7 | 6 | 0 s |" in entries[0][1]
    assert [record.getMessage() for record in caplog.records] == [
        f"jaxboard: run 'runs/a': {expected}"
    ]


def test_equally_slow_processes(job):
    """If all processes load data for long, none is named."""
    usual = {"phases": {"device": 8, "data": 32}}
    assert job.look(**{f"process_{i}": usual for i in range(4)}) == []


waiting = {"phase": "device", "hangs": True, "step": 8, "finished": 7, "idle_seconds": 61.0}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"phase": "data", "step": 7}, "which is in the phase 'data' and last dispatched step 7."),
        (
            {"phase": "checkpoint", "step": 8},
            "which is in the phase 'checkpoint' and last dispatched step 8.",
        ),
        (
            {"phase": "device", "step": 8, "finished": 6},
            "which is in the phase 'device' and last dispatched step 8.",
        ),
        ({"closed": True, "step": 7}, "which closed its run after step 7."),
    ],
)
def test_a_hang(job, changes, sentence):
    """If nothing finishes, the run names the process that the others wait for, once."""
    job.look(
        process_0=waiting,
        process_1=waiting,
        process_2={**waiting, **changes},
        process_3=waiting,
    )
    entries = job.look()
    assert [tag for tag, _ in entries] == ["hang"]
    text = entries[0][1].splitlines()[0]
    assert text.startswith("No step has finished for 61 s. The others wait for process 2")
    assert text.endswith(sentence)


def test_devices_that_hang(job):
    """If all processes wait for their devices at the same step, no process is named."""
    entries = job.look(**{f"process_{i}": waiting for i in range(4)})
    assert entries[0][1].splitlines()[0].endswith("All processes wait for their devices at step 8.")


def test_a_process_that_has_ended(job):
    """A process whose file has stopped changing has ended."""
    job.look()
    job.now = 25.0
    entries = job.look(ended=[2], process_0=waiting, process_1=waiting, process_3=waiting)
    assert entries[0][1].startswith(
        "No step has finished for 61 s. The others wait for process 2 (host host2, pid 102), which has ended or cannot "
        "be reached: it last wrote its state 25 s ago, at step 7 in the phase 'data'."
    )


def test_files_of_an_earlier_job(job):
    """A file that does not change after the run was opened does not count; a damaged one does not disturb."""
    job.look()
    job.overview = job.opened()
    path = job.files.directory / "process_3.json"
    path.write_bytes(path.read_bytes()[:20])
    job.beats[0] = dataclasses.replace(job.beats[0], **waiting)
    job.overview.look(job.beats[0])
    assert "Process 1, 2, 3 has opened no run" in job.entries[0].value


def test_different_programs(job, caplog):
    """The first difference between two programs of one function is reported once."""
    texts = "a = sin b\nc = add a 1.0", "a = sin b\nc = add a 2.0"
    marks = [fingerprint(text) for text in texts]
    for mark, text in zip(marks, texts, strict=True):
        job.files.write_program(mark, text)
    same = {"programs": [["eval", marks[0]], ["step", marks[0]]]}
    other = {"programs": [["eval", marks[0]], ["step", marks[1]]]}
    job.look(process_0=same, process_1=same, process_2=same, process_3=other)
    entries = job.look()
    assert [tag for tag, _ in entries] == ["programs"]
    assert entries[0][1] == (
        "step is another program in process 3 than in process 0. The job may hang: all processes have to run the same "
        "program. The first difference is in line 2:\n\n    process 0: c = add a 1.0\n\n    process 3: c = add a 2.0"
    )
    assert len(caplog.records) == 1


def test_text_of_a_program():
    """The text has neither addresses nor the order of sets, which differ between processes."""
    one = program_text("f[fun=<function f at 0x7f0123456789> axes=frozenset({'b', 'a'})]")
    other = program_text("f[fun=<function f at 0x7fabcdef0123> axes=frozenset({'a', 'b'})]")
    assert one == other
    assert first_difference(one, other) is None


def test_a_long_line():
    """The part of a long line that differs is shown."""
    difference = first_difference("x" * 1000 + "a" + "y" * 1000, "x" * 1000 + "b" + "y" * 1000)
    assert difference is not None
    assert "xay" in difference.expected
    assert "xby" in difference.found
    assert len(difference.found) < 310


def test_entries_are_limited(job):
    """A job that changes forever does not fill the run with entries."""
    fast = {"phases": {"device": 40}}
    for number in range(250):
        slow = {"phases": {"data": 40}}
        changes = {f"process_{i}": slow if i == number % 4 else fast for i in range(4)}
        job.look(**changes)
    assert len(job.entries) == overview_module._MAX_ENTRIES
