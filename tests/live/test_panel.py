"""The panel of a run: when it is drawn, and what it shows."""

from __future__ import annotations

import html.parser
import logging
import os
import re

import numpy as np
import pytest

import jaxboard as jb
from jaxboard._host.buffer import Buffer
from jaxboard._host.channel import Channel
from jaxboard._host.complete_points import Assembled
from jaxboard._host.nonfinite import NonFiniteMonitor
from jaxboard._live.displays import LogDisplay, TerminalDisplay, make_display
from jaxboard._live.html_panel import html as html_of
from jaxboard._live.pace import Pace
from jaxboard._live.panel import LiveOptions, LivePanel
from jaxboard._live.text_panel import text_line
from jaxboard.records import Scalars

termios = pytest.importorskip("termios")


class Drawings:
    """A display that keeps each drawing of the panel, as HTML and as a line."""

    def __init__(self):
        self.html, self.lines = [], []

    def show(self, contents):
        self.html.append(html_of(contents, "more"))
        self.lines.append(text_line(contents, 120))


class Broken:
    """A display that fails after the first drawing."""

    count = 0

    def show(self, contents):
        self.count += 1
        if self.count > 1:
            raise OSError("no display")


class Panel:
    """A panel with a clock that the test sets, and the monitor before it."""

    def __init__(self, display, *, steps=None, step=0):
        self.now = 0.0
        self.channel = Channel(Buffer(100, 10**6), step)
        self.monitor = NonFiniteMonitor(lambda _: None)
        self.display = display
        self.panel = LivePanel(
            LiveOptions(None, steps),
            self.channel,
            "/runs/<b>mnist</b>",
            self.monitor,
            display=display,
            clock=lambda: self.now,
        )
        self.panel.start(lambda _: None)

    def report(self, now, step, **values):
        """Report scalars of a step, and poll at a time."""
        columns = Scalars(
            tuple(values), np.array([step]), np.zeros(1), np.array([[*values.values()]])
        )
        assembled = Assembled([columns], [])
        self.monitor.observe(assembled)
        self.panel.observe(assembled)
        self.poll(now)

    def poll(self, now):
        self.now = now
        self.panel.poll()


