"""The section about time: where it went, and the largest part of it that trained nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from jaxboard._markdown import table
from jaxboard._read.curves import Curve
from jaxboard._telemetry.time_parts import (
    CHECKPOINT,
    COMPILE,
    DEVICE,
    DISPATCH,
    EVALUATION,
    INPUT,
    JAXBOARD,
    NAMES,
    PAUSE,
    REDONE,
    STOPPED,
    largest_loss,
    sentence,
    shares,
)
from jaxboard._why.evidence import Evidence
from jaxboard._why.finding import Figure, Finding

_PHASES = {"trace": "trace_seconds", "lowering": "lowering_seconds", "xla": "xla_seconds"}

_ADVICE = {
    INPUT: (
        "The device is idle between the calls of the training loop. Load the next batches while it computes (worker "
        "processes, a prefetch queue), read results less often, and move other work out of the loop. A profile shows "
        "what the loop does: jb.profile(steps=range(10, 20), python=True)."
    ),
    PAUSE: (
        "Single steps wait much longer than the others: for a loader that fills its buffer, or for work of the loop that "
        "jaxboard does not know, such as figures, or an evaluation that is not instrumented. jb.instrument(advance=False) "
        "makes it known."
    ),
    DISPATCH: (
        "The device is idle while the host prepares a call. Put several steps into one call (a scan), pass fewer and "
        "larger arrays, and put batches on the device ahead with jax.device_put."
    ),
    COMPILE: (
        "Keep compiled programs between runs: jax.config.update('jax_compilation_cache_dir', PATH). If functions were "
        "compiled again, keep the shapes of their arguments the same."
    ),
    EVALUATION: "Evaluate less often, or on fewer batches.",
    CHECKPOINT: "Save less often, or asynchronously (orbax.checkpoint.AsyncCheckpointer).",
    JAXBOARD: "Report arrays less often: every=.",
    REDONE: "Save checkpoints more often, so that fewer steps are trained again after a restart.",
    STOPPED: "The program was not running.",
}


def time_spent(evidence: Evidence) -> Iterator[Finding]:
    """Yield where the time went."""
    seconds = spent(evidence)
    total = sum(seconds.values())
    if not total:
        return
    compiled = _compiled(evidence.curves_below("compile"))
    wait = evidence.curves.get("time/longest_wait_seconds")
    cause = largest_loss(seconds)
    found = shares(seconds)
    figures: dict[str, Figure] = {
        "wall_seconds": total,
        "goodput": found.get(DEVICE, 0.0),
        "largest_loss": cause,
        "seconds": {name: seconds[name] for name in found},
        "shares": found,
        "compile_seconds_by_function": compiled,
    }
    rows = [[name, f"{seconds[name]:,.2f}", f"{100 * found[name]:.1f} %"] for name in found]
    rows = [["part", "seconds", "share"], *rows, ["**all**", f"{total:,.2f}", "100.0 %"]]
    parts = [table(rows, numbers=(1, 2))]
    if wait is not None and wait.values.max() > 0:
        place = int(wait.values.argmax())
        longest, step = float(wait.values[place]), int(wait.steps[place])
        figures |= {"longest_wait_seconds": longest, "longest_wait_until_step": step}
        parts += [
            f"The longest wait for input took {longest:.3g} s. It ended at step {step:,} or before.",
        ]
    if compiled and found.get(COMPILE):
        rows = [["compiled in calls of", "trace (s)", "lowering (s)", "XLA (s)"]]
        for name, phases in compiled.items():
            rows.append([name, *(f"{phases[phase]:.2f}" for phase in _PHASES)])
        parts += [table(rows, numbers=(1, 2, 3))]
    if cause in _ADVICE:
        parts += [_ADVICE[cause]]
    yield Finding(
        "time", "Where the time went", sentence(seconds), None, figures, "\n\n".join(parts)
    )


def spent(evidence: Evidence) -> dict[str, float]:
    """Return the seconds of each part at the last step."""
    curves = {
        name: curve
        for name, curve in evidence.curves_below("time/seconds").items()
        if name in NAMES
    }
    last = max((int(curve.steps[-1]) for curve in curves.values()), default=0)
    return {name: curve.last for name, curve in curves.items() if curve.steps[-1] == last}


def _compiled(curves: Mapping[str, Curve]) -> dict[str, dict[str, float]]:
    """Return the seconds of each phase by function, the longest compilation first."""
    functions = {name.rpartition("/")[0] for name in curves}
    found = {
        function: {
            phase: float(curves[f"{function}/{tag}"].values.sum())
            for phase, tag in _PHASES.items()
            if f"{function}/{tag}" in curves
        }
        for function in functions
    }
    complete = {name: phases for name, phases in found.items() if len(phases) == len(_PHASES)}
    return dict(sorted(complete.items(), key=lambda item: -sum(item[1].values())))
