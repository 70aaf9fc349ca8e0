"""Alerts: rules, functions and webhooks; none of them delays or breaks a run."""

from __future__ import annotations

import http.server
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import jaxboard as jb
from jaxboard._alerts.alert_monitor import AlertMonitor
from jaxboard._alerts.alert_options import parse_alerts
from jaxboard._alerts.alert_rules import SilenceRule, SpikeRule, ValueRule, parse_rule
from jaxboard._alerts.columns import Columns
from jaxboard._host.complete_points import Assembled
from jaxboard._host.lost import LostReports
from jaxboard.records import Kind, Record
from jaxboard.sinks import MemorySink


def found(text: str, values: dict[str, Any], *, pieces: int = 1) -> list[tuple[str, int]]:
    """Return tag and step of what a rule finds in columns."""
    rule = parse_rule(text)
    assert isinstance(rule, ValueRule)
    table = np.array(list(values.values()), float).T
    steps = np.arange(len(table))
    blocks = zip(np.array_split(steps, pieces), np.array_split(table, pieces), strict=True)
    findings = [
        finding for s, v in blocks for finding in rule.observe(Columns("", tuple(values), s, v))
    ]
    return [(finding.tag, finding.step) for finding in findings]


@pytest.mark.parametrize("pieces", [1, 2, 7])
def test_values(pieces: int) -> None:
    """A rule finds the first value of each tag that meets it, and the next after a hundred that do not."""
    losses = {"train/loss": [1, 9, 11, 12, 3, 40], "loss": [0, 99, 0, 0, 0, 99]}
    assert found("train/loss > 11", losses, pieces=pieces) == [("train/loss", 3)]
    assert found("train/loss >= 11", losses, pieces=pieces) == [("train/loss", 2)]
    assert sorted(found("*loss > 10.5", losses, pieces=pieces)) == [("loss", 1), ("train/loss", 2)]
    assert found("loss < 1e-3", losses, pieces=pieces) == [("loss", 0)]
    assert found("loss <= -1", losses, pieces=pieces) == []
    bad = {"a": [1, np.nan, 2], "b": [np.inf, 1, 1]}
    assert sorted(found("* is not finite", bad, pieces=pieces)) == [("a", 1), ("b", 0)]
    assert found("a > 0.5", {"a": [np.nan, 1]}, pieces=pieces) == [("a", 1)]
    curve = np.zeros(400)
    curve[[5, 50, 150, 251, 380]] = 20
    assert found("x > 10", {"x": curve}, pieces=pieces) == [("x", 5), ("x", 251), ("x", 380)]


def test_forms() -> None:
    """The texts of rules."""
    assert isinstance(parse_rule(" train/loss  is spiking "), SpikeRule)
    for text, seconds in {
        "no report for 90 seconds": 90,
        "no report for 1 second": 1,
        "no report for 0.5 h": 1800,
        "no report for 10 minutes": 600,
        "no report for 5min": 300,
    }.items():
        rule = parse_rule(text)
        assert isinstance(rule, SilenceRule)
        assert rule.seconds == seconds
    for text in (
        "loss",
        "loss >",
        "> 3",
        "loss > big",
        "loss > nan",
        "loss = 3",
        "no report",
        "no report for 0 s",
        "",
    ):
        assert parse_rule(text) is None, text
    rule = parse_rule("loss [ema] > 3")
    assert isinstance(rule, ValueRule)
    assert [
        f.tag
        for f in rule.observe(
            Columns("", ("loss e", "loss [ema]"), np.arange(1), np.full((1, 2), 4.0))
        )
    ] == ["loss [ema]"]


def test_silence() -> None:
    """Silence is found once, until something arrives again. It counts from the beginning, and jaxboard's own tags do not."""
    now = 0.0
    monitor = AlertMonitor(
        parse_alerts(["no report for 10 s"]),
        LostReports("run"),
        finds_spikes=False,
        clock=lambda: now,
    )
    own = Record(Kind.SCALAR, "jaxboard/step/steps_per_second", 3, 0.0, np.float32(1))
    point = Record(Kind.SCALAR, "loss", 3, 0.0, np.float32(1))
    counts = []
    for now, items in [  # noqa: B007 (the clock reads it)
        (0, []),
        (9, []),
        (10, [own]),
        (30, []),
        (31, [point]),
        (40, []),
        (41, []),
        (50, []),
    ]:
        counts.append([record.value for record in monitor.observe(Assembled(items, []))])
    text = "no report for 10 s: the last step is {}."
    assert counts == [[], [], [text.format(0)], [], [], [], [text.format(3)], []]


