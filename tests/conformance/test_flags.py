"""The limits that JAX has with the flags of a later one are those of JAX."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import pytest
from conformance.flags import FLAG_LIMITS, FLAGS, FlagLimit

ALL_FLAGS = {flag for row in FLAGS for flag in row.split(",")}


@pytest.fixture(params=FLAG_LIMITS, ids=lambda limit: limit.program.__name__)
def limit(request: pytest.FixtureRequest) -> Iterator[FlagLimit]:
    """Return a limit, with every flag off."""
    flags = {flag: getattr(jax.config, flag) for flag in ALL_FLAGS if hasattr(jax.config, flag)}
    for flag in flags:
        jax.config.update(flag, False)
    yield request.param
    for flag, value in flags.items():
        jax.config.update(flag, value)


def test_a_limit(limit: FlagLimit):
    """Without reports, too, JAX has the limit with its flag, and only with it. When JAX lifts a limit, remove it."""
    limit.program()
    if jax.__version_info__ < (0, 12):
        pytest.skip("the table is that of the newest JAX")
    jax.config.update(limit.flag, True)
    with pytest.raises(Exception) as found:
        limit.program()
    assert limit.error in str(found.value)
