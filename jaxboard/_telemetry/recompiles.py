"""Recompile alarms: which argument made JAX compile an instrumented function again."""

from __future__ import annotations

import dataclasses
from typing import Any

from jaxboard._host.observers import Call
from jaxboard._log import logger
from jaxboard._telemetry.compiles import Compilation
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.signature import Change, Signature

_KNOWN = 64
"""How many signatures of a function are kept to compare with."""

_ENTRIES = 100
"""How many text entries a function gets: one whose shapes never repeat would write forever."""

_SHOWN = 8
"""How many changes a message lists."""

_UNCHANGED = (
    "None of its arguments changed. jax.clear_caches() does that, and another jb.scope or setting of JAX "
    "around the call."
)

_ADVICE = {
    "shape": "Pad or drop what is smaller (a last batch), or round lengths up to a few sizes.",
    "dtype": "Give the argument one dtype from the start.",
    "weak type": "A Python number has a weak type: make an array of it, jnp.asarray(x, dtype).",
    "sharding": "Put the argument where the function expects it, once: jax.device_put(x, sharding).",
    "static value": "Each value of a static argument is a program: pass an array, or keep to a few values.",
    "structure": "Keep the argument one pytree: the same keys, the same types, given in the same way.",
}


@dataclasses.dataclass(slots=True)
class _History:
    """What a function was called with so far, as far as it mattered.

    Attributes:
        known: the calls that JAX had to choose a program anew for, their steps and their numbers.
        names: of the programs that were compiled.
        variants: which of jaxboard's programs was compiled for which of ``known``.
        causes: those that were logged.
        count: how many were ever ``known``.
        alarms: how many were raised.
    """

    known: list[tuple[Signature, int, int]] = dataclasses.field(default_factory=list)
    names: set[str] = dataclasses.field(default_factory=set)
    variants: set[tuple[int, int]] = dataclasses.field(default_factory=set)
    causes: set[frozenset[tuple[str, tuple[str, ...]]]] = dataclasses.field(default_factory=set)
    count: int = 0
    alarms: int = 0


class Recompiles:
    """Compares the arguments of calls that compiled, and tells what changed.

    Each cause (these arguments, changed in this way) is logged once, at level WARNING: a warning in the
    sense of ``warnings`` could be made to raise, from the midst of a training step. Each alarm is a
    text entry of the run.

    Args:
        reporter: where the entries go.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._histories: dict[object, _History] = {}

    def called(self, call: Call, step: int, programs: list[Compilation]) -> list[Change]:
        """A call compiled these programs of its function, or was the function's first in this run.

        Of one function jaxboard makes several programs (one for steps with pictures, one for those
        without): each is compiled once for the same arguments, and that is no alarm.

        Returns:
            What changed in the arguments, if it was a recompile.
        """
        function = call.function
        history = self._histories.setdefault(function, _History())
        now = Signature(function, call.args, call.kwargs, function.jit_options)
        differing = [(before.changes(now), at, n) for before, at, n in reversed(history.known)]
        # What is called first was compiled, if not now, then earlier: ahead, or in another run.
        again = bool({program.name for program in programs} & history.names)
        history.names |= {program.name for program in programs}
        if function.jit_options is not None:
            history.names.add(function.__name__)
        same = [number for changes, _, number in differing if not changes]
        if not same:
            history.count += 1
            history.known = [*history.known, (now, step, history.count)][-_KNOWN:]
        number = same[0] if same else history.count
        variant = (number, id(call.program)) if call.program is not None else None
        repeated = variant in history.variants
        if variant is not None and programs:
            history.variants.add(variant)
        if not again or not differing or (same and not repeated):
            return []
        changes, since, _ = min(differing, key=_distance)
        seconds = sum(program.seconds for program in programs)
        what = f"was compiled again at step {step} ({seconds:.2f} s). "
        what += f"Changed since step {since}:" if changes else _UNCHANGED
        self._alarm(call.name, step, what, changes, history)
        return changes

    def count(self, function: Any) -> int:
        """For how many different calls programs of a function had to be chosen."""
        history = self._histories.get(function)
        return 0 if history is None else history.count

    def _alarm(
        self, name: str, step: int, what: str, changes: list[Change], history: _History
    ) -> None:
        shown = [str(change) for change in changes[:_SHOWN]]
        if len(changes) > _SHOWN:
            shown.append(f"and {len(changes) - _SHOWN} more")
        advice = [text for kind, text in _ADVICE.items() if any(kind in c.what for c in changes)]
        history.alarms += 1
        if history.alarms <= _ENTRIES:
            lines = [f"**{name}** {what}", "", *(f"- `{line}`" for line in shown), "", *advice]
            self._reporter.text(step, f"recompiles/{name}", "\n".join(lines).strip())
        cause = frozenset((change.path, change.what) for change in changes)
        if cause not in history.causes:
            history.causes.add(cause)
            logger.warning("jaxboard: %s", "\n    ".join([f"{name} {what}", *shown, *advice]))


def _distance(known: tuple[list[Change], int, int]) -> int:
    return sum(len(change.what) for change in known[0])
