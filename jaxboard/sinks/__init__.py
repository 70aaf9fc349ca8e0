"""What a run writes to: TensorBoard's files, memory, or several sinks at once."""

from jaxboard.sinks._protocol import Sink as Sink
from jaxboard.sinks.memory import MemorySink as MemorySink
from jaxboard.sinks.tensorboard import TensorBoardSink as TensorBoardSink
