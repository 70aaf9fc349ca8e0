"""A run with more tags than TensorBoard shows quickly has one warning, with the numbers."""

from __future__ import annotations

import numpy as np

import jaxboard as jb
from jaxboard._host.tag_count import MANY
from jaxboard.testing import capture


def test_many_tags(caplog):
    """The warning appears once, when there are more tags than that, and names the largest groups."""
    few = {f"a/{n}": 0.0 for n in range(MANY - 1)}
    with capture():
        for _ in range(2):
            jb.scalars(few)
        jb.histogram("b/values", np.arange(3))
    assert "tags so far" not in caplog.text
    with capture():
        jb.scalars(few)
        jb.scalars("b", {"c": 1.0, "d": 2.0})
        jb.scalars("more", few)
    (message,) = [r.getMessage() for r in caplog.records if "tags so far" in r.getMessage()]
    assert message.startswith("jaxboard, run in memory: ")
    assert "4999 below 'a'" in message
