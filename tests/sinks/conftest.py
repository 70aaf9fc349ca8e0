"""The two writers of event files: with TensorFlow, and without it."""

import sys

import pytest

from jaxboard._errors import JaxboardWarning
from jaxboard.sinks import _writers


@pytest.fixture
def no_tensorflow(monkeypatch):
    """Make the import of TensorFlow fail."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    _writers.tensorflow.cache_clear()
    with pytest.warns(JaxboardWarning, match="^TensorFlow cannot be imported, so events"):
        _writers.tensorflow()
    yield
    _writers.tensorflow.cache_clear()


@pytest.fixture(params=["tensorflow", "tensorboard"])
def backend(request):
    """Run a test with both writers."""
    if request.param == "tensorboard":
        request.getfixturevalue("no_tensorflow")
    return request.param
