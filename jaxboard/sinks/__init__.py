"""What a run writes to: TensorBoard's files, memory, or several sinks at once."""

from ._protocol import Sink as Sink
from .fanout import FanOut as FanOut
from .memory import MemorySink as MemorySink
from .tensorboard import TensorBoardSink as TensorBoardSink
