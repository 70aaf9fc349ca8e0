"""The methods of a summary writer for numbers: scalars, charts of several scalars, and hyperparameters."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from typing import cast

from jaxboard import _paths
from jaxboard._emit import arguments
from jaxboard._emit.events import report_event
from jaxboard._emit.layouts import Chart, parsed_layout
from jaxboard._errors import RunError
from jaxboard._host.active_channel import Directed
from jaxboard._read.read import read
from jaxboard._run import ChildRun, Run
from jaxboard._run.current import channel_of
from jaxboard._safe_repr import describe_object, safe_repr
from jaxboard._summary_writer.dataformats import one_number
from jaxboard._summary_writer.writer_base import GlobalStep, WriterBase
from jaxboard._trace import context
from jaxboard._types import Reportable, Step
from jaxboard.records import Kind, Record


class ChartMethods(WriterBase):
    """Scalars, charts of several scalars, and hyperparameters."""

    def add_scalar(
        self,
        tag: str,
        scalar_value: Reportable,
        global_step: GlobalStep = None,
        walltime: float | None = None,
        display_name: str = "",
        summary_description: str = "",
        new_style: bool = False,
        double_precision: bool = False,
    ) -> None:
        """Report a number. An array on a device is not waited for.

        Args:
            tag: the name of the curve.
            scalar_value: a number, or an array with one element.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.
            display_name: the title of the chart, instead of the tag.
            summary_description: Markdown that the chart shows.
            new_style: without effect, as TensorBoard shows both styles alike.
            double_precision: without effect: TensorBoard shows float32.

        Raises:
            ReportError: ``scalar_value`` is not one number, or an argument is invalid.

        Example:
            >>> import tempfile, jax.numpy as jnp, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir:
            ...     with jb.SummaryWriter(logdir) as writer:
            ...         writer.add_scalar("train/loss", jnp.float32(0.5), 10)
            ...     jb.read(logdir)[["tag", "step", "value"]].values.tolist()
            [['train/loss', 10, 0.5]]
        """
        del new_style, double_precision
        run, step = self._begin(tag, global_step)
        with self._at(tag, walltime):
            # In their places, PyTorch has new_style and double_precision.
            texts = [x if isinstance(x, str) else "" for x in (display_name, summary_description)]
            if any(texts):
                self._describe(run, tag, step, *texts)
            run.scalar(tag, one_number(tag, scalar_value), step=step)

    def add_scalars(
        self,
        main_tag: str,
        tag_scalar_dict: Mapping[str, Reportable],
        global_step: GlobalStep = None,
        walltime: float | None = None,
    ) -> None:
        """Report several numbers, and draw their curves in one chart.

        The tags are ``main_tag/name``. The chart is in the dashboard of custom scalars. tensorboardX and PyTorch make a run
        for each name instead, so that the curves share a chart in the scalars dashboard. This does the same::

            for name, value in tag_scalar_dict.items():
                writer.run.child(f"{main_tag}/{name}").scalar(main_tag, value, step=global_step)

        Args:
            main_tag: the title of the chart.
            tag_scalar_dict: the numbers by name.
            global_step: see :class:`jaxboard.SummaryWriter`.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: a value is not one number, or an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir:
            ...     with jb.SummaryWriter(logdir) as writer:
            ...         writer.add_scalars("loss", {"generator": 1.0, "critic": 2.0}, 0)
            ...     sorted(jb.read(logdir)["tag"])
            ['loss/critic', 'loss/generator']
        """
        arguments.check_tag(main_tag)
        if not isinstance(tag_scalar_dict, Mapping):
            raise arguments.report_error(
                main_tag,
                f"expected a dict of numbers, got {describe_object(tag_scalar_dict)}.",
            )
        run, step = self._begin(main_tag, global_step)
        tagged = {f"{main_tag}/{name}": value for name, value in tag_scalar_dict.items()}
        with self._at(main_tag, walltime):
            numbers = {tag: one_number(tag, value) for tag, value in tagged.items()}
            self._show_together(run, main_tag, numbers)
            for tag, number in numbers.items():
                run.scalar(tag, number, step=step)

    def add_custom_scalars(self, layout: Mapping[str, Mapping[str, Sequence[object]]]) -> None:
        """Report charts for the dashboard of custom scalars. Several calls add up.

        Args:
            layout: a dict of categories, each a dict of charts by their titles: ``["Multiline", tags]``, where tags are
                regular expressions, or ``["Margin", [value, lower, upper]]``.

        Raises:
            ReportError: ``layout`` is not as above.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_custom_scalars({"losses": {"all": ["Multiline", ["loss/.*"]]}})
        """
        if not isinstance(layout, Mapping):
            raise _not_a_layout(layout)
        charts: dict[str, dict[str, Chart]] = {}
        for category, titles in layout.items():
            if not isinstance(titles, Mapping):
                raise _not_a_layout(titles)
            charts[category] = {title: _chart(title, chart) for title, chart in titles.items()}
        parsed_layout(charts)
        for category, titled in charts.items():
            self._directory.charts.setdefault(category, {}).update(titled)
        self._report_charts(self.run)

    def add_custom_scalars_multilinechart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Report a chart with several curves; see :meth:`add_custom_scalars`.

        Args:
            tags: regular expressions of tags.
            category: the category of the chart.
            title: its title.

        Raises:
            ReportError: an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_custom_scalars_multilinechart(["train/loss", "test/loss"], title="loss")
        """
        arguments.check_tag(category)
        arguments.check_tag(title)
        self.add_custom_scalars({category: {title: ["Multiline", tags]}})

    def add_custom_scalars_marginchart(
        self, tags: Sequence[str], category: str = "default", title: str = "untitled"
    ) -> None:
        """Report a chart with a band around a curve; see :meth:`add_custom_scalars`.

        Args:
            tags: three tags: of the curve, and of the lower and the upper edge of the band.
            category: the category of the chart.
            title: its title.

        Raises:
            ReportError: an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir, jb.SummaryWriter(logdir) as writer:
            ...     writer.add_custom_scalars_marginchart(["loss/mean", "loss/min", "loss/max"])
        """
        arguments.check_tag(category)
        arguments.check_tag(title)
        self.add_custom_scalars({category: {title: ["Margin", tags]}})

    def add_hparams(
        self,
        hparam_dict: Mapping[str, object],
        metric_dict: Mapping[str, Reportable],
        hparam_domain_discrete: Mapping[str, Sequence[object]] | str | None = None,
        run_name: str | None = None,
        global_step: GlobalStep = None,
        name: str | None = None,
        walltime: float | None = None,
    ) -> None:
        """Report hyperparameters and metrics, for the HParams dashboard.

        The first ones without a name belong to the run itself, beside its curves. Others make a run below it, named
        ``run_name``, or ``hparams_1``, ``hparams_2``, …. tensorboardX and PyTorch make a run for every call.

        Args:
            hparam_dict: the hyperparameters by name: numbers, texts, bools, or nested. None values are left out.
            metric_dict: numbers by tag, which are reported as scalars.
            hparam_domain_discrete: lists of the values that hyperparameters may have. They are checked; TensorBoard
                finds the values in the runs. Or, in the place where tensorboardX has it, the name.
            run_name: the name of the run.
            global_step: see :class:`jaxboard.SummaryWriter`.
            name: tensorboardX's name for ``run_name``.
            walltime: see :class:`jaxboard.SummaryWriter`.

        Raises:
            ReportError: an argument is invalid.

        Example:
            >>> import tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir:
            ...     with jb.SummaryWriter(logdir) as writer:
            ...         writer.add_hparams({"lr": 0.1}, {"test/accuracy": 0.9})
            ...         writer.add_hparams({"lr": 0.2}, {"test/accuracy": 0.8}, run_name="fast")
            ...     jb.read(logdir)[["run", "value"]].values.tolist()
            [['.', 0.8999999761581421], ['fast', 0.800000011920929]]
        """
        # In tensorboardX, the third argument is the name, and the fourth is the step.
        if isinstance(hparam_domain_discrete, str):
            hparam_domain_discrete, name = None, hparam_domain_discrete
        if isinstance(run_name, int):
            run_name, global_step = None, run_name
        for argument, value in (("hparam_dict", hparam_dict), ("metric_dict", metric_dict)):
            if not isinstance(value, Mapping):
                got = describe_object(value)
                raise arguments.report_error(
                    "hparams", f"expected {argument}= to be a dict, got {got}."
                )
        _check_domains(hparam_dict, hparam_domain_discrete)
        run, step = self._begin("hparams", global_step)
        values = {key: value for key, value in hparam_dict.items() if value is not None}
        metrics = {tag: one_number(tag, value) for tag, value in metric_dict.items()}
        session = run_name if name is None else name
        if session is not None and not isinstance(session, str):
            got = describe_object(session)
            raise arguments.report_error(
                "hparams", f"expected the name of the run as a str, got {got}."
            )
        target = self._session(run, values, session or None)
        with self._at("hparams", walltime):
            target.hparams(values, metrics=metrics, step=step)  # pyright: ignore[reportArgumentType]

    def export_scalars_to_json(self, path: str | os.PathLike[str]) -> None:
        """Write all scalars of the directory to a JSON file.

        The file has a list ``[[wall_time, step, value], …]`` for each curve, ``<logdir>/<tag>``. The values are
        read from the event files, so that none is kept in memory.

        Args:
            path: the file.

        Raises:
            RunError: reports are not on disk (see :meth:`flush`), or the file cannot be written.
            UsageError: ``path`` is not a path.

        Example:
            >>> import json, pathlib, tempfile, jaxboard as jb
            >>> with tempfile.TemporaryDirectory() as logdir:
            ...     with jb.SummaryWriter(logdir) as writer:
            ...         writer.add_scalar("loss", 0.5, 3, walltime=1700000000)
            ...         writer.export_scalars_to_json(f"{logdir}/scalars.json")
            ...     points = json.loads(pathlib.Path(logdir, "scalars.json").read_text())
            >>> list(points.values())
            [[[1700000000.0, 3, 0.5]]]
        """
        name = _paths.checked("export_scalars_to_json({})", path)
        self.flush()
        curves: dict[str, list[list[float]]] = {}
        if self._writes:
            table = read(self._path)
            columns = (
                table[name].tolist() for name in ("run", "tag", "wall_time", "step", "value")
            )
            for run, tag, *point in zip(*columns, strict=True):
                curve = tag if run == "." else f"{run}/{tag}"
                curves.setdefault(f"{self.logdir}/{curve}", []).append(point)
        try:
            with open(name, "w", encoding="utf-8") as file:
                json.dump(curves, file)
        except (OSError, ValueError) as fault:
            reason = getattr(fault, "strerror", None) or fault
            raise RunError(f"cannot write scalars to {safe_repr(name)}: {reason}") from fault

    def _show_together(self, run: Run, main_tag: str, tags: Mapping[str, object]) -> None:
        """Make one chart of scalars, unless it exists."""
        scope = context.current().scope
        titled = self._directory.charts.setdefault(f"{scope}{main_tag}".partition("/")[0], {})
        shown = cast("list[str]", titled.setdefault(f"{scope}{main_tag}", []))
        new = [f"{re.escape(scope + tag)}$" for tag in tags]
        new = [tag for tag in new if tag not in shown]
        if new:
            shown += new
            self._report_charts(run)

    def _report_charts(self, run: Run) -> None:
        # In traced code too: charts are the same in every step.
        charts = parsed_layout(self._directory.charts)
        channel_of(run).put(Record(Kind.LAYOUT, "layout", 0, time.time(), charts))

    def _session(self, run: Run, values: Mapping[str, object], name: str | None) -> Run | ChildRun:
        """Return the run that has some hyperparameters."""
        if name is not None:
            return run.child(name)
        text = repr(sorted(values.items()))
        sessions = self._directory.sessions
        if text not in sessions:
            sessions.append(text)
        number = sessions.index(text)
        return run.child(f"hparams_{number}") if number else run

    def _describe(
        self, run: Run, tag: str, step: Step, display_name: str, description: str
    ) -> None:
        """Give a curve a title and a description, once: TensorBoard takes those of the first value of a tag."""
        arguments.check_tag(tag)
        channel = channel_of(run)
        full_tag = context.current().scope + tag
        if ("described", full_tag) in channel.warned:
            return
        channel.warned.add(("described", full_tag))
        from jaxboard.sinks import _proto

        metadata = _proto.SummaryMetadata(
            display_name=display_name,
            summary_description=description,
            plugin_data=_proto.SummaryMetadata.PluginData(plugin_name="scalars"),
            data_class=_proto.DATA_CLASSES["scalar"],
        )
        value = _proto.Summary.Value(tag=full_tag, metadata=metadata, **{_proto.HIDING: b""})
        with Directed(channel):
            event = _proto.Event(summary=_proto.Summary(value=[value]))
            report_event("add_scalar", event, step=cast("int", step))


