"""The layers of a model: the names of its parts, where arrays of stacked layers have one part for each layer."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, cast

from jaxboard._emit import arguments
from jaxboard._safe_repr import safe_repr


class Layers(NamedTuple):
    """The parts of one array.

    Attributes:
        stacked: how many layers are stacked along its first axis; None for an array that is one part.
        parts: the name of each part.
        names: the name of the layer that each part belongs to: its path without the last key. A part that is a layer of
            a stacked array has that of the layer.
    """

    stacked: int | None
    parts: tuple[str, ...]
    names: tuple[str, ...]


def check_split(tag: str, split: object) -> tuple[str, ...]:
    """Return the paths of stacked layers.

    Raises:
        ReportError: it is neither a path nor several.
    """
    try:
        paths = (split,) if isinstance(split, str) else tuple(_some(split))
    except Exception:
        paths = (None,)
    if not all(isinstance(path, str) and path.strip("/") for path in paths):
        raise arguments.report_error(
            tag,
            f"expected split= to be the path of stacked layers, such as 'blocks', or several, got {safe_repr(split)}.",
        )
    return tuple(cast("str", path).strip("/") for path in paths)


def _some(values: object) -> Iterable[object]:
    return itertools.islice(cast("Iterable[object]", values), 1000)


def separate(
    tag: str, shapes: Mapping[str, tuple[int, ...]], split: Sequence[str], *, all_used: bool = True
) -> dict[str, Layers]:
    """Return the parts of arrays, by the name of the array.

    Args:
        tag: the tag, for messages.
        shapes: the shape of each array.
        split: the paths of stacked layers. ``blocks`` splits the arrays below ``blocks``, and those below
            ``encoder/blocks``, along their first axes: ``blocks/w`` is ``blocks/00/w``, ``blocks/01/w``, ….
        all_used: whether each path must be that of an array.

    Raises:
        ReportError: no array is at one of the paths, or arrays below it have different numbers of layers.
    """
    found: dict[str, Layers] = {}
    counts: dict[str, tuple[str, int]] = {}
    used: set[str] = set()
    for name, shape in shapes.items():
        keys = name.split("/")
        match = next(((path, end) for path in split for end in _ends(keys, path)), None)
        if match is None:
            found[name] = Layers(None, (name,), ("/".join(keys[:-1] or keys),))
            continue
        path, end = match
        used.add(path)
        above = "/".join(keys[:end])
        if not shape or not shape[0]:
            raise arguments.report_error(
                tag,
                f"{name!r} has shape {shape}, and no axis of layers that split={path!r} could separate.",
            )
        first, count = counts.setdefault(above, (name, shape[0]))
        if shape[0] != count:
            raise arguments.report_error(
                tag,
                f"the first axis below {above!r} is that of the layers, but {first!r} has {count} and {name!r} has "
                f"{shape[0]}. Name the path of the stacked layers in split=.",
            )
        stacked = [f"{above}/{index}" for index in _indices(count)]
        parts = tuple("/".join([layer, *keys[end:]]) for layer in stacked)
        names = tuple("/".join([layer, *keys[end:-1]]) for layer in stacked)
        found[name] = Layers(count, parts, names)
    missing = [path for path in split if path not in used]
    if missing and all_used:
        raise arguments.report_error(
            tag,
            f"split={missing[0]!r}: the tree has no array at this path. It has {_some_names(shapes)}.",
        )
    return found


def shortened(name: str, depth: int | None) -> str:
    """Return the name of a layer, of at most ``depth`` keys."""
    return "/".join(name.split("/")[:depth]) or "model"


def _ends(keys: list[str], path: str) -> Iterable[int]:
    """Yield the position behind each occurrence of a path among the keys of a name."""
    wanted = path.split("/")
    for start in range(len(keys) - len(wanted) + 1):
        if keys[start : start + len(wanted)] == wanted:
            yield start + len(wanted)


def _indices(count: int) -> list[str]:
    """Return numbers that are in order where names are sorted as text."""
    width = max(2, len(str(count - 1)))
    return [f"{index:0{width}}" for index in range(count)]


def _some_names(names: Iterable[str]) -> str:
    listed = [repr(name) for name in itertools.islice(names, 6)]
    return ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")
