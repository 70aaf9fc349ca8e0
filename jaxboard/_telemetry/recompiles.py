"""Recompile alarms: which argument made JAX compile an instrumented function again."""

from __future__ import annotations

import dataclasses

from jaxboard._host.losses import logger
from jaxboard._host.observe import Call
from jaxboard._telemetry.compiles import Program
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.signature import Change, Signature

_KNOWN = 64
"""How many signatures of a function are kept to compare with."""

_ENTRIES = 100
"""How many text entries a function gets: one whose shapes never repeat would write forever."""

_SHOWN = 8
"""How many changes a message lists."""

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
    """The compilations of one function: for which calls, and of which programs."""

    known: list[tuple[Signature, int]] = dataclasses.field(default_factory=list)
    names: set[str] = dataclasses.field(default_factory=set)
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

    def compiled(self, call: Call, step: int, programs: list[Program]) -> list[Change]:
        """A call compiled something; what of its arguments made it, if it is a recompile.

        Programs that are compiled for arguments that were seen before are jaxboard's own doing (one
        for steps with pictures and one for those without) or that of a cache that was cleared.
        """
        function = call.function
        options = function.jit_options
        # Of a jitted function only its own program counts: eager operations run on its way too.
        names = {p.name for p in programs if options is None or p.name == function.__name__}
        if not names:
            return []
        history = self._histories.setdefault(function, _History())
        now = Signature(function, call.args, call.kwargs, options)
        differing = [(before.changes(now), at) for before, at in reversed(history.known)]
        again = bool(names & history.names)
        history.names |= names
        if not all(changes for changes, _ in differing):
            return []
        history.count += 1
        history.known = [*history.known, (now, step)][-_KNOWN:]
        if not differing or not again:
            return []
        changes, since = min(differing, key=_distance)
        seconds = sum(program.seconds for program in programs)
        what = f"was compiled again at step {step} ({seconds:.2f} s). Changed since it was compiled for step {since}:"
        self._alarm(call.name, step, what, changes, history)
        return changes

    def count(self, call: Call) -> int:
        """For how many different calls the function was compiled."""
        history = self._histories.get(call.function)
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
            self._reporter.text(step, f"recompiles/{name}", "\n".join(lines))
        cause = frozenset((change.path, change.what) for change in changes)
        if cause not in history.causes:
            history.causes.add(cause)
            logger.warning("jaxboard: %s %s\n    %s", name, what, "\n    ".join([*shown, *advice]))


def _distance(pair: tuple[list[Change], int]) -> int:
    return sum(len(change.what) for change in pair[0])
