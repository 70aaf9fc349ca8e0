"""Process 0's view of the job: the slowest process, the one that others wait for, and different programs."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from jaxboard._job.fingerprints import Program, first_difference, numbered
from jaxboard._job.shared_files import Beat, SharedFiles
from jaxboard._log import logger
from jaxboard._markdown import table
from jaxboard.records import Kind, Record

PREFIX = "jaxboard/processes/"

_MUCH_MORE = 0.25
"""The share of the time by which the slowest process has to exceed the median to be shown."""

_FEW_SAMPLES = 12
_MAX_ENTRIES = 100
_MEASURED = ("step_seconds", "data_seconds", "memory_bytes")


class _Seen(NamedTuple):
    """A beat that was read, and when it was a new one, by the clock."""

    beat: Beat
    at: float


class Overview:
    """Reads the files of all processes, and reports to the main run.

    Args:
        name: the run, for messages.
        count: the number of processes.
        files: where to read.
        silent_secs: the seconds without a new beat after which a process counts as ended.
        put_point: puts a scalar in the buffer of the run.
        put_entry: puts a text entry, which is written even if the device computes nothing any more.
        clock: returns seconds.
    """

    def __init__(
        self,
        name: str,
        count: int,
        files: SharedFiles,
        *,
        silent_secs: float,
        put_point: Callable[[Record], object],
        put_entry: Callable[[Record], object],
        clock: Callable[[], float] = time.monotonic,
    ):
        self._name = name
        self._count = count
        self._files = files
        self._silent_secs = silent_secs
        self._put_point = put_point
        self._put_entry = put_entry
        self._clock = clock
        # A file that an earlier job left behind never changes.
        self._first = {i: beat for i in range(1, count) if (beat := files.read_beat(i)) is not None}
        self._seen: dict[int, _Seen] = {}
        self._slowest: tuple[int, str] | None = None
        self._differing = set[Program]()
        self._hangs = False
        self._entries = 0
        self._last_point: int | None = None

    def look(self, own: Beat) -> None:
        """Read all files, and report what is new.

        Args:
            own: the state of this process.
        """
        self._read(own)
        beats = [seen.beat for seen in self._seen.values()]
        self._compare_programs(beats)
        self._find_slowest(own, beats)
        self._report_hang(own)
        self._measure(own, beats)

    def _read(self, own: Beat) -> None:
        now = self._clock()
        self._seen[0] = _Seen(own, now)
        for process in range(1, self._count):
            beat, old = self._files.read_beat(process), self._seen.get(process)
            if beat is None or beat == self._first.get(process):
                continue
            if old is None or (beat.pid, beat.number) != (old.beat.pid, old.beat.number):
                self._seen[process] = _Seen(beat, now)

    def _enter(self, step: int | None, tag: str, text: str) -> None:
        self._entries += 1
        if self._entries <= _MAX_ENTRIES:
            self._put_entry(Record(Kind.TEXT, PREFIX + tag, step or 0, time.time(), text))

    # --- Programs. --------------------------------------------------------------------------------

    def _compare_programs(self, beats: Sequence[Beat]) -> None:
        expected = numbered(beats[0].programs)
        for beat in beats[1:]:
            for program, mark in numbered(beat.programs).items():
                known = expected.get(program)
                if known is None or known == mark or program in self._differing:
                    continue
                texts = self._files.read_program(known), self._files.read_program(mark)
                if texts[0] is not None and texts[1] is not None:
                    self._differing.add(program)
                    self._report_difference(beat, program, texts[0], texts[1])

    def _report_difference(self, beat: Beat, program: Program, mine: str, other: str) -> None:
        difference = first_difference(mine, other)
        if difference is None:
            return
        headline = (
            f"{program.name} is another program in process {beat.process} than in process 0. The job may hang: "
            f"all processes have to run the same program. The first difference is in line {difference.line}:"
        )
        lines = [
            headline,
            f"process 0: {difference.expected}",
            f"process {beat.process}: {difference.found}",
        ]
        logger.error("jaxboard: run %s: %s", self._name, "\n    ".join(lines))
        self._enter(
            beat.step, "programs", "\n\n".join([lines[0], *(f"    {x}" for x in lines[1:])])
        )

    # --- The slowest process. ---------------------------------------------------------------------

    def _find_slowest(self, own: Beat, beats: Sequence[Beat]) -> None:
        """Report the process that spends the most time outside of the device, if it spends much more than most."""
        running = [beat for beat in beats if not beat.closed and not beat.hangs]
        if len(running) < 2 or any(sum(b.phases.values()) < _FEW_SAMPLES for b in running):
            return
        shares = [_host_share(beat) for beat in running]
        slowest = running[shares.index(max(shares))]
        if max(shares) - statistics.median_low(shares) < _MUCH_MORE:
            self._slowest = None
            return
        phase = max((p for p in slowest.phases if p != "device"), key=slowest.phases.__getitem__)
        if (slowest.process, phase) == self._slowest:
            return
        self._slowest = slowest.process, phase
        text = (
            f"The slowest process is {slowest.process} (host {slowest.host}): it spends {max(shares):.0%} of its time "
            f"outside of the device, most of it in the phase {phase!r}."
        )
        logger.warning("jaxboard: run %s: %s", self._name, text)
        self._enter(own.step, "slowest", f"{text}\n\n{self._table()}")

    # --- Hangs. -----------------------------------------------------------------------------------

    def _report_hang(self, own: Beat) -> None:
        hanging = [
            seen.beat.idle_seconds
            for seen in self._seen.values()
            if seen.beat.hangs and not seen.beat.closed and not self._is_silent(seen)
        ]
        if not hanging or self._hangs:
            self._hangs = bool(hanging)
            return
        self._hangs = True
        text = f"No step has finished for {max(hanging):.0f} s. {self._culprit()}"
        logger.error(
            "jaxboard: run %s: %s The stacks of each process are in %s.",
            self._name,
            text,
            self._files.directory,
        )
        self._enter(own.step, "hang", f"{text}\n\n{self._table()}")

    def _culprit(self) -> str:
        """Return a sentence that names the process that the others wait for."""
        missing = [str(i) for i in range(self._count) if i not in self._seen]
        if missing:
            return f"Process {', '.join(missing)} has opened no run on this directory: it may never have started."
        seen = sorted(self._seen.values(), key=lambda s: (_progress(s.beat), s.beat.process))
        for each in seen:
            beat = each.beat
            if beat.closed:
                return f"The others wait for process {beat.process}, which closed its run after step {beat.step}."
            if self._is_silent(each):
                return (
                    f"The others wait for process {beat.process} (host {beat.host}, pid {beat.pid}), which has ended "
                    f"or cannot be reached: it last wrote its state {self._clock() - each.at:.0f} s ago, at step "
                    f"{beat.step} in the phase {beat.phase!r}."
                )
        slow = [s.beat for s in seen if s.beat.phase != "device"] or [seen[0].beat]
        behind = min(slow, key=lambda beat: (_progress(beat), beat.process))
        if behind.phase == "device" and _progress(behind) == _progress(seen[-1].beat):
            return f"All processes wait for their devices at step {behind.step}."
        return (
            f"The others wait for process {behind.process} (host {behind.host}), which is in the phase "
            f"{behind.phase!r} and last dispatched step {behind.step}."
        )

    def _is_silent(self, seen: _Seen) -> bool:
        return self._clock() - seen.at > self._silent_secs

    def _table(self) -> str:
        """Return the state of all processes as a table in Markdown."""
        rows: list[list[object]] = [
            ["process", "host", "phase", "last step dispatched", "finished", "without progress"]
        ]
        for process in range(self._count):
            seen = self._seen.get(process)
            if seen is None:
                rows.append([process, "no run"])
                continue
            beat, phase = seen.beat, seen.beat.phase
            if beat.closed or self._is_silent(seen):
                phase = "closed" if beat.closed else f"ended, in {beat.phase}"
            idle = f"{beat.idle_seconds:.0f} s"
            rows.append([process, beat.host, phase, beat.step, beat.finished, idle])
        return table(rows)

    # --- Statistics. ------------------------------------------------------------------------------

    def _measure(self, own: Beat, beats: Sequence[Beat]) -> None:
        """Report the smallest, the median and the largest measurement over the processes."""
        if len(beats) < self._count or own.step is None or own.step == self._last_point:
            return
        now = time.time()
        for name in _MEASURED:
            values = [value for beat in beats if (value := getattr(beat, name)) is not None]
            if len(values) < self._count:
                continue
            self._last_point = own.step
            for statistic, value in (
                ("min", min(values)),
                ("median", statistics.median(values)),
                ("max", max(values)),
            ):
                tag = f"{PREFIX}{name}/{statistic}"
                self._put_point(Record(Kind.SCALAR, tag, own.step, now, np.float64(value)))


def _host_share(beat: Beat) -> float:
    return 1 - beat.phases.get("device", 0) / sum(beat.phases.values())


def _progress(beat: Beat) -> tuple[int, int]:
    return (-1 if beat.step is None else beat.step, -1 if beat.finished is None else beat.finished)
