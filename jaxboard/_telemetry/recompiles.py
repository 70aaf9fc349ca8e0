"""Recompile alarms that name the argument that made JAX compile a function again."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from jaxboard._host.observers import Call, registry
from jaxboard._log import logger
from jaxboard._telemetry.collector import CompilationEvent
from jaxboard._telemetry.compilations import Compilation, of_function
from jaxboard._telemetry.reporter import Reporter
from jaxboard._telemetry.signature import CallSignature, Change

_MAX_SIGNATURES = 64
"""Signatures of a function that are kept for comparison."""

_MAX_ENTRIES = 100
"""Text entries of a function. Without a limit, shapes that never repeat would write forever."""

_MAX_LINES = 8
"""Changes that a message lists."""

_UNCHANGED = (
    "None of its arguments changed. Possible causes: jax.clear_caches(), a different jb.scope, or a "
    "changed JAX setting."
)

_NEW_VARIANT = (
    "jaxboard: %s compiled another program at step %d (%.2f s). One is for the steps on which a report with every= is due, "
    "one for the others. Its precompile() compiles both before the loop."
)

_ADVICE = {
    "shape": "Pad or drop smaller batches (often the last one), or round lengths up to a few sizes.",
    "dtype": "Use one dtype for the argument from the start.",
    "weak type": "A Python number has a weak type: convert it to an array, jnp.asarray(x, dtype).",
    "sharding": (
        "Give the argument the same sharding in each call: jax.device_put(x, sharding) before the loop."
    ),
    "static value": (
        "Each value of a static argument needs its own program: pass an array, or use few values."
    ),
    "structure": (
        "Keep the structure of the argument: the same keys and types, and always by position or always "
        "by keyword."
    ),
}


class _KnownCall(NamedTuple):
    """A call for which JAX had to choose a program."""

    signature: CallSignature
    step: int
    number: int


class _Comparison(NamedTuple):
    changes: list[Change]
    known: _KnownCall


@dataclasses.dataclass(slots=True)
class _History:
    """The distinct calls of one function so far.

    Attributes:
        known: the latest calls with different signatures.
        compiled_names: the names of the programs that were compiled.
        variants: the compiled pairs of a known call's number and one of jaxboard's programs, each with the number
            of events (:attr:`Registry.events`) when it was noted.
        logged_causes: the causes that were logged.
        count: the number of different signatures so far.
        alarms: the number of alarms so far.
    """

    known: list[_KnownCall] = dataclasses.field(default_factory=list)
    compiled_names: set[str] = dataclasses.field(default_factory=set)
    variants: dict[tuple[int, int], int] = dataclasses.field(default_factory=dict)
    logged_causes: set[frozenset[tuple[str, tuple[str, ...]]]] = dataclasses.field(
        default_factory=set
    )
    count: int = 0
    alarms: int = 0


class RecompileDetector:
    """A detector that compares the arguments of calls that compile and reports what changed.

    Each cause (these arguments changed in this way) is logged once at level WARNING. It is not a
    warning of the ``warnings`` module, because a warnings filter could make that raise during a
    training step. Each alarm is a text entry of the run.

    Args:
        reporter: the writer of the entries.
    """

    def __init__(self, reporter: Reporter):
        self._reporter = reporter
        self._histories: dict[object, _History] = {}

    def has_seen(self, function: object) -> bool:
        """Return whether a call of ``function`` was examined."""
        return function in self._histories

    def examine(self, call: Call, step: int, compilations: list[Compilation]) -> CompilationEvent:
        """Raise an alarm if the call compiled its function again, and return what happened.

        jaxboard has several programs for one function, for example one for steps with images and one for
        steps without. Each is compiled once for the same arguments, and that is not an alarm.
        """
        own = of_function(call, compilations)
        if self.has_seen(call.function) and not own:
            return CompilationEvent(
                call,
                step,
                compilations,
                changes=[],
                concerns_function=False,
                is_new_signature=False,
            )
        history = self._histories.setdefault(call.function, _History())
        count = history.count
        changes = self._compare(call, step, own, history)
        return CompilationEvent(
            call,
            step,
            compilations,
            changes,
            concerns_function=True,
            is_new_signature=history.count > count,
        )

    def _compare(
        self, call: Call, step: int, compilations: list[Compilation], history: _History
    ) -> list[Change]:
        """Add the call to the history of its function and return the changes that made JAX recompile."""
        signature = CallSignature(call)
        comparisons = [
            _Comparison(known.signature.changes(signature), known)
            for known in reversed(history.known)
        ]
        names = {compilation.name for compilation in compilations}
        is_recompile = bool(names & history.compiled_names)
        history.compiled_names |= names
        if call.function.jit_options is not None:
            # The first call may find its program compiled: by precompile(), or in an earlier run.
            history.compiled_names.add(call.function.__name__)
        unchanged = next((c.known for c in comparisons if not c.changes), None)
        if unchanged is None:
            history.count += 1
            number = history.count
            history.known = [*history.known, _KnownCall(signature, step, number)][-_MAX_SIGNATURES:]
        else:
            number = unchanged.number
        is_known_variant = self._add_variant(call, number, history, compiled=bool(compilations))
        if not is_recompile or not comparisons:
            return []
        seconds = sum(compilation.seconds for compilation in compilations)
        if unchanged is not None and not is_known_variant:
            if call.program is not None:
                logger.info(_NEW_VARIANT, call.name, step, seconds)
            return []
        nearest = min(comparisons, key=_distance)
        headline = f"was compiled again at step {step} ({seconds:.2f} s). "
        headline += f"Changed since step {nearest.known.step}:" if nearest.changes else _UNCHANGED
        self._alarm(call.name, step, headline, nearest.changes, history)
        return nearest.changes

    @staticmethod
    def _add_variant(call: Call, number: int, history: _History, *, compiled: bool) -> bool:
        """Return whether this program was compiled before for the signature ``number``, and note it.

        Calls on several threads may compile the same program at the same time: each began before it was noted.
        """
        if call.program is None:
            return False
        variant = (number, id(call.program))
        noted = history.variants.get(variant)
        if noted is None and compiled:
            history.variants[variant] = registry.events
        return noted is not None and noted <= call.since

    def _alarm(
        self, name: str, step: int, headline: str, changes: list[Change], history: _History
    ) -> None:
        lines = [str(change) for change in changes[:_MAX_LINES]]
        if len(changes) > _MAX_LINES:
            lines.append(f"and {len(changes) - _MAX_LINES} more")
        kinds = {kind for change in changes for kind in change.kinds}
        advice = [text for kind, text in _ADVICE.items() if kind in kinds]
        history.alarms += 1
        if history.alarms <= _MAX_ENTRIES:
            entry = [f"**{name}** {headline}", "", *(f"- `{line}`" for line in lines), "", *advice]
            self._reporter.text(step, f"recompiles/{name}", "\n".join(entry).strip())
        cause = frozenset((change.path, change.kinds) for change in changes)
        if cause not in history.logged_causes:
            history.logged_causes.add(cause)
            logger.warning("jaxboard: %s", "\n    ".join([f"{name} {headline}", *lines, *advice]))


def _distance(comparison: _Comparison) -> int:
    return sum(len(change.kinds) for change in comparison.changes)
