"""The state of a run in an Orbax checkpoint. Requires ``pip install 'jaxboard-tb[orbax]'``."""

from __future__ import annotations

from typing import Any

import numpy as np
import orbax.checkpoint as ocp

import jaxboard as jb

ITEM = "jaxboard"
"""The name of the item that :func:`restore_state` looks for."""


def save_args(run: jb.Run) -> ocp.args.StandardSave:
    """Return the state of a run as an item of a checkpoint.

    It waits as :meth:`jaxboard.Run.state` does. In a job of several processes all of them call it, and Orbax stores the
    state of process 0.

    Args:
        run: the run.

    Raises:
        RunError: the run is closed, or its sinks did not finish in time.

    Example:
        >>> import orbax.checkpoint as ocp, jaxboard as jb
        >>> from jaxboard.integrations import orbax
        >>> with jb.Run(None, sinks=[]) as run:
        ...     run.step = 100
        ...     args = ocp.args.Composite(jaxboard=orbax.save_args(run))
        >>> int(args["jaxboard"].item["step"])
        100
    """
    return ocp.args.StandardSave(run.state())


def restore_state(
    manager: ocp.CheckpointManager, step: int | None = None, *, item: str = ITEM
) -> dict[str, np.ndarray] | None:
    """Return the state of a run from a checkpoint, for ``jb.Run(logdir, state=...)``.

    Args:
        manager: the manager of the checkpoints.
        step: the step of the checkpoint, by default the latest.
        item: the name of the item that was saved with :func:`save_args`.

    Returns:
        The state; None if there is no checkpoint yet, or if the checkpoint has no such item.
    """
    step = manager.latest_step() if step is None else step
    if step is None:
        return None
    items: dict[str, Any] = {item: ocp.args.StandardRestore()}
    try:
        return manager.restore(step, args=ocp.args.Composite(**items))[item]
    except KeyError:  # The checkpoint is older than the call of save_args in the program.
        return None
