"""``jb.trace`` names parts of a program, on the host and in the compiled program."""

import jax
import jax.numpy as jnp
import pytest
from traces import events

import jaxboard as jb


def names(function, *arguments):
    """Return the text of the compiled program, with the names of its operations."""
    return jax.jit(function).lower(*arguments).compile().as_text() or ""


def test_traced_code():
    """The operations of a block carry its name after the enclosing names, also under grad."""

    @jb.trace("layer")
    def layer(x):
        with jb.trace("norm"):
            return jnp.sin(x) / 2

    assert "jit(layer)/layer/norm/sin" in names(layer, 1.0)
    assert "jvp(layer))/norm/" in names(jax.grad(layer), 1.0)


@pytest.mark.filterwarnings("ignore:.*no run is open")
def test_spans(tmp_path):
    """In plain Python, each run of a block and each call of a decorated function is a span."""

    @jb.trace("load")
    def load(i):
        with jb.trace("decode"):
            return i

    with jb.profile((0, 3), tmp_path) as profiler:
        for i in range(3):
            with profiler.step(load(i)):
                load(i)
    found = [name for _, name, _ in events(profiler.path) if name in ("load", "decode")]
    assert sorted(found) == ["decode"] * 5 + ["load"] * 5


def test_a_block_that_fails():
    """An exception propagates out of the block and ends the name."""
    with pytest.raises(KeyError), jb.trace("outer"):
        raise KeyError("k")
    assert "outer" not in names(jnp.sin, 1.0)


def test_a_decorated_function_keeps_its_identity():
    """A decorated function keeps its name, docstring and results."""

    @jb.trace("double")
    def double(x):
        """Twice."""
        return 2 * x

    assert (double.__name__, double.__doc__, double(3)) == ("double", "Twice.", 6)


@pytest.mark.parametrize("name", [None, "", "  ", 3])
def test_invalid_names(name):
    """A name that is not a non-empty string raises UsageError."""
    with pytest.raises(jb.UsageError, match=r"trace\(.*\): expected a string"), jb.trace(name):
        pass
