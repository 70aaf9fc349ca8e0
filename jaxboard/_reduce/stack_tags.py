"""The tags of a stack: one for each device, iteration or lane."""

from __future__ import annotations

import re

import numpy as np


def stack_tags(tag: str, axes: tuple[str, ...], places: np.ndarray) -> tuple[str, ...]:
    """Return a tag such as ``tag/device_01/iteration_03`` for each place.

    The indices alone, as in ``blocks/03/rms``, take the place of ``{}`` in a tag. Two digits keep the tags of up to
    100 places in order where tags are sorted as text.

    Args:
        tag: the tag of the report.
        axes: the names of the A axes, the outermost first.
        places: int64[K, A], the indices of each place.
    """
    if "{}" in tag:
        start, _, end = tag.partition("{}")
        # A value outside of loops, lanes and devices has no index.
        return tuple(
            f"{start}{name}{end}" if name else without_index(tag) for name in place_names(places)
        )
    return tuple(
        "/".join([tag, *(f"{name}_{index:02}" for name, index in zip(axes, place, strict=True))])
        for place in places.tolist()
    )


def place_names(places: np.ndarray) -> tuple[str, ...]:
    """Return the indices of each place as the part of a tag: ``03`` or ``01/03``."""
    return tuple("/".join(f"{index:02}" for index in place) for place in places.tolist())


def without_index(tag: str) -> str:
    """Return a tag without its ``{}``, and without the slash beside it."""
    start, _, end = tag.partition("{}")
    return "/".join(part for part in (start.strip("/"), end.strip("/")) if part) or "{}"


def is_tag_of(report_tag: str, tag: str) -> bool:
    """Return whether a report makes points with a tag: its own, one below it, or one with indices for its ``{}``."""
    if tag == report_tag or tag.startswith(f"{report_tag}/"):
        return True
    start, braces, end = map(re.escape, report_tag.partition("{}"))
    return bool(braces) and (
        tag == without_index(report_tag) or re.fullmatch(rf"{start}[0-9/]+{end}", tag) is not None
    )


def picture_tag(tag: str) -> str:
    """Return the tag of the picture of a stack: ``blocks/rms/layers`` for ``blocks/{}/rms``."""
    whole = without_index(tag)
    return "layers" if whole == "{}" else f"{whole}/layers"
