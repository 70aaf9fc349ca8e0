"""Log directories of two kinds, a local path and a URL that TensorFlow writes to, and TensorBoard with two readers."""

import sys

import pytest
from with_tensorflow import needs_tensorflow

from jaxboard.sinks import _tensorflow


@pytest.fixture
def no_tensorflow(monkeypatch):
    """Make the import of TensorFlow fail."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    _tensorflow.tensorflow.cache_clear()
    yield
    _tensorflow.tensorflow.cache_clear()


@pytest.fixture(params=["local", pytest.param("remote", marks=needs_tensorflow)])
def located(request):
    """Return the function that makes a log directory of a path: the path itself, or a URL."""
    return str if request.param == "local" else "file://{}".format


@pytest.fixture(scope="module", params=["rust", "python"])
def server(request, shared_tensorboard):
    """Return TensorBoard with each of its readers."""
    return shared_tensorboard(request.param)