def _not_a_layout(value: object) -> Exception:
    got = describe_object(value)
    return arguments.report_error(
        "layout",
        "expected a dict of categories, each a dict of charts such as ['Multiline', tags], got "
        f"{got}.",
    )


def _chart(title: str, chart: object) -> Chart:
    """Return a chart as :func:`jaxboard.layout` takes it."""
    parts = cast("Sequence[object]", chart) if isinstance(chart, list | tuple) else ()
    kind, tags = (str(parts[0]).lower(), parts[1]) if len(parts) == 2 else ("", None)
    names = [tags] if isinstance(tags, str) else tags
    if isinstance(names, list | tuple) and kind == "multiline":
        return cast("list[str]", list(cast("Sequence[object]", names)))
    if isinstance(names, list | tuple) and kind == "margin" and len(names) == 3:
        return cast("tuple[str, str, str, str]", ("margin", *cast("Sequence[object]", names)))
    raise arguments.report_error(
        "layout",
        f"expected chart {safe_repr(title)} to be ['Multiline', tags] or ['Margin', [value, lower, upper]], got {safe_repr(chart)}.",
    )


def _check_domains(values: Mapping[str, object], domains: object) -> None:
    """Raise unless domains are lists of values of the types of the hyperparameters."""
    if domains is None:
        return
    if not isinstance(domains, Mapping):
        raise arguments.report_error(
            "hparams",
            f"expected hparam_domain_discrete= to be a dict, got {describe_object(domains)}.",
        )
    for name, domain in cast("Mapping[str, object]", domains).items():
        kind = type(values.get(name))
        if name not in values or not (
            isinstance(domain, list | tuple)
            and all(isinstance(each, kind) for each in cast("Sequence[object]", domain))
        ):
            raise arguments.report_error(
                "hparams",
                f"expected hparam_domain_discrete[{name!r}] to be a list of values like that of hparam_dict, got "
                f"{domain!r}.",
            )
