"""The tags that jaxboard reports itself: about a run, and from a profile of it."""

from __future__ import annotations

RUN_PREFIX = "jaxboard/"
"""The prefix of the tags that jaxboard writes about a run."""

PROFILE_PREFIX = "profile/"
"""The prefix of the tags that a profile writes into its run."""


def is_own(tag: str) -> bool:
    """Return whether jaxboard reports a tag itself.

    Example:
        >>> is_own("jaxboard/nonfinite"), is_own("train/loss")
        (True, False)
    """
    return tag.startswith((RUN_PREFIX, PROFILE_PREFIX))
