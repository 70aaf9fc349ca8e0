"""The verdict on a profile, as text: what limits the speed of the steps, and what changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from jaxboard._markdown import table
from jaxboard._profile.comparison import Comparison
from jaxboard._profile.device_timeline import is_communication
from jaxboard._profile.notices import format_steps
from jaxboard._profile.summary import HostPart, Pause, TimeParts, TraceSummary

PARTS = ("compute", "exposed_communication", "between_steps", "within_steps")
"""The names of the parts of the time, in scalars."""

_LABELS = (
    "the devices compute",
    "the devices only communicate",
    "the devices are idle between the steps",
    "the devices are idle within the steps",
)

_UNNAMED_LOOP = "Most of it has no name in the trace: put `jb.trace(name)` around parts of the loop, or profile with `python=True`."

_UNNAMED_STEP = "Most of it has no name in the trace, such as the time until the devices begin. `python=True` names Python functions."

_METRICS = {
    "device_duty_cycle_percent": "device duty cycle",
    "flop_rate_utilization_relative_to_roofline": "FLOP rate relative to the roofline",
    "hbm_utilization_percent": "HBM utilization",
    "memory_bw_utilization_relative_to_hw_limit": "memory bandwidth relative to the hardware's limit",
    "mxu_utilization_percent": "MXU utilization",
}


def shares(time: TimeParts) -> dict[str, float]:
    """Return the parts of the time in percent, by their names in :data:`PARTS`."""
    return dict(zip(PARTS, (100 * part / time.whole for part in time[:4]), strict=True))


def verdict(summary: TraceSummary, comparison: Comparison | None, *, synchronized: bool) -> str:
    """Return the verdict in Markdown. The first line is one sentence.

    Args:
        summary: the summary of the trace, which has steps.
        comparison: the comparison with the previous profile; None if there is none.
        synchronized: whether each step waited for its results.
    """
    steps = format_steps([step for step, _ in summary.steps])
    count = len(summary.steps)
    paragraphs = [f"**Step{'s' * (count > 1)} {steps}: {_headline(summary)}"]
    if summary.time is not None:
        paragraphs.append(_table(summary.time, count))
        if synchronized and summary.time.between > 0.1 * summary.time.whole:
            paragraphs.append(
                "The profile made each step wait for its results. Without it, the time between the steps and "
                "that of the devices can overlap."
            )
        paragraphs += [_left_out(pause) for pause in summary.time.pauses]
        if summary.compilations and "bound by compilation" not in paragraphs[0]:
            paragraphs.append(_compiled(summary).strip())
    if comparison is not None:
        paragraphs.append(_changes(comparison))
    paragraphs += _xprof(summary)
    return "\n\n".join(paragraphs)


def _headline(summary: TraceSummary) -> str:
    time = summary.time
    if time is None:
        return "unknown limit.** The trace has no operations of devices."
    count = len(summary.steps)
    percent = shares(time)
    limit = max(percent, key=lambda name: percent[name])
    share = f"{percent[limit]:.0f} % of the time"
    match limit:
        case "compute":
            return f"bound by computation.** The devices compute {share}.{_longest(summary, False)}"
        case "exposed_communication":
            return (
                f"bound by communication.** {share}, the devices only communicate, and no computation hides it."
                f"{_longest(summary, True)}"
            )
        case "between_steps":
            return (
                f"input-bound.** {share}, the devices wait for the loop between the steps, such as the loading of "
                f"data: {time.between / count:.3g} ms a step.{_most(time.between_parts, count, time.between, _UNNAMED_LOOP)}"
            )
        case _ if sum(compiled.ms for compiled in summary.compilations) > time.within / 2:
            return f"bound by compilation.** {share}, the devices wait for the host.{_compiled(summary)}"
        case _:
            return (
                f"bound by the host within the steps.** {share}, the devices wait while the host is in a step: "
                f"{time.within / count:.3g} ms a step.{_most(time.within_parts, count, time.within, _UNNAMED_STEP)}"
            )


def _longest(summary: TraceSummary, communication: bool) -> str:
    """Return a sentence that names the longest operation of a kind."""
    total = sum(op.ms for op in summary.device)
    for op in summary.device:
        if is_communication(op.name) is communication and total:
            scope = f" ({op.scope})" if op.scope else ""
            program = f" in `{op.program}`" if op.program else ""
            return (
                f" `{op.name}`{scope}{program} takes {100 * op.ms / total:.0f} % of the time of all "
                "operations."
            )
    return ""


def _most(parts: Sequence[HostPart], count: int, whole: float, unnamed: str) -> str:
    """Return a sentence that names the longest parts of the host's program, and explains a rest without names."""
    long = [part for part in parts[:3] if part.ms > whole / 50]
    listed = ", ".join(f"`{part.name}` {part.ms / count:.3g} ms" for part in long)
    text = f" The longest parts: {listed}." if listed else ""
    return text if sum(part.ms for part in parts) >= whole / 2 else f"{text} {unnamed}"