def run(alerts: list[Any], values: list[float], **options: Any) -> list[Record]:
    """Return what a run writes that reports these values as ``loss``."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], alerts=alerts, on_nonfinite="ignore", **options) as run:
        for run.step, value in enumerate(values):
            jb.scalar("loss", value)
    return sink.records


def test_functions(caplog: pytest.LogCaptureFixture) -> None:
    """A function receives each alert, which is logged and written, too."""
    received: list[jb.Alert] = []
    records = run(["loss > 10", received.append], [1.0, 12.5, 2.0])
    text = "loss > 10: it is 12.5 at step 1."
    assert received == [jb.Alert("loss > 10", "in memory", "loss", 1, 12.5, text)]
    assert [(r.tag, r.step, r.value) for r in records if r.kind is Kind.TEXT] == [
        ("jaxboard/alerts/loss > 10", 1, text)
    ]
    assert caplog.messages == [f"jaxboard, run in memory: {text}"]


def test_one_entry_for_each_rule_and_step() -> None:
    """Several tags that one rule finds at one step are in one entry: TensorBoard shows no more."""
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], alerts=["* > 1"]):
        jb.scalars("m", {"a": 2.0, "b": 3.0, "c": 0.0})
    (entry,) = [record for record in sink.records if record.kind is Kind.TEXT]
    assert entry.tag == "jaxboard/alerts/* > 1"
    assert entry.value == "* > 1: m/a is 2 at step 0.\n\n* > 1: m/b is 3 at step 0."


def test_runs_below() -> None:
    """An alert about a run below names that run, and its entry is written there."""
    received: list[jb.Alert] = []
    sink = MemorySink()
    with jb.Run(None, sinks=[sink], alerts=["loss > 10", received.append]) as run:
        run.child("eval").scalar("loss", 11.0)
    assert [(alert.run, alert.text) for alert in received] == [
        ("in memory/eval", "loss > 10: loss of eval is 11 at step 0.")
    ]
    assert [record.run for record in sink.records if record.tag == "jaxboard/alerts/loss > 10"] == [
        "eval"
    ]


def test_receivers_alone() -> None:
    """A list without a rule has receivers of spikes and of values that are not finite."""
    received: list[jb.Alert] = []
    values = [2 + 0.1 * (n % 7) for n in range(120)]
    run([received.append], [*values, 99.0, *values[:3], np.nan])
    received.sort(key=lambda alert: alert.step)
    assert [(alert.rule, alert.step) for alert in received] == [
        ("* is spiking", 120),
        ("* is not finite", 124),
    ]
    assert received[0].text == (
        "* is spiking: loss rose to 99 at step 120, from 2.3 (the median of 100 points), and was back at step 121."
    )


def test_a_rule_without_telemetry() -> None:
    """Without telemetry only tags with a rule about spikes are checked."""
    values = [2 + 0.1 * (n % 7) for n in range(120)]
    for rule, tags in {
        "loss is spiking": {"jaxboard/spikes", "jaxboard/alerts/loss is spiking", "loss"},
        "other is spiking": {"loss"},
        "loss > 1000": {"loss"},
    }.items():
        records = run([rule], [*values, 99.0, *values], telemetry=False)
        assert {record.tag for record in records} == tags


def test_failing_and_slow_receivers(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that fails is logged once and breaks nothing; one that is slow delays no report."""
    gate, received = threading.Event(), []

    def failing(alert: jb.Alert) -> None:
        raise ValueError("no connection")

    def slow(alert: jb.Alert) -> None:
        gate.wait(20)
        received.append(alert.step)

    sink = MemorySink()
    with jb.Run(None, sinks=[sink], alerts=["a > 1", "b > 1", failing, slow]) as run:
        jb.scalar("a", 2.0)
        jb.scalar("b", 2.0)
        run.flush()  # while the receiver waits
        assert {record.tag for record in sink.records} == {
            "a",
            "b",
            "jaxboard/alerts/a > 1",
            "jaxboard/alerts/b > 1",
        }
        gate.set()
    assert received == [0, 0]
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    (error,) = errors
    assert error == (
        "jaxboard, run in memory: an alert could not be passed to the function "
        "test_failing_and_slow_receivers.<locals>.failing: ValueError: no connection\n"
        "    Alerts are also logged and written."
    )


def test_receivers_that_exit(caplog: pytest.LogCaptureFixture) -> None:
    """A receiver that calls ``sys.exit`` keeps no alert from the others."""
    received: list[str] = []

    def exiting(_: jb.Alert) -> None:
        raise SystemExit(3)

    with jb.Run(
        None,
        sinks=[MemorySink()],
        alerts=["a > 1", "b > 1", exiting, lambda a: received.append(a.tag)],
    ):
        jb.scalar("a", 2.0)
        jb.scalar("b", 2.0)
    assert received == ["a", "b"]
    assert "exiting: SystemExit: 3" in caplog.text


