"""The commands that read runs: ``tensorboard``, ``show``, ``export``, ``why`` and ``diff``."""

from __future__ import annotations

import argparse
import functools
import sys
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxboard._errors import JaxboardWarning
from jaxboard._safe_repr import printable

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 (it has no public name)


def add_reading_commands(commands: Commands) -> None:
    """Add the commands to those of the program."""
    view = commands.add_parser(
        "tensorboard",
        help="start TensorBoard on a free port, with settings for long runs",
        description=(
            "Start TensorBoard on a free port of this machine, and print its address once it answers. It shows ten times as "
            "many points of a curve as by default, and follows runs that write several files. Arguments after -- go to "
            "TensorBoard."
        ),
    )
    view.add_argument("logdir", help="the log directory; it may be created later")
    view.add_argument("--port", type=int, help="the port; by default a free one")
    view.add_argument("--json", action="store_true", help="print the address as a JSON object")
    view.set_defaults(command=_view, takes_arguments=True)

    show = commands.add_parser(
        "show",
        help="print the scalars of runs as a table with small curves",
        description="Print the last, smallest and largest value of each scalar, and its curve in one line of text.",
    )
    show.add_argument("logdir", help="a directory, an event file, or a URL")
    _add_selection(show)
    show.add_argument(
        "--all",
        action="store_true",
        help="also show what jaxboard reports itself (jaxboard/..., profile/...)",
    )
    show.add_argument("--json", action="store_true", help="print one JSON object")
    show.set_defaults(command=_show)

    export = commands.add_parser(
        "export",
        help="write the points of runs to a CSV, Parquet or JSON file",
        description="Write the points of all runs in a directory to a file, with a row for each point.",
    )
    export.add_argument("logdir", help="a directory, an event file, or a URL")
    export.add_argument("file", help="the file, which is replaced; - is standard output")
    export.add_argument(
        "--format",
        choices=["csv", "parquet", "json", "jsonl"],
        help="the format, by default the end of the file's name",
    )
    export.add_argument(
        "--kind",
        default="scalar",
        help="the kind of points, such as histogram or text; by default scalar",
    )
    _add_selection(export)
    export.add_argument(
        "--keep",
        choices=["last", "all"],
        default="last",
        help="last: one point for each step (default); all: also points that a resumed run replaced",
    )
    export.add_argument("--json", action="store_true", help="print a JSON object about the file")
    export.set_defaults(command=_export)

    why = commands.add_parser(
        "why",
        help="explain why a run is slow, or why it broke",
        description=(
            "Explain the runs in a directory, from what jaxboard wrote about them: where the time went, NaN, recompiles, "
            "out of memory. Runs with telemetry=True have the most to show."
        ),
    )
    why.add_argument("logdir", help="a directory, an event file, or a URL")
    why.add_argument("--json", action="store_true", help="print one JSON object")
    why.set_defaults(command=_why)

    diff = commands.add_parser(
        "diff",
        help="compare two runs: hyperparameters, versions, flags, and where their curves diverge",
        description=(
            "Compare the hyperparameters of two runs, the versions and flags of their programs (of runs with "
            "telemetry=True), and their curves. The exit status is 0 if nothing differs, 1 if something does, and 2 if they "
            "were not compared."
        ),
    )
    diff.add_argument("first", help="a directory, an event file, or a URL")
    diff.add_argument("second", help="the one to compare with")
    diff.add_argument("--tags", nargs="+", metavar="PATTERN", help="compare these tags only")
    diff.add_argument(
        "--tolerance",
        type=float,
        default=0.0,
        help="the relative difference up to which values are equal, by default 0",
    )
    diff.add_argument("--json", action="store_true", help="print one JSON object")
    diff.set_defaults(command=_diff)


def _add_selection(command: argparse.ArgumentParser) -> None:
    command.add_argument("--tags", nargs="+", metavar="PATTERN", help="only these tags: train/*")
    command.add_argument("--runs", nargs="+", metavar="PATTERN", help="only these runs: seed_*")


def _with_plain_warnings(
    command: Callable[[argparse.Namespace], int],
) -> Callable[[argparse.Namespace], int]:
    """Return a command that prints each warning once, as one line without the line of code, which is not the user's."""

    @functools.wraps(command)
    def run(options: argparse.Namespace) -> int:
        printed = set[str]()

        def show(message: Warning | str, *_: object) -> None:
            text = str(message)
            if text not in printed:
                printed.add(text)
                print(f"Warning: {printable(text)}", file=sys.stderr)

        with warnings.catch_warnings():
            warnings.simplefilter("always", JaxboardWarning)
            warnings.showwarning = show
            return command(options)

    return run


def _view(options: argparse.Namespace) -> int:
    from jaxboard._cli import view

    return view.main(
        options.logdir, port=options.port, arguments=options.arguments, as_json=options.json
    )


@_with_plain_warnings
def _show(options: argparse.Namespace) -> int:
    from jaxboard._cli import show

    return show.main(
        options.logdir,
        tags=options.tags,
        runs=options.runs,
        show_all=options.all,
        as_json=options.json,
    )


@_with_plain_warnings
def _export(options: argparse.Namespace) -> int:
    from jaxboard._cli import export

    return export.main(
        options.logdir,
        options.file,
        file_format=options.format,
        kind=options.kind,
        tags=options.tags,
        runs=options.runs,
        keep=options.keep,
        as_json=options.json,
    )


@_with_plain_warnings
def _why(options: argparse.Namespace) -> int:
    from jaxboard._cli import why

    return why.main(options.logdir, as_json=options.json)


@_with_plain_warnings
def _diff(options: argparse.Namespace) -> int:
    from jaxboard._cli import diff

    return diff.main(
        options.first,
        options.second,
        tags=options.tags,
        tolerance=options.tolerance,
        as_json=options.json,
    )