def _table(time: TimeParts, count: int) -> str:
    rows = [
        [f"{share:.1f} %", f"{ms / count:.3f}", label]
        for share, ms, label in zip(shares(time).values(), time[:4], _LABELS, strict=True)
        if time.communication or label is not _LABELS[1]
    ]
    text = table([["share", "ms a step", ""], *rows])
    if time.communication:
        hidden = time.communication - time.exposed
        text += (
            f"\n\nCommunication takes {time.communication / count:.3f} ms a step, of which computation hides "
            f"{100 * hidden / time.communication:.0f} %."
        )
    return text


def _compiled(summary: TraceSummary) -> str:
    """Return sentences about calls that compiled."""
    found = summary.compilations
    steps = list(dict.fromkeys(compiled.step for compiled in found))
    return (
        f" JAX compiled in or after step{'s' * (len(steps) > 1)} {_ranges(steps)}, for "
        f"{sum(compiled.ms for compiled in found):.3g} ms with tracing. The text entries `jaxboard/recompiles/…` "
        "name the arguments that changed."
    )


def _left_out(pause: Pause) -> str:
    spent = f" in `{pause.part}`" if pause.part else ""
    return (
        f"A single pause of {pause.ms:.3g} ms after step {pause.step}{spent} is left out. It may be an evaluation, a "
        "checkpoint or a loader that fills its buffer."
    )


def _changes(comparison: Comparison) -> str:
    before = f"steps {format_steps(comparison.steps_before)}"
    if len(comparison.steps_before) == 1:
        before = f"step {comparison.steps_before[0]}"
    if not comparison.is_notable:
        return (
            f"**As long as {before}:** a step takes {comparison.now:.3g} ms, and took "
            f"{comparison.before:.3g} ms."
        )
    slower = comparison.ratio > 1
    factor = comparison.ratio if slower else 1 / comparison.ratio
    text = (
        f"**{factor:.1f} times as {'slow' if slower else 'fast'} as {before}:** a step takes "
        f"{comparison.now:.3g} ms, and took {comparison.before:.3g} ms."
    )
    if slower and comparison.slower:
        many = len(comparison.slower) > 1
        text += f" Slower than before: step{'s' * many} {_ranges(comparison.slower)}."
    if comparison.part is not None:
        name, then, now = comparison.part
        text += (
            f" Most of the increase is time in which {_LABELS[TimeParts._fields.index(name)]}: "
            f"{then:.3g} → {now:.3g} ms a step."
        )
    lines = [text]
    if comparison.grown:
        lines += ["", "Largest increases, in milliseconds a step:", ""]
        lines += [f"- {g.name}: {g.before:.3g} → {g.now:.3g}" for g in comparison.grown]
    return "\n".join(lines)


def _ranges(steps: Sequence[int]) -> str:
    """Return steps with consecutive ones as ranges.

    Example:
        >>> _ranges([3, 4, 5, 9])
        '3-5, 9'
    """
    found: list[list[int]] = []
    for step in steps:
        if found and step == found[-1][-1] + 1:
            found[-1].append(step)
        else:
            found.append([step])
    return ", ".join(format_steps(group) for group in found)


def _xprof(summary: TraceSummary) -> Iterator[str]:
    """Yield what xprof adds."""
    facts = [
        f"{label} {summary.metrics[name]:.1f} %"
        for name, label in _METRICS.items()
        if name in summary.metrics
    ]
    if summary.bound_by:
        facts.append(f"the roofline model limits the program by {summary.bound_by}")
    if facts:
        yield f"**xprof:** {'; '.join(facts)}."
    for text in summary.advice:
        yield f"**xprof advises:** {text}"
