"""The channels of runs below a run."""

from __future__ import annotations

import dataclasses
import functools

from jaxboard._frame import Frame, Number, Observation, Plan, ReportSpec, Target
from jaxboard._host.channel import Channel, Destination
from jaxboard._host.complete_points import join_runs
from jaxboard._host.plan_cache import PlanCache
from jaxboard._types import Array
from jaxboard.records import Record


class ChannelBelow(Channel):
    """The channel of a run below a run. It has the buffer and the step counter of that run.

    Args:
        root: the channel of the run above.
        run: the relative path of the run below.
    """

    __slots__ = ("_root",)

    def __init__(self, root: Channel, run: str):
        name = f"{run!r} of {root.name}"
        super().__init__(PathPrefix(root, run), 0, name, root.lost)
        self._root = root
        self.is_open = root.is_open
        self.before_close = root.before_close
        self.restored = root.restored
        self.given_times = root.given_times
        self.selection = root.selection
        self.target = Target(root.target.key, run, name)

    @property
    def root(self) -> Channel:
        """The channel of the run above."""
        return self._root

    def begin(self, advance: bool, step: int | None = None) -> int:
        """Return the step that a call belongs to; see :meth:`Channel.begin`."""
        return self._root.begin(advance, step)

    def advance_to(self, step: int) -> None:
        """Advance the run above to at least ``step``."""
        self._root.advance_to(step)

    @property
    def has_steps(self) -> bool:
        """See :attr:`Channel.has_steps`."""
        return self._root.has_steps

    @property
    def current(self) -> int:
        """See :attr:`Channel.current`."""
        return self._root.current

    @property
    def step(self) -> int:
        """The step of the next call that advances."""
        return self._root.step

    @step.setter
    def step(self, step: int) -> None:
        self._root.step = step


class PathPrefix:
    """Puts items in the buffer of a run, as reports of a run below it."""

    def __init__(self, destination: Destination, run: str):
        self._put, self._put_call = destination.put, destination.put_call
        self._run = run
        self._plans = PlanCache[Plan]()

    def put(self, item: Frame | Number | Observation | Record, may_wait: bool = True) -> None:
        """Append an item; see :meth:`Buffer.put`."""
        if isinstance(item, Frame):
            item.plan = self._plans.get(item.plan, self._plan_below)
        elif isinstance(item, Number):
            item.spec = _spec_below(item.spec, self._run)
        elif isinstance(item, Observation):
            item = dataclasses.replace(item, spec=_spec_below(item.spec, self._run))
        else:
            item = dataclasses.replace(item, run=join_runs(self._run, item.run))
        self._put(item, may_wait)

    def put_call(
        self, plan: Plan, vectors: tuple[Array, ...], step: int | None, is_open: bool
    ) -> None:
        """Append the frame of a call; see :meth:`Buffer.put_call`."""
        self._put_call(self._plans.get(plan, self._plan_below), vectors, step, is_open)

    def _plan_below(self, plan: Plan) -> Plan:
        entries = [
            dataclasses.replace(entry, spec=_spec_below(entry.spec, self._run))
            for entry in plan.entries
        ]
        return dataclasses.replace(plan, entries=tuple(entries))


@functools.lru_cache(maxsize=4096)
def _spec_below(spec: ReportSpec, run: str) -> ReportSpec:
    return dataclasses.replace(spec, run=join_runs(run, spec.run))


def channel_below(root: Channel, run: str) -> Channel:
    """Return the channel of the run at the relative path ``run`` below a run; the same one each time."""
    return root.below.setdefault(run, ChannelBelow(root, run))
