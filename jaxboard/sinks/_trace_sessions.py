"""The sessions of profiles in a log directory, which the profile dashboard lists: ``plugins/profile/<session>``."""

from __future__ import annotations

import os
import re

from jaxboard._log import logger

_STEPS = re.compile(r"steps_(?:\d+-)?(?P<last>\d+)(_\d+)?")
"""The name of a session that holds its steps; others have the name that ``profile(name=)`` gave them."""


def set_aside(logdir: str, step: int) -> None:
    """Move the sessions that end at ``step`` or later to ``plugins/profile_replaced``, where no dashboard looks.

    Args:
        logdir: a local directory.
        step: the first step that a resumed run takes again.
    """
    sessions = os.path.join(logdir, "plugins", "profile")
    if not os.path.isdir(sessions):
        return
    replaced = os.path.join(logdir, "plugins", "profile_replaced")
    for name in sorted(os.listdir(sessions)):
        match = _STEPS.fullmatch(name)
        if match is None or int(match["last"]) < step:
            continue
        os.makedirs(replaced, exist_ok=True)
        place, count = os.path.join(replaced, name), 0
        while os.path.exists(place):
            count += 1
            place = os.path.join(replaced, f"{name}_{count}")
        os.rename(os.path.join(sessions, name), place)
        logger.info("jaxboard: the profile %s of an earlier run is now in %s", name, place)
