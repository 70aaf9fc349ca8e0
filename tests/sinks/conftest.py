"""The two writers of event files: with TensorFlow, and without it."""

import sys

import pytest

from jaxboard import _log
from jaxboard.sinks import _tensorflow


@pytest.fixture
def no_tensorflow(monkeypatch):
    """Make the import of TensorFlow fail."""
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    _tensorflow.tensorflow.cache_clear()
    _log.log_once("record writer", "logged only once")
    yield
    _tensorflow.tensorflow.cache_clear()


@pytest.fixture(params=["tensorflow", "tensorboard"])
def backend(request):
    """Run a test with both writers."""
    if request.param == "tensorboard":
        request.getfixturevalue("no_tensorflow")
    return request.param
