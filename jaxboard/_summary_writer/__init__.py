"""``SummaryWriter``: the interface of tensorboardX and PyTorch on top of a run."""

from jaxboard._summary_writer.summary_writer import SummaryWriter as SummaryWriter
