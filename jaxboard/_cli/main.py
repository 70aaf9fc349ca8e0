"""The command line: ``python -m jaxboard COMMAND``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

_DEMO_NEEDS = ("flax", "optax", "sklearn", "matplotlib", "tqdm")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command that ``argv`` (by default that of the process) names.

    Returns:
        The exit status: 0, or 1 where the command could not run and has said why.
    """
    parser = argparse.ArgumentParser(prog="python -m jaxboard", description="TensorBoard for JAX.")
    commands = parser.add_subparsers(title="commands", required=True)

    demo = commands.add_parser(
        "demo",
        help="train a classifier of handwritten digits and say where to look at it",
        description="Trains a classifier of handwritten digits with every kind of report.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_argument("--logdir", default="runs/demo", help="directory to put the run in")
    demo.add_argument("--steps", type=_positive, default=600, help="training steps to take")
    demo.set_defaults(command=_demo)

    doctor = commands.add_parser(
        "doctor",
        help="say what is installed, what works, and the command that mends what doesn't",
        description="Tries what jaxboard and TensorBoard need. Exit status 1 if something is broken.",
    )
    doctor.set_defaults(command=_doctor)

    options = parser.parse_args(argv)
    return options.command(options)


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _demo(options: argparse.Namespace) -> int:
    try:
        from jaxboard._cli import demo
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _DEMO_NEEDS:
            raise
        print(
            f"The demo needs {error.name}, which is not installed here. Everything it needs:\n\n"
            f"  {sys.executable} -m pip install 'jaxboard-tb[demo]'",
            file=sys.stderr,
        )
        return 1
    demo.main(options.logdir, options.steps)
    return 0


def _doctor(_: argparse.Namespace) -> int:
    from jaxboard._cli import doctor

    return doctor.main()
