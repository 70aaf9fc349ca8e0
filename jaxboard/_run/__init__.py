"""Runs: what the user opens, and what puts the parts of jaxboard together."""

from jaxboard._run.run import Run as Run
from jaxboard._run.run import current_run as current_run
from jaxboard._run.snapshot import memory_snapshot as memory_snapshot
