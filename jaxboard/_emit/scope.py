"""``scope``: a prefix for the tags of a block."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jaxboard._emit import arguments
from jaxboard._trace import context


def scope(name: str) -> contextlib.AbstractContextManager[None]:
    """Prefix the tags of a ``with`` block with ``name/``.

    Args:
        name: the prefix, without the slash. Nested scopes are joined.

    Raises:
        ReportError: ``name`` is not a string, or is blank.

    Example:
        >>> import jaxboard as jb
        >>> from jaxboard.testing import capture
        >>> with capture() as records, jb.scope("encoder"):
        ...     jb.scalar("norm", 1.0)
        >>> records[0].tag
        'encoder/norm'
    """
    arguments.check_tag(name)
    return _prefixed(name)


@contextlib.contextmanager
def _prefixed(name: str) -> Iterator[None]:
    with context.override(scope=f"{context.current().scope}{name}/"):
        yield
