"""The thread of each process that records what the process is doing."""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import os
import socket
import threading
import time
from collections.abc import Callable

from jaxboard._host.buffer import Buffer
from jaxboard._host.channel import Channel
from jaxboard._job.call_times import CallTimes
from jaxboard._job.fingerprints import fingerprint, program_text
from jaxboard._job.phases import phase_of
from jaxboard._job.shared_files import Beat, SharedFiles, write
from jaxboard._log import describe, log_once, logger
from jaxboard._process.rank import Rank

SAMPLES = 40
"""The samples of the phase that a beat counts: those of the last ten beats."""

_SAMPLES_PER_BEAT = 4
_HISTORY = 16
_MAX_PROGRAMS = 256


def seconds_between_beats(rank: Rank, hang_secs: float | None) -> float:
    """Return how often a process writes its file: less often in a large job, whose process 0 reads all of them."""
    usual = max(2.0, rank.count / 100)
    return usual if hang_secs is None else min(usual, hang_secs / 4)


class Heartbeat:
    """Writes the file of this process at each beat, and its stacks when nothing finishes any more.

    Args:
        rank: the rank of this process.
        files: where to write.
        channel: the channel of the run.
        buffer: its buffer.
        hang_secs: for how long nothing finishes before the stacks are written; None for never.
        times: measures the steps of this process, if they are wanted.
        memory: returns the bytes in use on the local devices, if they are wanted.
        look: called after each beat, on the thread; in process 0 it reads the files of all.

    Attributes:
        beat: the current state.
    """

    def __init__(
        self,
        rank: Rank,
        files: SharedFiles,
        channel: Channel,
        buffer: Buffer,
        *,
        hang_secs: float | None,
        times: CallTimes | None = None,
        memory: Callable[[], int] | None = None,
        look: Callable[[Beat], object] | None = None,
    ):
        self.beat = Beat(rank.index, socket.gethostname(), os.getpid())
        self._files = files
        self._channel = channel
        self._buffer = buffer
        self._hang_secs = hang_secs
        self._times = times
        self._memory = memory
        self._look = look
        self._watched = threading.get_ident()
        self._pause = seconds_between_beats(rank, hang_secs) / _SAMPLES_PER_BEAT
        self._changed_at = time.monotonic()
        self._phases = collections.deque[str](maxlen=SAMPLES)
        self._traced = collections.deque[tuple[str, object]]()
        self._wake = threading.Event()
        self._stopping = False
        name = f"jaxboard heartbeat ({channel.name})"
        self._thread = threading.Thread(target=self._loop, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self, timeout: float) -> None:
        """Write the last beat, and end the thread. A file system that hangs delays this by ``timeout`` seconds."""
        self._stopping = True
        self._wake.set()
        self._thread.join(timeout)

    def note_trace(self, name: str, jaxpr: object) -> None:
        """Keep the jaxpr of a function that is about to be compiled. The thread writes its text immediately."""
        self._traced.append((name, jaxpr))
        self._wake.set()

    # --- On the heartbeat's thread. ---------------------------------------------------------------

    def _loop(self) -> None:
        samples = 0
        while not self._stopping:
            self.sample()
            if samples % _SAMPLES_PER_BEAT == 0 or self._traced:
                self.write_beat()
            samples += 1
            self._wake.wait(self._pause)
            self._wake.clear()
        self.sample()
        self.beat.closed = True
        self.write_beat()

    def sample(self) -> None:
        """Note the present phase, and whether a step was dispatched or finished."""
        beat, channel, now = self.beat, self._channel, time.monotonic()
        phase = phase_of(self._watched, is_behind=self._buffer.is_behind())
        step = channel.current if channel.has_steps else None
        if step is not None and phase != "compile":
            self._phases.append(phase)
        progress = step, self._buffer.finished
        if progress != (beat.step, beat.finished) or phase == "compile":
            self._changed_at = now
            beat.hangs = False
        if (*progress, phase) != (beat.step, beat.finished, beat.phase):
            beat.history = [*beat.history, [time.time(), *progress, phase]][-_HISTORY:]
        beat.step, beat.finished, beat.phase = *progress, phase
        beat.idle_seconds = now - self._changed_at
        if (
            self._hang_secs is not None
            and step is not None
            and not beat.hangs
            and beat.idle_seconds >= self._hang_secs
        ):
            self._write_stacks()
            beat.hangs = True

    def write_beat(self) -> None:
        """Write the file of this process, and call ``look``."""
        beat = self.beat
        beat.number += 1
        beat.phases = dict(collections.Counter(self._phases))
        try:
            self._add_programs()
            self._measure()
            self._files.write_beat(beat)
            if self._look is not None:
                self._look(beat)
        except Exception as fault:
            log_once(
                ("heartbeat", self._channel.name),
                f"run {self._channel.name}: the state of process {beat.process} is not written: {describe(fault)}. "
                "Training continues.",
            )

    def _measure(self) -> None:
        if self._times is not None and (times := self._times.take()) is not None:
            self.beat.step_seconds, self.beat.data_seconds = times
        if self._memory is not None:
            self.beat.memory_bytes = self._memory()

    def _add_programs(self) -> None:
        while self._traced:
            name, jaxpr = self._traced.popleft()
            text = program_text(jaxpr)
            mark = fingerprint(text)
            if len(self.beat.programs) < _MAX_PROGRAMS and [name, mark] not in self.beat.programs:
                self._files.write_program(mark, text)
                self.beat.programs = [*self.beat.programs, [name, mark]]

    def _write_stacks(self) -> None:
        path = self._files.stacks_path(self.beat.process)
        part = path.with_name(f"{path.name}.part")
        with contextlib.suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "w", encoding="utf-8") as file:
                faulthandler.dump_traceback(file, all_threads=True)
            lines = [f"process {self.beat.process} on {self.beat.host}, pid {self.beat.pid}", ""]
            lines += [
                f"{at:.3f} s: last step dispatched {step}, finished {finished}, {phase}"
                for at, step, finished, phase in self.beat.history
            ]
            write(path, "\n".join([*lines, "", part.read_text(encoding="utf-8")]).encode())
            part.unlink()
            logger.warning(
                "jaxboard: run %s: no step has finished for %g s in process %d. The stacks of its threads are in %s.",
                self._channel.name,
                self._hang_secs,
                self.beat.process,
                path,
            )
