"""Configurations of all kinds become hyperparameters by name."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import enum
import functools
import pathlib
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from fork_server import run_in_fork
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.plugins.hparams import metadata

import jaxboard as jb
from jaxboard.records import Kind, MetricGoals
from jaxboard.sinks import MemorySink, _proto
from jaxboard.testing import capture


def hparams(config):
    """Return the hyperparameters that a run records."""
    sink = MemorySink()
    jb.Run(None, hparams=config, sinks=[sink], telemetry=False).close()
    (record,) = sink.records
    assert record.kind is Kind.HPARAMS
    return record.value


class FlagValues:
    """The flags of a program, as those of Abseil."""

    def __init__(self, **flags):
        self._flags = flags

    def flag_values_dict(self):
        return self._flags


class ConfigDict:
    """A configuration object that is not a mapping, such as ``ml_collections.ConfigDict``."""

    def __init__(self, **fields):
        self._fields_of_it = fields

    def items(self):
        return self._fields_of_it.items()


class Model:
    """A configuration object that only converts itself."""

    def to_dict(self):
        return {"lr": 0.1, "layers": {"size": 3}}


@dataclasses.dataclass
class Layers:
    size: int = 3


@dataclasses.dataclass(frozen=True)
class Config:
    lr: float = 0.1
    layers: Layers = dataclasses.field(default_factory=Layers)


class Named(typing.NamedTuple):
    lr: float = 0.1
    layers: dict = {"size": 3}  # noqa: RUF012


@pytest.mark.parametrize(
    "config",
    [
        {"lr": 0.1, "layers": {"size": 3}},
        Config(),
        Named(),
        ConfigDict(lr=0.1, layers=ConfigDict(size=3)),
        Model(),
        FlagValues(lr=0.1, layers=Layers()),
        argparse.Namespace(lr=0.1, layers=argparse.Namespace(size=3)),
        types.SimpleNamespace(lr=np.float64(0.1), layers=Layers()),
        types.MappingProxyType({"lr": 0.1, "layers": Layers()}),
    ],
    ids=lambda config: type(config).__name__,
)
def test_configurations(config):
    """Dicts, dataclasses, NamedTuples, parsed arguments and configuration objects are the same."""
    assert hparams(config) == {"lr": 0.1, "layers/size": 3}


class WithoutText:
    def __repr__(self):
        raise RuntimeError("no text")


class Mode(enum.Enum):
    FAST = 1


class Text(enum.StrEnum):
    FAST = "fast"


def activation(x):
    return x


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (activation, "activation"),
        (jax.nn.relu, "relu"),
        (jnp.float32, "float32"),
        (Layers, "Layers"),
        (functools.partial(activation, 1), "partial(activation)"),
        (Mode.FAST, "FAST"),
        (Text.FAST, "FAST"),
        (np.dtype("int8"), "int8"),
        (pathlib.PurePosixPath("a/b"), "a/b"),
        ({"b", "a", "c"}, "{'a', 'b', 'c'}"),
        (object(), "object"),
        ([activation, Layers()], ["activation", {"size": 3}]),
        ((1, 2), (1, 2)),
        (jnp.int32(3), 3),
        ("caf\udce9", "caf\\udce9"),
        (None, None),
    ],
)
def test_values(value, shown):
    """Functions and classes are shown by name, without addresses; numbers and texts as they are."""
    assert hparams({"x": value}) == {"x": shown}


def test_values_that_change_after_the_report():
    """The values are those at the call, also of an array that is donated and of an object that changes."""

    class Widths:
        def __init__(self, *widths):
            self.widths = [*widths]

        def __repr__(self):
            return f"Widths{self.widths}"

    values = {"array": jnp.arange(3), "widths": Widths(8, 16), "host": np.zeros(2)}
    sink = MemorySink()
    with jb.Run(None, sinks=[sink]):
        jb.hparams(values)
        jb.hparams(values)  # the same ones
        values["array"].delete()
        values["widths"].widths.clear()
        values["host"] += 1
    (record,) = sink.records
    assert record.value == {"array": "[0 1 2]", "widths": "Widths[8, 16]", "host": "[0. 0.]"}


def test_an_optimizer():
    """An optimizer is shown by the functions that made it and the numbers that these were given."""
    schedule = optax.cosine_decay_schedule(0.1, 10)
    shown = hparams(
        {
            "sgd": optax.sgd(0.5, momentum=0.9),
            "nested": optax.chain(optax.clip(2.0), optax.masked(optax.sgd(schedule), True)),
        }
    )
    assert shown["sgd"].startswith("chain(trace(decay=0.9, ")
    assert "-0.5" in shown["sgd"]
    assert shown["nested"].startswith("chain(clip(max_delta=2.0), masked(chain(")
    assert "scale_by_schedule()" in shown["nested"]
    many = optax.chain(*(optax.clip(float(n)) for n in range(100)))
    assert len(hparams({"many": many})["many"]) == 400


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"a": {"key": jax.random.key(0)}}, "'a/key' is a PRNG key"),
        ({"keys": [jax.random.key(0)]}, "'keys' is a PRNG key"),
        ({"a/b": 1, "a": {"b": 2}}, "same name"),
        ({"a": 1, ConfigDict: 2, "b": {"c": 1}, "b/c": 2}, "same name"),
        ({"a": {"bad": WithoutText()}}, "'a/bad' has no text: RuntimeError: no text"),
        (3, "got int"),
        ([1], "got list"),
        (Config, "got type"),
        (jnp.ones(3), "got ArrayImpl"),
    ],
)
def test_values_that_are_not_configurations(config, problem, logdir):
    """Keys, two values of one name and other objects raise, and no run is left open."""
    with pytest.raises(jb.UsageError, match=problem):
        jb.Run(logdir, hparams=config)
    assert jb.current_run() is None


def reported(*args, **options):
    """Return the records of one call of the verb, by kind."""
    with capture() as records:
        jb.hparams(*args, **options)
    return {record.kind: record for record in records}


def test_the_verb_is_the_argument_of_the_run():
    """``jb.hparams`` reports what ``Run(hparams=...)`` does, at the current step."""
    record = reported(Config(), step=7)[Kind.HPARAMS]
    assert (record.value, record.step, record.tag) == (hparams(Config()), 7, "hparams")


def test_metrics_are_scalars_or_goals():
    """A number is a scalar, and a goal is stored with the hyperparameters; scopes apply to both."""
    with jb.scope("test"):
        records = reported({"lr": 0.1}, metrics={"loss": "min", "accuracy": np.float32(0.5)})
    scalar = records[Kind.SCALAR]
    assert (scalar.tag, float(scalar.value)) == ("test/accuracy", 0.5)
    assert records[Kind.METRICS].value == MetricGoals({"test/loss": "min"}, {"lr": 0.1})


def test_a_run_has_one_set_of_hyperparameters():
    """Equal hyperparameters may be reported again, and others raise; a run below has its own."""
    sink = MemorySink()
    with jb.Run(None, hparams={"lr": 0.1}, sinks=[sink], telemetry=False) as run:
        run.hparams({"lr": np.float64(0.1)})
        with pytest.raises(jb.ReportError, match="has other hyperparameters"):
            jb.hparams({"lr": 0.2})
        run.child("other").hparams({"lr": 0.2})
    assert [(r.run, r.value) for r in sink.records] == [("", {"lr": 0.1}), ("other", {"lr": 0.2})]


@pytest.mark.parametrize(
    ("args", "options", "problem"),
    [
        ([3], {}, "expected a dict, a dataclass or a configuration object, got int."),
        ([{"a/b": 1, "a": {"b": 2}}], {}, "two hyperparameters have the same name"),
        ([{"key": jax.random.key(0)}], {}, "'key' is a PRNG key"),
        ([{}], {"metrics": ["loss"]}, "expected metrics= to be a dict of tags, such as"),
        ([{}], {"metrics": {"loss": "low"}}, "expected metric 'loss' to be a number, 'min' or 'max', got 'low'."),
    ],
)  # fmt: skip
def test_what_the_verb_refuses(args, options, problem):
    """The message names the line of the call, and nothing is reported."""
    with capture() as records, pytest.raises(jb.ReportError) as raised:
        jb.hparams(*args, **options)
    assert records == []
    assert "report 'hparams' (test_hparams.py:" in str(raised.value)
    assert problem in str(raised.value)


def test_tracing():
    """Under a transformation the verb raises."""
    with capture(), pytest.raises(jb.ReportError, match="hparams is for plain Python"):
        jax.jit(lambda x: jb.hparams({"x": 1}))(1.0)


class StatusSink(MemorySink):
    """A sink that notes whether the run has failed, before it is closed."""

    status = "open"

    def fail(self) -> None:
        assert self.status == "open"
        self.status = "failed"

    def close(self) -> None:
        self.status = "closed" if self.status == "open" else f"{self.status}, closed"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (None, "closed"),
        (ValueError(), "failed, closed"),
        (KeyboardInterrupt(), "failed, closed"),
        (SystemExit(), "closed"),
        (SystemExit(1), "failed, closed"),
    ],
    ids=["none", "exception", "ctrl-c", "exit", "exit 1"],
)
def test_the_exception_that_ends_a_run(error, status):
    """A sink is notified that an exception ended the block of the run."""
    sink = StatusSink()
    with contextlib.suppress(BaseException), jb.Run(None, sinks=[sink], telemetry=False):
        if error is not None:
            raise error
    assert sink.status == status


@pytest.mark.parametrize(
    "end", ["", "raise SystemExit", "raise ValueError", "os.kill(os.getpid(), 15)"]
)
def test_the_status_of_a_program(end, tmp_path):
    """The session of a program that ends with an exception or by SIGTERM is a failure."""
    program = f"import os, jaxboard as jb\njb.Run({str(tmp_path)!r}, hparams={{'lr': 0.1}})\n{end}"
    run_in_fork(program)
    (path,) = tmp_path.glob("*.tfevents.*")
    contents = [
        value.metadata.plugin_data.content
        for event in EventFileLoader(str(path)).Load()
        for value in event.summary.value
        if value.tag == metadata.SESSION_END_INFO_TAG
    ]
    (info,) = map(metadata.parse_session_end_info_plugin_data, contents)
    expected = (
        "STATUS_FAILURE"
        if end in ("raise ValueError", "os.kill(os.getpid(), 15)")
        else "STATUS_SUCCESS"
    )
    assert _proto.hparams_api.Status.Name(info.status) == expected
