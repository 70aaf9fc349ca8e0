"""The arguments of ``python -m jaxboard ask``."""

from __future__ import annotations

import argparse
import math
from typing import Any


def add_ask_command(commands: Any) -> None:
    """Add the command.

    Args:
        commands: the result of ``add_subparsers``.
    """
    ask = commands.add_parser(
        "ask",
        help="ask an open run for a profile, other cadences, stacks, memory or a flush",
        description=(
            "Ask all processes of an open run, without a restart and without a port: the request is a file in the log "
            "directory. 'profile steps=5' records the same steps in all processes; 'every \"grads/*\"=1' changes the "
            "cadence of reports ('off' leaves them out, 'code' restores that in the program); 'stacks' shows what every thread "
            "does; 'memory' shows what the devices hold; 'flush' writes what was reported. The exit status is 0 if every "
            "process did it, 1 if one did not, and 2 if nothing was asked."
        ),
    )
    ask.add_argument("logdir", help="the directory that was passed to jaxboard.Run")
    ask.add_argument(
        "request",
        choices=("profile", "every", "stacks", "memory", "flush"),
        help="what each process does",
    )
    ask.add_argument(
        "words",
        nargs="*",
        default=[],  # Without a default, argparse reports that words are required.
        metavar="ARGUMENT",
        help="for profile: steps=5 processes=0,3; for every: patterns and cadences",
    )
    ask.add_argument(
        "--timeout",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="how long to wait for the answers, by default 120 seconds",
    )
    ask.add_argument("--json", action="store_true", help="print one JSON object")
    ask.set_defaults(command=_ask)


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a number of seconds, got {text!r}")
    return number


def _ask(options: argparse.Namespace) -> int:
    from jaxboard._cli import ask

    words = [options.request, *options.words]
    return ask.main(options.logdir, words, timeout=options.timeout, as_json=options.json)
