"""Measure the cost of calls again, and put the numbers into benchmarks/README.md and the chart.

It runs the command of each section whose numbers are between ``<!-- measured: NAME -->`` and ``<!-- end -->``, replaces
what is between them by the output, and draws the chart. Run it on an idle machine. With ``--print`` it changes no file.

    python benchmarks/update.py                # all of them
    python benchmarks/update.py plain_loop     # one of them
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shlex
import subprocess
import sys

import chart

FOLDER = pathlib.Path(__file__).parent
README = FOLDER / "README.md"


def command(text: str, name: str) -> list[str]:
    """Return the arguments of a benchmark in the README."""
    found = re.search(rf"^python benchmarks/{name}\.py(.*)$", text, re.MULTILINE)
    if found is None:
        raise SystemExit(f"{README} has no command for {name}.")
    return shlex.split(found[1])


def measure(name: str, arguments: list[str]) -> str:
    """Return the output of a benchmark, in the form of the README."""
    program = [sys.executable, str(FOLDER / f"{name}.py"), *arguments]
    print(f"$ python benchmarks/{name}.py {shlex.join(arguments)}", file=sys.stderr, flush=True)
    output = subprocess.run(program, check=True, stdout=subprocess.PIPE, text=True).stdout
    return "\n".join(line.rstrip() for line in output.strip().splitlines())


def replace(text: str, name: str, output: str) -> str:
    """Return the README with the output of a benchmark."""
    start, end = f"<!-- measured: {name} -->\n", "<!-- end -->"
    before, _, rest = text.partition(start)
    _, found, after = rest.partition(end)
    if not found:
        raise SystemExit(f"{README} has no place for the output of {name}.")
    return f"{before}{start}{output}\n{end}{after}"


def main() -> None:
    text = README.read_text()
    known = re.findall(r"^<!-- measured: (\w+) -->$", text, re.MULTILINE)
    parser = argparse.ArgumentParser(description="Measure again, and update the README.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(known)}")
    parser.add_argument("--print", action="store_true", help="print the tables, change no file")
    options = parser.parse_args()
    for name in options.names or known:
        output = measure(name, command(text, name))
        if options.print:
            print(f"{output}\n")
            continue
        text = replace(README.read_text(), name, output)
        README.write_text(text)
    if not options.print:
        chart.main()


if __name__ == "__main__":
    main()
