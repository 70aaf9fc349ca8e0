"""Checks of the event files below a directory: what is damaged, and what TensorBoard shows wrongly or not at all."""

from __future__ import annotations

import bisect
import dataclasses
import enum
import os
from collections.abc import Iterator

import numpy as np

from jaxboard import _paths
from jaxboard._log import describe
from jaxboard._read import run_files
from jaxboard._read.event_columns import EventReader, Points
from jaxboard._read.framing import Block, Damage, Fault, read_blocks
from jaxboard._read.run_files import EventFile
from jaxboard._read.visible_points import in_order_of_writing, replaced_by_marks
from jaxboard.sinks import _live_writers

_OVERLAP_SECS = 1.0
"""The time for which two files may overlap without having been written at the same time."""


class Severity(enum.Enum):
    """The severity of a problem."""

    ERROR = "error"  # something is lost
    WARNING = "warning"  # TensorBoard hides something, or shows it wrongly
    NOTE = "note"  # worth knowing


@dataclasses.dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong with an event file, or worth knowing.

    Attributes:
        severity: how bad it is.
        code: a name for programs, such as ``"data-checksum"``.
        run: the run.
        file: the path of the file.
        offset: where the first record with the problem begins in the file; None if the whole file has it.
        tag: the tag, or None.
        step: the step of the first point with the problem, or None.
        count: how often it occurs in the file, or in the tag.
        text: a sentence.
    """

    severity: Severity
    code: str
    run: str
    file: str
    offset: int | None
    tag: str | None
    step: int | None
    count: int
    text: str


@dataclasses.dataclass(frozen=True, slots=True)
class Verification:
    """The result of checking a directory.

    Attributes:
        files: the event files of each run.
        records: the number of intact records.
        points: the number of scalars.
        problems: all problems, in the order of runs.
    """

    files: dict[str, list[EventFile]]
    records: int
    points: int
    problems: list[Problem]

    def count(self, severity: Severity) -> int:
        """Return the number of problems of a severity."""
        return sum(problem.severity is severity for problem in self.problems)


def verify(logdir: str | os.PathLike[str]) -> Verification:
    """Check all event files below a directory.

    Raises:
        UsageError: there is no such directory.
        RunError: a URL cannot be read here.
    """
    files = run_files.find_runs(logdir, "verify")
    problems: list[Problem] = []
    records = points = 0
    for run in files:
        checked = RunFiles(run, files[run])
        problems += sorted(checked.problems(), key=checked.place)
        records += checked.records
        points += len(checked.points.steps)
    return Verification(files, records, points, problems)


class RunFiles:
    """The contents of the files of one run, with the place of each record.

    Attributes:
        records: the number of intact records.
        points: the scalars, in the order of writing.
    """

    def __init__(self, name: str, files: list[EventFile]) -> None:
        self._name = name
        self._files = files
        self._first_records: list[int] = []  # One for each file.
        self._damage: list[list[Damage]] = []
        self._faults: dict[int, str] = {}
        offsets: list[np.ndarray] = [np.zeros(0, np.int64)]
        reader = EventReader("scalar", lambda _: True)
        self._contents = contents = reader.contents
        for index, file in enumerate(files):
            self._first_records.append(contents.records)
            self._damage.append([])
            try:
                with file.open() as opened:
                    for part in read_blocks(opened, file.size):
                        if isinstance(part, Block):
                            reader.read(part)
                            offsets.append(part.offsets)
                        else:
                            self._damage[-1].append(part)
            except OSError as error:
                self._faults[index] = describe(error)
            # TensorFlow's errors are not OSErrors.
            except Exception as error:
                if not _paths.is_remote(file.path):
                    raise
                self._faults[index] = describe(error)
        self._offsets = np.concatenate(offsets)
        self.records = contents.records
        self.points = in_order_of_writing(contents)

    def problems(self) -> Iterator[Problem]:
        """Yield what is wrong."""
        for index, file in enumerate(self._files):
            yield from self._file_problems(index, file)
        yield from self._record_problems()
        yield from self._writer_problems()
        yield from self._tag_problems()

    def place(self, problem: Problem) -> tuple[str, int]:
        """Return where a problem is: files are read in the order of their names."""
        return problem.file, -1 if problem.offset is None else problem.offset

    # --- Files and records ------------------------------------------------------------------------

    def _file_problems(self, index: int, file: EventFile) -> Iterator[Problem]:
        if index in self._faults:
            text = f"the file cannot be read: {self._faults[index]}"
            yield self._of_file(Severity.ERROR, "unreadable-file", file, text)
        elif not file.size:
            text = "the file is empty: its writer ended before the first flush, or is still open"
            yield self._of_file(Severity.WARNING, "empty-file", file, text)
        by_fault: dict[Fault, list[Damage]] = {}
        for damage in self._damage[index]:
            by_fault.setdefault(damage.fault, []).append(damage)
        for fault, damages in by_fault.items():
            size = sum(damage.size for damage in damages)
            severity, text = Severity.ERROR, f"{_FAULTS[fault]} ({size:,} bytes)"
            if fault is Fault.TRUNCATED and self._is_being_written(file):
                severity, text = Severity.NOTE, "the last record is being written"
            yield self._of_file(
                severity, fault.value, file, text, offset=damages[0].offset, count=len(damages)
            )

    def _record_problems(self) -> Iterator[Problem]:
        unreadable: dict[tuple[int, str | None], list[int]] = {}
        for record, tag in self._contents.unreadable:
            unreadable.setdefault((self._file_of(record), tag), []).append(record)
        for (_, tag), records in unreadable.items():
            if tag is None:
                code, text = "not-an-event", "an intact record is not an event"
            else:
                code, text = "not-a-number", f"tag {tag!r}: a scalar is not a single number"
            count = len(records)
            yield self._of_record(Severity.ERROR, code, min(records), text, count=count, tag=tag)
        by_file: dict[int, list[int]] = {}
        for record in self._contents.wrong_times:
            by_file.setdefault(self._file_of(record), []).append(record)
        for records in by_file.values():
            text = "the wall time of an event is not finite: TensorBoard's default loader reads nothing from there on"
            count = len(records)
            yield self._of_record(Severity.ERROR, "wall-time", min(records), text, count=count)

    def _writer_problems(self) -> Iterator[Problem]:
        spans: list[tuple[float, float, EventFile]] = []
        bounds = np.searchsorted(self.points.records, [*self._first_records, self.records])
        for file, start, end in zip(self._files, bounds[:-1], bounds[1:], strict=True):
            times = self.points.wall_times[start:end]
            times = times[np.isfinite(times)]
            if len(times):
                spans.append((float(times.min()), float(times.max()), file))
        latest, before = -np.inf, None
        for first, last, file in sorted(spans):
            overlap = min(latest, last) - first
            if before is not None and overlap > _OVERLAP_SECS:
                text = (
                    f"its points overlap with those of {os.path.basename(before.path)!r} by {overlap:,.0f} s: two "
                    "writers in one directory. TensorBoard's slow loader reads one of them"
                )
                yield self._of_file(Severity.WARNING, "two-writers", file, text)
            if last > latest:
                latest, before = last, file
        writing = [file for file in self._files if self._is_being_written(file)]
        if len(writing) > 1:
            text = f"{len(writing)} processes are writing into this directory now"
            yield self._of_file(Severity.WARNING, "two-writers", writing[-1], text)

    # --- Tags -------------------------------------------------------------------------------------

    def _tag_problems(self) -> Iterator[Problem]:
        for tag, kinds in self._contents.kinds.items():
            if len(kinds) > 1:
                first, *others = sorted(kinds, key=kinds.__getitem__)
                names = " and ".join(others)
                text = f"tag {tag!r} has the kind {first}, and later {names}: TensorBoard shows one kind for each tag"
                record = kinds[others[0]]
                count = len(others)
                yield self._of_record(Severity.WARNING, "kind", record, text, count=count, tag=tag)
        points = self.points
        order = np.argsort(points.tags, kind="stable")
        starts = np.searchsorted(points.tags[order], np.arange(len(self._contents.tags) + 1))
        replaced = replaced_by_marks(self._contents, points)
        for number, tag in enumerate(self._contents.tags):
            rows = order[starts[number] : starts[number + 1]]
            yield from self._value_problems(tag, Points(*(column[rows] for column in points)))
            rows = rows[~replaced[rows]]
            yield from self._step_problems(tag, Points(*(column[rows] for column in points)))

    def _value_problems(self, tag: str, points: Points) -> Iterator[Problem]:
        for code, wrong in (
            ("nan", np.isnan(points.values)),
            ("infinite", np.isinf(points.values)),
        ):
            count = int(np.count_nonzero(wrong))
            if count:
                first = int(np.argmax(wrong))
                text = f"tag {tag!r}: a value is {_NOT_FINITE[code]}"
                step = int(points.steps[first])
                record = int(points.records[first])
                yield self._of_record(
                    Severity.NOTE, code, record, text, count=count, tag=tag, step=step
                )

    def _step_problems(self, tag: str, points: Points) -> Iterator[Problem]:
        # Not by differences, which overflow.
        before, after = points.steps[:-1], points.steps[1:]
        for severity, code, wrong in (
            (Severity.WARNING, "step-back", after < before),
            (Severity.NOTE, "step-again", after == before),
        ):
            count = int(np.count_nonzero(wrong))
            if not count:
                continue
            place = int(np.argmax(wrong)) + 1
            step = int(points.steps[place])
            text = f"tag {tag!r}: two points have the same step; the later one counts"
            if code == "step-back":
                text = (
                    f"tag {tag!r}: the step goes back from {int(points.steps[place - 1])} to {step} without a restart: "
                    "TensorBoard's default loader hides the earlier points from there on"
                )
            record = int(points.records[place])
            yield self._of_record(severity, code, record, text, count=count, tag=tag, step=step)

    # --- Places -----------------------------------------------------------------------------------

    def _file_of(self, record: int) -> int:
        return bisect.bisect_right(self._first_records, record) - 1

    def _of_record(
        self,
        severity: Severity,
        code: str,
        record: int,
        text: str,
        *,
        count: int,
        tag: str | None = None,
        step: int | None = None,
    ) -> Problem:
        file = self._files[self._file_of(record)].path
        offset = int(self._offsets[record])
        return Problem(severity, code, self._name, file, offset, tag, step, count, text)

    def _of_file(
        self,
        severity: Severity,
        code: str,
        file: EventFile,
        text: str,
        *,
        offset: int | None = None,
        count: int = 1,
    ) -> Problem:
        return Problem(severity, code, self._name, file.path, offset, None, None, count, text)

    def _is_being_written(self, file: EventFile) -> bool:
        return not _paths.is_remote(file.path) and _live_writers.is_locked(file.path)


_FAULTS = {
    Fault.TRUNCATED: "a record is cut off",
    Fault.LENGTH: "no record begins here: the checksum of its length is wrong",
    Fault.DATA: "the checksum of a record's data is wrong",
}
_NOT_FINITE = {"nan": "NaN", "infinite": "infinite"}