def test_a_receiver_that_closes_the_run(caplog: pytest.LogCaptureFixture) -> None:
    """The run is closed, later receivers get the alert, and the thread ends."""
    ended, threads = threading.Event(), []

    def closing(_: jb.Alert) -> None:
        run.close()

    def last(alert: jb.Alert) -> None:
        threads.append(threading.current_thread())
        ended.set()

    sink = MemorySink()
    run = jb.Run(None, sinks=[sink], alerts=["a > 1", closing, last])
    run.scalar("a", 2.0)
    assert ended.wait(20)
    assert run.closed
    threads[0].join(20)
    assert not threads[0].is_alive()
    assert [r for r in caplog.records if r.levelno == logging.ERROR] == []


def test_closing_without_a_receiver(caplog: pytest.LogCaptureFixture) -> None:
    """A run that closes before its receivers have returned logs that."""
    gate, started = threading.Event(), threading.Event()

    def hanging(_: jb.Alert) -> None:
        started.set()
        gate.wait(20)

    run = jb.Run(None, sinks=[MemorySink()], alerts=["a > 1", hanging])
    run.scalar("a", 2.0)
    run.flush()
    assert started.wait(20)
    run.close(timeout=0.2)
    gate.set()
    assert "after 0.2 s, the receivers of alerts have not returned." in caplog.text


def test_control_characters_in_a_tag(caplog: pytest.LogCaptureFixture) -> None:
    """The sentences of alerts, of spikes and of values that are not finite have escapes in place of them."""
    tag, shown = "a\x1b[31m", "a\\x1b[31m"
    caplog.set_level(logging.INFO, logger="jaxboard")
    with jb.Run(None, sinks=[MemorySink()], alerts=["* > 50"]) as run:
        for run.step in range(150):
            value = {110: 99.0, 149: np.nan}.get(run.step, 1 + run.step % 7 / 10)
            jb.scalar(tag, value)
    text = "\n".join(caplog.messages)
    assert "\x1b" not in text
    for sentence in (
        f"* > 50: {shown} is 99 at step 110.",
        f"{shown} rose to 99 at step 110",
        f"{shown} is nan at step 149",
    ):
        assert sentence in text


class Server(http.server.BaseHTTPRequestHandler):
    """Answers with the status in the path; keeps what is posted."""

    posted: list[tuple[str, str, Any]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(int(self.path.rsplit("/")[-1]))
        self.send_header("Location", "/secret/200")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 (its name there)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (its name there)
        """Print nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    """Return the address of a server, and collect what is posted to it in ``Server.posted``."""
    Server.posted = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_webhook(address: str) -> None:
    """An alert is posted as JSON, with the text where Slack and Discord look for it, before the run is closed."""
    run(["loss > 10", f"{address}/hook/200"], [1.0, np.inf])
    ((path, content_type, posted),) = Server.posted
    assert (path, content_type) == ("/hook/200", "application/json")
    message = "in memory: loss > 10: it is inf at step 1."
    assert posted == {
        "text": message,
        "content": message,
        "rule": "loss > 10",
        "run": "in memory",
        "tag": "loss",
        "step": 1,
        "value": "inf",
    }


def test_faults_of_webhooks(address: str, caplog: pytest.LogCaptureFixture) -> None:
    """Neither an error nor a redirect of the server raises. The log has the host, but not the rest, which may be secret."""
    urls = [f"{address}/secret/500", f"{address}/secret/302", "http://127.0.0.1:9/secret"]
    run(["loss > 10", *urls[:1]], [11.0])
    run(["loss > 10", *urls[1:2]], [11.0])
    run(["loss > 10", *urls[2:]], [11.0])
    assert [path for path, _, _ in Server.posted] == ["/secret/500", "/secret/302"]
    errors = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert [error.partition(": an alert")[2].partition("\n")[0] for error in errors[:2]] == [
        f" could not be passed to {address}: OSError: the server answered 500 Internal Server Error",
        f" could not be passed to {address}: OSError: the server answered 302 Found. Redirects are not followed",
    ]
    assert "Connection refused" in errors[2]
    assert "secret" not in caplog.text.replace("test_faults", "")


@pytest.mark.parametrize(
    ("alerts", "message"),
    [
        ("loss > 10", r"Run\(alerts='loss > 10'\): expected a list"),
        (3, r"Run\(alerts=3\): expected a list"),
        (["loss"], r"Run\(alerts=\[...\]\): expected a rule .* or a URL .*, got 'loss'"),
        ([3], "got 3"),
        (
            ["file:///etc/passwd"],
            "a webhook begins with https:// or http://, got 'file:///etc/passwd'",
        ),
        (["ftp://example.org/x"], "a webhook begins with"),
        (["https://"], "it is not a URL"),
        (["https://a:port/"], "it is not a URL"),
        (["https://example.org/\n"], "it is not a URL"),
    ],
)
def test_errors(alerts: Any, message: str) -> None:
    """A wrong list is an error when the run is opened, which leaves nothing open."""
    with pytest.raises(jb.UsageError, match=message):
        jb.Run(None, sinks=[MemorySink()], alerts=alerts)
    assert jb.current_run() is None
