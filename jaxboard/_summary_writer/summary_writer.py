"""The class ``SummaryWriter``, composed of its groups of methods."""

from __future__ import annotations

from jaxboard._summary_writer.chart_methods import ChartMethods
from jaxboard._summary_writer.counted_methods import CountedMethods
from jaxboard._summary_writer.message_methods import MessageMethods
from jaxboard._summary_writer.object_methods import ObjectMethods
from jaxboard._summary_writer.picture_methods import PictureMethods


class SummaryWriter(ChartMethods, CountedMethods, PictureMethods, ObjectMethods, MessageMethods):
    """A writer with the methods of ``torch.utils.tensorboard.SummaryWriter`` and ``tensorboardX.SummaryWriter``.

    A program that uses one of these needs only another import. The writer reports to a :class:`jaxboard.Run`, its
    attribute ``run``: reports do not wait for the device, a background thread writes them within a second, and a machine
    fault never raises into the training loop, but in :meth:`flush` and :meth:`close`. The run is the active run, so that
    ``jb.scalar`` in a jitted function reports to the same directory.

    All methods that report take ``global_step`` and most take ``walltime``. Without ``global_step`` the step is 0, as in
    these libraries, until an instrumented function counts the steps of the run; then it is its last step. A number that
    is not an integer is truncated. ``walltime`` is the time of the report, in seconds since the epoch, instead of now. An
    argument that a dashboard cannot show raises :class:`jaxboard.ReportError`, a ``ValueError``.

    Writers of one directory share one run, which closes with the last of them. A writer that reports after
    :meth:`close` opens its directory again.

    Args:
        logdir: the directory of the event files, or a URL. By default ``runs/<date>_<host><comment>``.
        comment: the end of the name of the default directory.
        purge_step: the first step of this writer, if it continues an earlier one in ``logdir``. TensorBoard no longer
            shows the points of the earlier one at this step or later.
        max_queue: without effect: the limits of pending reports are those of a run.
        flush_secs: the maximum age of a report that is not on disk, in seconds. In a local directory it is at most one
            second, whatever is passed.
        filename_suffix: the end of the names of the event files.
        write_to_disk: False writes nothing.
        log_dir: PyTorch's name for ``logdir``.
        comet_config: without effect, with a warning if it enables Comet.

    Attributes:
        logdir: the directory, as it was passed.
        run: the run, for everything that this class does not have.

    Raises:
        UsageError: an argument is invalid.
        RunError: ``logdir`` cannot be written to, or a :class:`jaxboard.Run` already writes there.

    Example:
        >>> import tempfile
        >>> import jaxboard as jb
        >>> with tempfile.TemporaryDirectory() as logdir:
        ...     with jb.SummaryWriter(logdir) as writer:
        ...         for step in range(3):
        ...             writer.add_scalar("loss", 1 / (step + 1), step)
        ...     jb.read(logdir)["value"].tolist()
        [1.0, 0.5, 0.3333333432674408]
    """
