"""The commands that read runs: ``show``, ``export``, ``diff``, ``tensorboard`` and ``completion``."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import urllib.request

import hypothesis
import hypothesis.strategies as st
import jax
import numpy as np
import pandas as pd
import psutil
import pytest
from listening import LOOPBACK, listening

import jaxboard as jb
from jaxboard._cli.diff import find_divergence
from jaxboard._cli.main import main
from jaxboard._live.sparkline import sparkline
from jaxboard._read.curves import Curve
from jaxboard.records import Kind, Record
from jaxboard.sinks import TensorBoardSink

STEPS = 8


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Write two runs that differ in a hyperparameter, and from step 5 on in a curve."""
    parent = tmp_path_factory.mktemp("study")
    for name, rate in (("a", 0.1), ("b", 0.2)):
        with jb.Run(parent / name, hparams={"rate": rate, "optimizer": "adam"}) as run:
            for run.step in range(STEPS):
                jb.scalar("train/loss", 2.0**-run.step + (run.step >= 5) * rate)
                jb.scalar("same", run.step)
            jb.scalar("broken", math.nan)
            if name == "b":
                jb.scalar("only/b", 1)
    return parent


def run_json(capsys, *arguments) -> tuple[int, dict]:
    status = main([*map(str, arguments), "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_show_as_json(study, capsys):
    """Every curve has its range, its last value and its steps; NaN is a text."""
    status, found = run_json(capsys, "show", study, "--runs", "a")
    assert status == 0
    curves = {curve["tag"]: curve for curve in found["curves"]}
    assert list(curves) == ["broken", "same", "train/loss"]
    loss = curves["train/loss"]
    del loss["last_wall_time"]
    assert loss == {
        "run": "a",
        "tag": "train/loss",
        "points": STEPS,
        "first_step": 0,
        "last_step": 7,
        "last": float(np.float32(2**-7 + 0.1)),
        "min": 0.0625,
        "max": 1.0,
        "nonfinite": 0,
    }
    assert curves["broken"]["last"] == "nan"
    assert curves["broken"]["nonfinite"] == 1


def test_show_as_a_table(study, capsys, monkeypatch):
    """Runs with the same tag are in adjacent rows, each with its curve."""
    monkeypatch.setenv("COLUMNS", "120")
    assert main(["show", str(study), "--tags", "same", "only/*"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "▁" in line]
    assert [row[:2] for row in rows] == [["only/b", "b"], ["same", "a"], ["b", rows[2][1]]]
    assert rows[1][2:] == ["▁▂▃▄▅▆▇█", "7", "0", "7", "7", "8"]


@pytest.mark.parametrize(
    ("columns", "headings"),
    [
        (50, "tag run curve last step"),
        (80, "tag run curve last min max step points"),
        (200, "tag run curve last min max step points"),
    ],
)
def test_a_table_fits_the_terminal(tmp_path, capsys, monkeypatch, columns, headings):
    """Every number is complete: tags are divided after a slash, and a narrow terminal has fewer columns."""
    monkeypatch.setenv("COLUMNS", str(columns))
    for name in ("a", "group/b"):
        with jb.Run(tmp_path / name):
            for step in range(3):
                jb.scalar("a_long_name/of_a_metric", -1.234e10, step=step)
    assert main(["show", str(tmp_path)]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[1].split() == headings.split()
    tag = [line.split()[0] for line in lines if "_" in line]
    assert tag == (
        ["a_long_name/of_a_metric"] if columns == 200 else ["a_long_name/", "of_a_metric"]
    )
    assert printed.count("-1.234e+10") == 2 * (3 if "min" in headings else 1)
    assert "…" not in printed


def test_a_table_in_a_pipe(tmp_path, capsys):
    """Without a terminal, long tags and runs are not divided."""
    tag, run = "a/" * 60 + "b", "c" * 60
    for name in (run, "d"):
        with jb.Run(tmp_path / name):
            jb.scalar(tag, 1.0, step=0)
    assert main(["show", str(tmp_path)]) == 0
    first, second = (line for line in capsys.readouterr().out.splitlines() if "▁" in line)
    assert (first.split()[:2], second.split()[0]) == ([tag, run], "d")


def test_show_leaves_telemetry_out(tmp_path, capsys):
    """Telemetry is shown by --all or by a pattern."""
    with jb.Run(tmp_path / "run", telemetry=True):
        jb.instrument(jax.jit(lambda x: (jb.scalar("x", x), x)[1]), name="f")(1.0)
    for arguments, wanted in (([], False), (["--all"], True), (["--tags", "jaxboard/*"], True)):
        _, found = run_json(capsys, "show", tmp_path / "run", *arguments)
        assert wanted == any(each["tag"].startswith("jaxboard/") for each in found["curves"])


def test_curves_of_profiles_are_telemetry(tmp_path, capsys):
    """Step times of a profile are neither shown nor compared, unless a pattern selects them."""
    for name, ms in (("a", 1.0), ("b", 2.0)):
        with jb.Run(tmp_path / name):
            jb.scalar("loss", 0.5, step=0)
            jb.scalar("profile/step_ms", ms, step=0)
    assert main(["show", str(tmp_path / "a")]) == 0
    out = capsys.readouterr().out
    assert "step_ms" not in out
    assert "1 curve about the program itself is left out; --all shows it." in out
    assert main(["show", str(tmp_path / "a"), "--all"]) == 0
    assert "step_ms" in capsys.readouterr().out
    pair = ["diff", str(tmp_path / "a"), str(tmp_path / "b")]
    assert [main(pair), main([*pair, "--tags", "profile/*"])] == [0, 1]


def test_control_characters_of_a_file(tmp_path, capsys):
    """A tag with control characters does not reach the terminal as it is."""
    for name, tags in (("a", ("x\x1b[31m", "y\x1b[31m")), ("b", ("x\x1b[31m",))):
        sink = TensorBoardSink(tmp_path / name)
        for tag in tags:
            value = np.float64(len(tags))
            sink.write([Record(Kind.SCALAR, tag, 0, 0.0, value)])
        sink.close()
    assert main(["show", str(tmp_path / "a")]) == 0
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert out.count("x\\x1b[31m") == 2
    assert "Only in A: y\\x1b[31m." in out


@pytest.mark.parametrize("form", ["csv", "parquet", "json", "jsonl"])
def test_export(study, tmp_path, capsys, form):
    """Every format has the rows of ``jb.read``, bit for bit."""
    file = tmp_path / f"points.{form}"
    status, summary = run_json(capsys, "export", study, file)
    expected = jb.read(study)
    assert (status, summary["points"]) == (0, len(expected))
    readers = {
        "csv": lambda: pd.read_csv(file, na_values=["nan"]),
        "parquet": lambda: pd.read_parquet(file),
        "json": lambda: pd.DataFrame(json.loads(file.read_text())),
        "jsonl": lambda: pd.DataFrame(map(json.loads, file.read_text().splitlines())),
    }
    table = readers[form]()
    assert list(table.columns) == list(expected.columns)
    np.testing.assert_array_equal(table["value"].astype(float), expected["value"])
    np.testing.assert_array_equal(table["wall_time"], expected["wall_time"])
    for name in ("run", "tag", "step"):
        assert table[name].tolist() == expected[name].tolist()


def test_export_to_standard_output(study, capsysbinary):
    """The file ``-`` is standard output, which holds nothing else; hyperparameters become JSON."""
    arguments = ["export", str(study), "-", "--format", "csv", "--kind", "hparams"]
    assert main(arguments) == 0
    rows = list(csv.DictReader(io.StringIO(capsysbinary.readouterr().out.decode())))
    assert [json.loads(row["value"]) for row in rows] == [
        {"rate": 0.1, "optimizer": "adam"},
        {"rate": 0.2, "optimizer": "adam"},
    ]


def test_export_refuses_what_it_cannot_write(study, tmp_path, capsys):
    """An unknown format, and a kind without a form in a text file, are errors with advice."""
    assert main(["export", str(study), str(tmp_path / "points.xls")]) == 1
    assert "--format" in capsys.readouterr().err
    with jb.Run(tmp_path / "run"):
        jb.image("x", np.zeros((2, 2, 1)))
    assert main(["export", str(tmp_path / "run"), str(tmp_path / "x.json"), "--kind", "image"]) == 1
    assert "jaxboard.read returns them" in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()


def test_export_of_nothing(study, tmp_path, capsys):
    """Patterns that match nothing are an error, and leave the file as it is."""
    file = tmp_path / "points.csv"
    file.write_text("kept")
    arguments = ["export", str(study), str(file), "--tags", "nope", "--runs", "a"]
    assert main(arguments) == 1
    assert capsys.readouterr().err == f"export({str(study)!r}): no scalar matches nope a.\n"
    assert file.read_text() == "kept"


def test_diff(study, capsys):
    """A comparison names the setting, the step at which the curves diverge, and the curve of one run only."""
    status, found = run_json(capsys, "diff", study / "a", study / "b")
    assert (status, found["equal"], found["equal_curves"]) == (1, False, 2)
    assert found["settings"] == [{"run": ".", "name": "rate", "first": 0.1, "second": 0.2}]
    (loss,) = found["curves"]
    assert (loss["tag"], loss["step"]) == ("train/loss", 5)
    assert (loss["first"], loss["second"]) == tuple(
        float(np.float32(2**-5 + r)) for r in (0.1, 0.2)
    )
    assert (found["only_first"], found["only_second"]) == ([], [{"run": ".", "tag": "only/b"}])
    assert main(["diff", str(study / "a"), str(study / "b"), "--tags", "same"]) == 1  # the rate
    assert "are equal" not in capsys.readouterr().out


def test_diff_escapes_control_characters(tmp_path, capsys):
    """A tag of another writer cannot move the cursor of the terminal."""
    for name, tags in (("a", ["\x1b[2Jboth", "\x1b[2Jone"]), ("b", ["\x1b[2Jboth"])):
        with jb.Run(tmp_path / name):
            for tag in tags:
                jb.scalar(tag, float(name == "a"))
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\\x1b[2Jboth" in printed
    assert "Only in A: \\x1b[2Jone." in printed
    assert "No curve is equal in A and B." in printed


def test_diff_of_unrelated_runs(tmp_path, capsys, monkeypatch):
    """Many curves of one run are grouped by prefix, with their number and the first names; --json has all."""
    monkeypatch.setenv("COLUMNS", "80")
    tags = ["lr", *(f"layer_{i:02}/{name}" for i in range(13) for name in "abcdef")]
    for name, scalars in (("a", tags), ("b", ["x", "y"])):
        with jb.Run(tmp_path / name):
            for tag in scalars:
                jb.scalar(tag, 1.0)
    status, found = run_json(capsys, "diff", tmp_path / "a", tmp_path / "b")
    assert (status, len(found["only_first"])) == (1, 79)
    assert main(["diff", str(tmp_path / "a"), str(tmp_path / "b")]) == 1
    lines = [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()]
    begin = lines.index("Only in A: 79 curves. --json lists all.")
    rows = lines[begin + 4 : lines.index("Only in B: x, y.") - 1]
    groups = [f"layer_{i:02} 6 a, b, c, d and 2 more" for i in range(12)]
    assert rows == [*groups, "others 7"]


def test_diff_without_a_common_run(study, capsys):
    """A directory of runs and a single run have no run of the same name: nothing is compared."""
    assert main(["diff", str(study), str(study / "a")]) == 2
    assert "The first has a, b; the second has ." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["show", "{a}", "--tags", "nope", "no such"],
            "show('{a}'): no scalar matches nope 'no such'.",
        ),
        (["show", "{a}", "--runs", "nope"], "show('{a}'): no scalar matches nope."),
        (
            ["diff", "{a}", "{a}", "--tags", "nope"],
            "diff('{a}', '{a}'): no curve matches --tags nope.",
        ),
    ],
)
def test_patterns_that_match_nothing(study, arguments, message, capsys):
    """The error names the patterns, and an empty comparison is not a success."""
    path = str(study / "a")
    assert main([each.format(a=path) for each in arguments]) == (2 if arguments[0] == "diff" else 1)
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", message.format(a=path) + "\n")


def test_diff_of_equal_runs(study, capsys):
    """A run equals itself, NaN included."""
    assert main(["diff", str(study / "a"), str(study / "a")]) == 0
    assert "A and B are equal: 3 curves." in capsys.readouterr().out
    status, found = run_json(capsys, "diff", study / "a", study / "b", "--tolerance", "1")
    assert (status, found["curves"]) == (1, [])


def test_diff_of_programs(tmp_path, monkeypatch, capsys):
    """Runs with telemetry record the flags of their programs, which are compared if both runs have them."""
    for name, flag in (("a", "1"), ("b", "2|`3")):
        monkeypatch.setenv("JAX_EXAMPLE", flag)
        with jb.Run(tmp_path / name, telemetry=True):
            jb.instrument(jax.jit(lambda x: x), name="f")(1.0)
    _, found = run_json(capsys, "diff", tmp_path / "a", tmp_path / "b")
    expected = [{"run": ".", "name": "JAX_EXAMPLE", "first": "1", "second": "2|`3"}]
    assert found["settings"] == expected
    with jb.Run(tmp_path / "c"):
        pass
    status, found = run_json(capsys, "diff", tmp_path / "a", tmp_path / "c")
    assert (status, found["settings"]) == (0, [])
    (text,) = jb.read(tmp_path / "a", kind="text", tags="jaxboard/program")["value"]
    assert f"| jax | {jax.__version__} |" in text.splitlines()


@pytest.mark.parametrize("command", ["show", "export", "diff"])
def test_a_directory_that_is_not_there(tmp_path, capsys, command):
    """The error names the directory; nothing is printed to standard output."""
    missing = str(tmp_path / "missing")
    more = {"show": [], "export": ["x.csv"], "diff": [missing]}[command]
    assert main([command, missing, *more]) == (2 if command == "diff" else 1)
    out, err = capsys.readouterr()
    assert not out
    assert missing in err


VALUES = st.one_of(st.integers(-3, 3).map(float), st.sampled_from([math.nan, math.inf, -math.inf]))
CURVES = st.dictionaries(st.integers(0, 9), VALUES, min_size=1)


def as_curve(points: dict[int, float]) -> Curve:
    steps = np.array(sorted(points), np.int64)
    values = np.array([points[step] for step in steps], np.float64)
    return Curve(".", "x", steps, values, np.zeros(len(steps)))


@hypothesis.given(CURVES, CURVES)
@hypothesis.settings(deadline=None, derandomize=True, database=None)
def test_where_two_curves_diverge(a, b):
    """The step is the first at which a loop over both finds another value, or one value only."""

    def same(x, y):
        return x is not None and y is not None and (x == y or (math.isnan(x) and math.isnan(y)))

    different = [step for step in sorted({*a, *b}) if not same(a.get(step), b.get(step))]
    found = find_divergence(as_curve(a), as_curve(b), 0.0)
    assert (None if found is None else found.step) == (different[0] if different else None)
    if found is not None:
        for value, points in ((found.first, a), (found.second, b)):
            np.testing.assert_equal(value, points.get(found.step))


@hypothesis.given(CURVES, st.integers(1, 30))
@hypothesis.settings(deadline=None, derandomize=True, database=None)
def test_any_sparkline(points, width):
    """A curve of any values has no more characters than asked for or than points, and a mark where it has a point."""
    curve = as_curve(points)
    line = sparkline(curve.steps, curve.values, width)
    assert len(line) == min(width, len(curve.steps))
    assert line[0] != " "
    assert ("x" in line) == (not np.isfinite(curve.values).all())


def test_sparkline_of_extreme_values():
    """Values whose sum overflows keep their order."""
    line = sparkline(np.arange(3), np.array([-1.7e308, 0, 1.7e308]), 3)
    assert (line[0], line[2]) == ("▁", "█")


def test_output_to_a_reader_that_ends(study):
    """A reader such as ``head`` ends the command without a traceback."""
    command = [sys.executable, "-m", "jaxboard", "export", str(study), "-", "--format", "csv"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    _, errors = process.communicate()
    assert (process.returncode, errors) == (1, b"")


def test_tensorboard(study):
    """The command prints an address of this machine that shows the runs; an interrupt ends it and its TensorBoard."""
    command = [sys.executable, "-m", "jaxboard", "tensorboard", str(study), "--json"]
    with subprocess.Popen(
        [*command, "--", "--window_title", "ours"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        found = json.loads(process.stdout.readline())
        with urllib.request.urlopen(f"{found['url']}data/environment") as response:
            environment = json.load(response)
        addresses = listening(psutil.Process(found["pid"]))
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    flags = environment["debug"]["flags"]
    assert environment["window_title"] == "ours"
    assert flags["samples_per_plugin"]["scalars"] == 10000
    assert (flags["reload_multifile"], flags["reload_interval"]) == (True, 5)
    assert addresses
    assert addresses <= LOOPBACK
    with pytest.raises(ProcessLookupError):
        os.kill(found["pid"], 0)


def test_arguments_for_another_program(capsys):
    """Only TensorBoard takes arguments after ``--``."""
    with pytest.raises(SystemExit):
        main(["show", "x", "--", "--window_title", "y"])
    assert "unrecognized arguments: -- --window_title y" in capsys.readouterr().err


def test_tensorboard_that_does_not_start(tmp_path, capsys):
    """The error has TensorBoard's own message; a directory that does not exist is named first."""
    missing = str(tmp_path / "missing")
    assert main(["tensorboard", missing, "--", "--no_such_flag"]) == 1
    first, *rest = capsys.readouterr().err.splitlines()
    assert first.startswith(f"There is no directory {missing!r} yet.")
    assert "unrecognized arguments: --no_such_flag" in rest[-1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["demo", "--steps", "x"],
            "argument --steps: expected a whole number of at least 1, got 'x'",
        ),
        (
            ["demo", "--steps", "0"],
            "argument --steps: expected a whole number of at least 1, got '0'",
        ),
        (
            ["ask", "runs", "flush", "--timeout", "x"],
            "argument --timeout: expected a number of seconds, got 'x'",
        ),
    ],
)
def test_arguments_that_are_not_numbers(arguments, message, capsys):
    """The error names the argument, what it expects and what it got."""
    with pytest.raises(SystemExit):
        main(arguments)
    assert capsys.readouterr().err.endswith(f"{message}\n")


def test_no_command(capsys):
    """Without a command, the help is printed."""
    assert main([]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: python -m jaxboard")
    assert "train three classifiers of handwritten digits" in printed.out
    assert printed.err == ""


def test_ask_without_a_request(capsys):
    """Only the request is missing: its own arguments are optional."""
    with pytest.raises(SystemExit):
        main(["ask", "runs"])
    assert capsys.readouterr().err.endswith("the following arguments are required: request\n")


def test_export_to_a_missing_directory(study, tmp_path, capsys):
    """The error names the directory and what to do."""
    file = str(tmp_path / "missing" / "points.csv")
    assert main(["export", str(study), file]) == 1
    assert capsys.readouterr().err == (
        f"export: cannot write {file!r}: there is no directory {str(tmp_path / 'missing')!r}. Create it first.\n"
    )
    assert main(["export", str(study), str(study), "--format", "csv"]) == 1
    assert capsys.readouterr().err == f"export: cannot write {str(study)!r}: Is a directory.\n"


@pytest.mark.parametrize(
    "command",
    [["show", "{}"], ["export", "{}", "-", "--format", "csv"], ["why", "{}"], ["diff", "{}", "{}"]],
    ids=str,
)
def test_a_damaged_file(command, tmp_path, capfd):
    """Each command that reads it prints one warning, without a line of code."""
    with jb.Run(tmp_path, hparams={"rate": 0.1}):
        for step in range(3):
            jb.scalar("loss", 1.0, step=step)
            jb.text("about", "text", step=step)
    (file,) = tmp_path.glob("*tfevents*")
    contents = bytearray(file.read_bytes())
    contents[contents.index(b"loss")] ^= 1
    file.write_bytes(contents)
    main([argument.format(tmp_path) for argument in command])
    assert capfd.readouterr().err == (
        f"Warning: read: 1 damaged part of {str(file)!r} cannot be read. 'python -m jaxboard verify' lists them.\n"
    )


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_completion(shell, capsys):
    """A script for the shell names every command."""
    assert main(["completion", shell]) == 0
    script = capsys.readouterr().out
    for command in ("show", "export", "diff", "tensorboard", "verify", "doctor", "demo"):
        assert command in script


@pytest.mark.parametrize(
    ("arguments", "module"),
    [
        (["show", "x"], "rich"),
        (["diff", "x", "y"], "rich"),
        (["export", "x", "y.csv"], "pandas"),
        (["export", "x", "y.parquet"], "pyarrow"),
        (["completion", "bash"], "shtab"),
        (["demo"], "optax"),
    ],
)
def test_a_missing_library(arguments, module, capsys, monkeypatch):
    """A command whose library is missing prints how to install it."""
    find = __import__("importlib.util").util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name: None if name == module else find(name)
    )
    assert main(arguments) != 0
    err = capsys.readouterr().err
    assert module in err
    assert f"pip install {module}\n" in err
