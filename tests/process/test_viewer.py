"""The process of TensorBoard that a notebook or the command line starts."""

import os

import pytest

import jaxboard as jb
from jaxboard._process.viewer import Viewer


def lowest_free_descriptor():
    descriptor = os.open(os.devnull, os.O_RDONLY)
    os.close(descriptor)
    return descriptor


def test_a_tensorboard_that_does_not_start(tmp_path, monkeypatch):
    """The error has the output of the process; no file stays open."""
    (tmp_path / "tensorboard.py").write_text("raise SystemExit('no TensorBoard here')")
    monkeypatch.chdir(tmp_path)
    before = lowest_free_descriptor()
    with pytest.raises(jb.RunError, match="ended with status 1(.|\n)*no TensorBoard here"):
        Viewer("runs")
    assert lowest_free_descriptor() == before
