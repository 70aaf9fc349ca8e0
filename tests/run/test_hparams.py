"""Configurations of all kinds become hyperparameters by name."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import types
import typing

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxboard as jb
from jaxboard.records import Kind
from jaxboard.sinks import MemorySink


def hparams(config):
    """Return the hyperparameters that a run records."""
    sink = MemorySink()
    jb.Run(None, hparams=config, sinks=[sink], telemetry=False).close()
    (record,) = sink.records
    assert record.kind is Kind.HPARAMS
    return record.value


class ConfigDict:
    """A configuration object that is no mapping, as ``ml_collections.ConfigDict``."""

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
        argparse.Namespace(lr=0.1, layers=argparse.Namespace(size=3)),
        types.SimpleNamespace(lr=np.float64(0.1), layers=Layers()),
        types.MappingProxyType({"lr": 0.1, "layers": Layers()}),
    ],
    ids=lambda config: type(config).__name__,
)
def test_configurations(config):
    """Dicts, dataclasses, NamedTuples, parsed arguments and configuration objects are the same."""
    assert hparams(config) == {"lr": 0.1, "layers/size": 3}


class Mode(enum.Enum):
    FAST = 1


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


def test_an_optimizer():
    """An optimizer, which is a NamedTuple of functions, is shown by their names."""
    assert set(hparams({"optimizer": optax.sgd(0.1)})) == {"optimizer/init", "optimizer/update"}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"a": {"key": jax.random.key(0)}}, "'a/key' is a PRNG key"),
        ({"keys": [jax.random.key(0)]}, "'keys' is a PRNG key"),
        ({"a/b": 1, "a": {"b": 2}}, "same name"),
        ({"a": 1, ConfigDict: 2, "b": {"c": 1}, "b/c": 2}, "same name"),
        (3, "got int"),
        ([1], "got list"),
        (Config, "got type"),
        (jnp.ones(3), "got ArrayImpl"),
    ],
)
def test_what_is_no_configuration(config, problem, logdir):
    """Keys, two values of one name and other objects raise, and no run is left open."""
    with pytest.raises(jb.UsageError, match=problem):
        jb.Run(logdir, hparams=config)
    assert jb.current_run() is None