class Checked(html.parser.HTMLParser):
    """The elements of a panel. It fails unless they are closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.attributes, self.text = set(), [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.open.append(tag)
        self.attributes += attrs

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_at_most_twice_a_second():
    """The panel is drawn when the run is opened, then at most every half second, and when the run closes."""
    panel = Panel(Drawings())
    for i in range(1, 101):
        panel.report(i / 10, i, loss=1.0)
    assert len(panel.display.lines) == 1 + 20
    panel.panel.finish()
    panel.poll(99.0)
    assert len(panel.display.lines) == 1 + 20 + 1


def test_a_run_without_news():
    """The panel of a run that reports nothing is drawn less and less often."""
    panel = Panel(Drawings())
    panel.report(1.0, 1, loss=1.0)
    for second in range(2, 3601):
        panel.poll(float(second))
    assert len(panel.display.lines) < 25
    assert "no step for" in panel.display.lines[-1]


def test_progress():
    """The progress and the remaining time are computed from the steps of the last seconds."""
    panel = Panel(Drawings(), steps=1000)
    for second in range(1, 11):
        panel.report(float(second), 10 * second - 1, loss=1.0)
    assert "█░░░░░░░░░ 10% 100/1,000, 10 steps/s, 1:30 left | loss 1" in panel.display.lines[-1]
    assert "step 100 of 1,000, 10 steps/s, 1:30 left" in panel.display.html[-1]
    panel.panel.finish()
    assert "step 100 of 1,000, stopped after 0:10" in panel.display.html[-1]


def test_steps_that_are_counted():
    """The steps of instrumented functions count, not those of single reports."""
    panel = Panel(Drawings(), step=5)
    panel.report(1.0, 90, loss=1.0)
    assert "step 91," in panel.display.html[-1]
    panel.channel.step = 50
    panel.report(2.0, 95, loss=1.0)
    assert "step 50," in panel.display.html[-1]


def test_a_loop_over_the_step_of_the_run():
    """After ``for run.step in range(n)``, all n steps are taken: the step of the run is that of the last one."""
    panel = Panel(Drawings(), steps=4)
    for panel.channel.step in range(4):
        panel.report(panel.channel.step + 1.0, panel.channel.step, loss=1.0)
    panel.panel.finish()
    assert "step 4 of 4, finished" in panel.display.html[-1]


def test_a_pause():
    """The calls that compile do not count in the rate, and a pause is shown."""
    pace = Pace(5, 105, now=0.0)
    for step, now in ((6, 1.0), (7, 31.0), (8, 61.0)):  # The first two calls took 30 s each.
        pace.update(step, now)
    assert (pace.rate, pace.seconds_left(61.0)) == (0.0, None)
    pace.update(9, now=62.0)
    assert (pace.rate, pace.seconds_left(63.0), pace.seconds_stalled(63.0)) == (1.0, 96.0, None)
    assert (pace.seconds_left(70.0), pace.seconds_stalled(70.0)) == (None, 8.0)


def test_not_finite():
    """The first value that is not finite is named, and stays."""
    panel = Panel(Drawings())
    panel.report(1.0, 7, loss=0.25)
    panel.report(2.0, 8, loss=np.nan)
    panel.report(3.0, 9, loss=1.0, lr=np.inf)
    assert "loss is nan at step 8; at step 7 it was 0.25" in panel.display.html[-1]
    assert "loss is not finite" in panel.display.lines[-1]
    assert "lr is inf" not in Checked(panel.display.html[-1]).text


def test_the_html_is_safe():
    """Names of tags and runs are text, and the panel needs neither scripts nor iframes nor style sheets."""
    panel = Panel(Drawings(), steps=10)
    for i in range(9):
        values = {"<script>alert(1)</script>": float(i), 'a"onload="b/loss': 1.0, "c\x1b[31m": 2.0}
        panel.report(float(i), i, **values)
    checked = Checked(panel.display.html[-1])
    assert checked.tags == {"div", "b", "svg", "path", "polyline", "text"}
    assert not [name for name, _ in checked.attributes if name.startswith("on")]
    assert "\x1b" not in panel.display.lines[-1]
    assert ("aria-valuenow", "90.0") in checked.attributes


@pytest.mark.parametrize(
    "values",
    [
        [0.0],
        [np.nan],
        [1e308, -1e308],
        [1e308, 1.5e308],
        [5e-324, 1e308],
        [1.0] * 200,
        [*range(200)],
        [-np.inf, 3.0],
    ],
    ids=[
        "zero",
        "nan",
        "huge",
        "huge and positive",
        "many powers",
        "constant",
        "line",
        "inf first",
    ],
)
def test_any_values(values):
    """Every curve can be drawn: constant, extreme or not finite."""
    panel = Panel(Drawings())
    for i, value in enumerate(values):
        panel.report(float(i), i, loss=value)
    text = panel.display.html[-1]
    coordinates = [
        value for name, value in Checked(text).attributes if name in ("points", "d", "cx", "cy")
    ]
    assert not [each for each in coordinates if "nan" in each or "inf" in each]


def test_a_broken_display(caplog):
    """A display that fails is reported once and not called again; the run goes on."""
    panel = Panel(Broken())
    with caplog.at_level(logging.ERROR, "jaxboard"):
        for i in range(1, 4):
            panel.report(float(i), i, loss=1.0)
        panel.panel.finish()
    assert panel.display.count == 2
    (record,) = caplog.records
    assert "the live panel failed: OSError: no display" in record.message


def open_terminal() -> tuple[int, int]:
    """Return the two ends of a new terminal: the one that reads what programs write, and theirs."""
    try:
        return os.openpty()
    except OSError as error:  # a container without pseudo-terminals
        pytest.skip(str(error))


@pytest.mark.parametrize("width", [20, 79, 200])
def test_a_terminal(width):
    """Each drawing overwrites the line of the one before, fits into the terminal, and leaves the cursor at its end."""
    reader, writer = open_terminal()
    termios.tcsetwinsize(writer, (24, width + 1))
    with os.fdopen(writer, "w") as stream:
        panel = Panel(TerminalDisplay(stream), steps=10)
        for i in range(3):
            panel.report(i + 1.0, i, loss=1.0, other=2.0)
        panel.panel.finish()
        text = ""
        while "\n" not in text:
            text += os.read(reader, 100_000).decode()
    os.close(reader)
    *drawings, last = re.findall(r"\r([^\r\x1b]*)\x1b\[K(\x1b\[999C |\r\n)", text)
    assert "".join(f"\r{line}\x1b[K{end}" for line, end in [*drawings, last]) == text
    assert [end for _, end in drawings] == ["\x1b[999C "] * 4
    assert last[1] == "\r\n"
    assert all(len(line) <= width for line, _ in [*drawings, last])


@pytest.mark.parametrize(("term", "expected"), [("xterm", TerminalDisplay), ("dumb", LogDisplay)])
def test_a_terminal_that_moves_no_cursor(monkeypatch, term, expected):
    """A terminal without escape sequences, such as that of an editor, gets lines like a log."""
    reader, writer = open_terminal()
    monkeypatch.setattr("jaxboard._live.displays._on_terminal", [])
    with os.fdopen(writer, "w") as stream:
        monkeypatch.setattr("sys.stderr", stream)
        monkeypatch.setenv("TERM", term)
        assert type(make_display(None, now=0.0)) is expected
    os.close(reader)


def test_two_runs_in_a_terminal():
    """The line is that of the first open run; the other one writes a line of its own when it closes."""
    reader, writer = open_terminal()
    with os.fdopen(writer, "w") as stream:
        first, second = (Panel(TerminalDisplay(stream), steps=steps) for steps in (10, 20))
        for panel in (first, second):
            panel.report(1.0, 0, loss=1.0)
        second.panel.finish()
        first.report(2.0, 1, loss=1.0)
        first.panel.finish()
        text = ""
        while text.count("\n") < 2:
            text += os.read(reader, 100_000).decode()
    os.close(reader)
    assert re.findall(r"\d+/\d+|\n", text) == ["0/10", "1/10", "1/20", "\n", "2/10", "2/10", "\n"]


def test_a_run_in_a_log(tmp_path, capfd):
    """If standard error is not a terminal, a run writes one line when it closes, and its files are the usual ones."""
    with jb.Run(tmp_path / "run", live=True, steps=3, telemetry=False) as run:
        for i in range(3):
            jb.scalar("train/loss", 1.0 - i / 4, step=i)
        run.child("eval").scalar("loss", 0.25, step=2)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == 1
    pattern = r"run ██████████ 100% 3/3, finished after 0:\d\d \| loss train 0.5, eval 0.25 █[▄▅]▁"
    assert re.fullmatch(pattern, lines[0]), lines[0]
    assert jb.read(tmp_path).value.tolist() == [1.0, 0.75, 0.5, 0.25]


@pytest.mark.parametrize("live", ["loss", [], [3], (), np.zeros(2)], ids=str)
def test_wrong_options(live):
    """The option is a truth value or a list of patterns."""
    with pytest.raises(jb.UsageError, match="Run\\(live="):
        jb.Run(None, sinks=[], live=live)
    with pytest.raises(jb.UsageError, match="Run\\(steps=0\\)"):
        jb.Run(None, sinks=[], steps=0)
