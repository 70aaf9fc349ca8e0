"""``jb.trace`` names a piece of a program, on the host and in the program alike."""

import jax
import jax.numpy as jnp
import pytest
from traces import events

import jaxboard as jb


def names(function, *arguments):
    """The text of the compiled program, which has the names of its operations."""
    return jax.jit(function).lower(*arguments).compile().as_text() or ""


def test_traced_code():
    """The operations of a block carry its name, within those around it; also under grad."""

    @jb.trace("layer")
    def layer(x):
        with jb.trace("norm"):
            return jnp.sin(x) / 2

    assert "jit(layer)/layer/norm/sin" in names(layer, 1.0)
    assert "jvp(layer))/norm/" in names(jax.grad(layer), 1.0)


@pytest.mark.filterwarnings("ignore:.*no run is open")
def test_spans(tmp_path):
    """In plain Python a block is a span each time, and a decorated function each call."""

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
    """Its exception passes through, and the name is gone after it."""
    with pytest.raises(KeyError), jb.trace("outer"):
        raise KeyError("k")
    assert "outer" not in names(jnp.sin, 1.0)


def test_a_decorated_function_is_the_function():
    """Name, docstring and results stay."""

    @jb.trace("double")
    def double(x):
        """Twice."""
        return 2 * x

    assert (double.__name__, double.__doc__, double(3)) == ("double", "Twice.", 6)


@pytest.mark.parametrize("name", [None, "", "  ", 3])
def test_wrong_names(name):
    """A block is named by a string."""
    with pytest.raises(jb.ReportError, match=r"trace\(.*\): expected a string"), jb.trace(name):
        pass
