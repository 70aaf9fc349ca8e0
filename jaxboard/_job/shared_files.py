"""Small files in the log directory through which the processes of a job know of each other.

Each file has one writer and is replaced as a whole, so that a reader sees an old or a new one, never a part.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from typing import Any

FOLDER = ".jaxboard"
"""The directory below the log directory. TensorBoard finds no event files in it."""


@dataclasses.dataclass(slots=True)
class Beat:
    """The state of one process, as it last wrote it.

    Attributes:
        process: the number of the process in the job.
        host: the name of its host.
        pid: its number on the host.
        number: how often it has written the file.
        step: the last step that it dispatched; None before the first one.
        finished: the last step whose reports its devices have computed, None if there is none yet.
        phase: the current activity: ``"compile"``, ``"data"``, ``"device"`` or ``"checkpoint"``.
        idle_seconds: how long neither ``step`` nor ``finished`` has changed, and nothing was compiled.
        phases: the number of recent samples of each phase while it trains, without those of compilations.
        step_seconds: the mean step time, if it was measured.
        data_seconds: the mean time between two calls of instrumented functions, if it was measured.
        memory_bytes: the memory in use on its devices, if it was measured.
        history: the last changes of the above: seconds since the epoch, ``step``, ``finished``, ``phase``.
        programs: the traced programs in order: the function's name and the fingerprint.
        hangs: whether nothing has finished for ``hang_secs``. Its stacks are in a file then.
        closed: whether the run of the process is closed.
    """

    process: int
    host: str
    pid: int
    number: int = 0
    step: int | None = None
    finished: int | None = None
    phase: str = "data"
    idle_seconds: float = 0.0
    phases: dict[str, int] = dataclasses.field(default_factory=dict[str, int])
    step_seconds: float | None = None
    data_seconds: float | None = None
    memory_bytes: int | None = None
    history: list[list[Any]] = dataclasses.field(default_factory=list[list[Any]])
    programs: list[list[str]] = dataclasses.field(default_factory=list[list[str]])
    hangs: bool = False
    closed: bool = False


class SharedFiles:
    """The files of a job below a log directory."""

    def __init__(self, logdir: pathlib.Path):
        self.directory = logdir / FOLDER

    def write_beat(self, beat: Beat) -> None:
        """Replace the file of a process."""
        text = json.dumps(dataclasses.asdict(beat))
        write(self._beat_path(beat.process), text.encode())

    def read_beat(self, process: int) -> Beat | None:
        """Return the state that a process wrote last; None if there is none, or another version wrote it."""
        try:
            return Beat(**json.loads(self._beat_path(process).read_bytes()))
        except (OSError, ValueError, TypeError):
            return None

    def stacks_path(self, process: int) -> pathlib.Path:
        """Return where a process that hangs writes the stacks of its threads."""
        return self.directory / f"process_{process}.stacks.txt"

    def write_program(self, fingerprint: str, text: str) -> None:
        """Write the text of a program. Processes with the same program share the file."""
        path = self._program_path(fingerprint)
        if not path.exists():
            write(path, text.encode())

    def read_program(self, fingerprint: str) -> str | None:
        """Return the text of a program, None if it is not there (yet)."""
        try:
            return self._program_path(fingerprint).read_text(encoding="utf-8")
        except OSError:
            return None

    def _beat_path(self, process: int) -> pathlib.Path:
        return self.directory / f"process_{process}.json"

    def _program_path(self, fingerprint: str) -> pathlib.Path:
        return self.directory / f"program_{fingerprint}.txt"


def write(path: pathlib.Path, contents: bytes) -> None:
    """Write a file under another name, then rename it.

    Raises:
        OSError: the file cannot be written.
    """
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(contents)
        part.replace(path)
    except OSError:
        part.unlink(missing_ok=True)
        raise
