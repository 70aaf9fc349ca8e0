"""Tests that need TensorFlow, which has no wheel for some platforms and the newest Python."""

import importlib.util

import pytest

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed"
)
