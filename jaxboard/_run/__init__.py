"""Runs: the objects that users open, and the place where the parts of jaxboard are connected."""

from jaxboard._run.child_run import ChildRun as ChildRun
from jaxboard._run.current import channel_of as channel_of
from jaxboard._run.current import current_root as current_root
from jaxboard._run.current import current_run as current_run
from jaxboard._run.run import Run as Run
from jaxboard._run.snapshot import memory_snapshot as memory_snapshot
