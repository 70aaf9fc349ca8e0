"""The command line: ``python -m jaxboard COMMAND``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from jaxboard._cli.ask_command import add_ask_command
from jaxboard._cli.reading_commands import add_reading_commands
from jaxboard._cli.requirements import is_installed

_DEMO_REQUIREMENTS = ("flax", "optax", "sklearn", "tqdm")


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        argv: the arguments; by default those of the process.

    Returns:
        The exit status: 0, also without a command, or 1 if the command failed and printed the reason. ``verify``, ``diff``
        and ``ask`` return 2 for a failure, and 1 for a problem, a difference, or a process that did not do what was asked.
    """
    parser = argparse.ArgumentParser(prog="python -m jaxboard", description="TensorBoard for JAX.")
    parser.set_defaults(command=lambda _: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    add_reading_commands(commands)
    add_ask_command(commands)

    verify = commands.add_parser(
        "verify",
        help="check event files: damage, steps that go back, several writers, NaN",
        description=(
            "Check all event files below a directory, of any writer: damaged and cut off records, steps that go back "
            "without a restart, several writers at the same time, tags that change their kind, NaN and infinite values, wall times that "
            "are not finite, empty files. Each line names the file and the place in it. The exit status is 0 if there "
            "is no error and no warning, 1 if there is one, and 2 if nothing was checked."
        ),
    )
    verify.add_argument("logdir", help="a directory, an event file, or a URL")
    verify.add_argument("--json", action="store_true", help="print one JSON object")
    verify.set_defaults(command=_verify)

    doctor = commands.add_parser(
        "doctor",
        help="check the installation and print a command that fixes each problem",
        description=(
            "Check JAX, TensorFlow, TensorBoard and its Profile tab. The exit status is 1 if something is "
            "broken."
        ),
    )
    doctor.set_defaults(command=_doctor)

    demo = commands.add_parser(
        "demo",
        help="train three classifiers of handwritten digits and print the TensorBoard command",
        description="Train three classifiers of handwritten digits with many kinds of reports.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--logdir", default="runs/demo", help="the parent directory of the runs")
    demo.add_argument(
        "--steps", type=_positive, default=400, help="the number of training steps of each trial"
    )
    demo.set_defaults(command=_demo)

    completion = commands.add_parser(
        "completion",
        help="print a script that completes commands in a shell",
        description='Print a script for a shell. In bash: eval "$(jaxboard completion bash)".',
    )
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="the shell")
    completion.set_defaults(command=lambda options: _completion(options, parser))

    own, arguments = _split(sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(own)
    if arguments and not getattr(options, "takes_arguments", False):
        parser.error(f"unrecognized arguments: -- {' '.join(arguments)}")
    options.arguments = arguments
    try:
        return options.command(options) or 0
    except BrokenPipeError:
        # The reader of the output, such as `head`, has ended. Python would fail again when it flushes the rest.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the arguments before ``--``, and those after it, which are for another program."""
    place = argv.index("--") if "--" in argv else len(argv)
    return argv[:place], argv[place + 1 :]


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number of at least 1, got {text!r}")
    return int(text)


def _demo(options: argparse.Namespace) -> int:
    if not is_installed(_DEMO_REQUIREMENTS, "demo"):
        return 1
    from jaxboard._cli.demo import showcase

    # The demo prints where the runs are. Messages would interrupt its progress bar.
    logging.getLogger("jaxboard").setLevel(logging.WARNING)
    showcase.main(options.logdir, options.steps)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from jaxboard._cli import doctor

    return doctor.main()


def _verify(options: argparse.Namespace) -> int:
    from jaxboard._cli import verify

    return verify.main(options.logdir, as_json=options.json)


def _completion(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if not is_installed("shtab", "completion"):
        return 1
    import shtab

    parser.prog = "jaxboard"
    print(shtab.complete(parser, options.shell))
    return 0
