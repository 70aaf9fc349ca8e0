"""Every public function and method, and what a correct program passes for each parameter."""

from __future__ import annotations

import dataclasses
import inspect
import os
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np
from flax import nnx
from fuzz.values import ANYTHING, Value

import jaxboard
import jaxboard as jb
import jaxboard.sinks
import jaxboard.testing
from jaxboard.sinks import _proto

EXEMPT = {
    "__version__": "a text",
    "Alert": "a record, which checks no argument",
    "Autopsy": "a record, which checks no argument",
    "autopsy": "it calls a function of the user with any arguments: tests/autopsy",
    "graph": "it traces a function of the user with any arguments: tests/graph/test_graph.py",
    "Run.graph": "as above",
    "ChildRun.graph": "as above",
    "SummaryWriter.add_graph": "as above",
    "sinks.Batch": "a type alias",
    "sinks.Kind": "an enumeration",
    "sinks.records": "an iteration over plain records",
    "sinks.Sink": "an interface",
}
"""Public names without a test here, and the reason. Exceptions take any arguments, and records check none."""


def _good(**makers: Callable[[Any], Any]) -> list[Value]:
    return [Value(name, make) for name, make in makers.items()]


def _step_function(*args: object) -> int:
    return 7


GOOD: dict[str, list[Value]] = {
    "tag": _good(loss=lambda x: "loss", unicode_tag=lambda x: "é/⊕"),
    "prefix": _good(losses=lambda x: "losses"),
    "value": _good(number=lambda x: 0.5, traced_value=lambda x: x, text_value=lambda x: "text"),
    "values": _good(array=lambda x: np.arange(5.0), traced_values=lambda x: jnp.ones(3) * x),
    "x": _good(traced_x=lambda x: x, array_x=lambda x: jnp.ones(2)),
    "tree": _good(params=lambda x: {"w": jnp.ones((2, 2)), "b": jnp.ones(2) * x}),
    "relative_to": _good(params=lambda x: {"w": jnp.ones((2, 2)), "b": jnp.ones(2)}),
    "params": _good(layers=lambda x: {"a": {"w": jnp.ones((2, 2)) * x, "b": jnp.ones(2)}}),
    "grads": _good(
        none=lambda x: None, layers=lambda x: {"a": {"w": jnp.ones((2, 2)), "b": jnp.ones(2) * x}}
    ),
    "updates": _good(none=lambda x: None, layers=lambda x: {"a": {"w": jnp.ones((2, 2))}}),
    "activations": _good(none=lambda x: None, layer=lambda x: {"a": jnp.ones(3) * x}),
    "split": _good(nothing=lambda x: (), layers=lambda x: ["a"]),
    "depth": _good(none=lambda x: None, one=lambda x: 1),
    "curves": _good(yes=lambda x: True),
    "small": _good(gradient=lambda x: {"w": jnp.ones(2) * x}, norm=lambda x: 2.0),
    "large": _good(gradient=lambda x: {"w": jnp.ones(2) * x}, norm=lambda x: 1.0),
    "small_batch": _good(two=lambda x: 2),
    "large_batch": _good(eight=lambda x: 8),
    "logits": _good(square=lambda x: np.eye(3), traced_logits=lambda x: jnp.ones((3, 3)) * x),
    "what": _good(norm=lambda x: "norm", two=lambda x: ["norm", "histogram"]),
    "step": _good(five=lambda x: 5, numpy_five=lambda x: np.int32(5)),
    "start_step": _good(three=lambda x: 3),
    "every": _good(once=lambda x: 1, every_two=lambda x: 2),
    "reduce": _good(mean=lambda x: "mean", last=lambda x: "last", stack=lambda x: "stack"),
    "weight": _good(two=lambda x: 2.0),
    "finish": _good(exp=lambda x: "exp", function=lambda x: abs),
    "where": _good(yes=lambda x: True, no=lambda x: np.bool_(False)),
    "runs": _good(vmap=lambda x: "vmap", no=lambda x: False),
    "max_images": _good(two=lambda x: 2),
    "range": _good(signed=lambda x: (-1, 1)),
    "close": _good(no=lambda x: False),
    "name": _good(encoder=lambda x: "encoder"),
    "fn": _good(jitted=lambda x: jax.jit(lambda y: y * 2), plain=lambda x: lambda y: y * 2),
    "advance": _good(no=lambda x: False),
    "delivery": _good(callback=lambda x: "callback", output=lambda x: "output"),
    "gate": _good(cond=lambda x: "cond"),
    "stream": _good(ten=lambda x: 10),
    "progress": _good(no=lambda x: False),
    "exact": _good(yes=lambda x: True),
    "hparams": _good(lr=lambda x: {"lr": 0.1, "layers": [1, 2]}),
    "flush_secs": _good(hour=lambda x: 3600.0),
    "overflow": _good(drop=lambda x: "drop"),
    "max_frames": _good(thousand=lambda x: 1000),
    "max_bytes": _good(megabyte=lambda x: 2**20),
    "timeout": _good(ten=lambda x: 10.0, now=lambda x: 0),
    "run": _good(nothing=lambda x: object()),
    "telemetry": _good(on=lambda x: True, off=lambda x: False),
    "alerts": _good(
        rule=lambda x: ["loss > 10"], receivers=lambda x: [print, "no report for 2 hours"]
    ),
    "on_nonfinite": _good(ignore=lambda x: "ignore", function=lambda x: print),
    "select": _good(off=lambda x: {"debug/*": None}, often=lambda x: {"*": 2}),
    "path": _good(file=lambda x: "snapshot.prof"),
    "window": _good(second=lambda x: 1.0),
    "per_call": _good(examples=lambda x: {"step": {"examples": 32}}),
    "peak_flops": _good(tera=lambda x: 1e12),
    "steps": _good(range=lambda x: range(10**6, 10**6 + 2), text=lambda x: "10..20"),
    "host_level": _good(one=lambda x: 1),
    "python": _good(yes=lambda x: True),
    "hlo": _good(no=lambda x: False),
    "sync": _good(auto=lambda x: "auto"),
    "max_seconds": _good(two=lambda x: 2.0),
    "every_secs": _good(hour=lambda x: 3600.0),
    "slow": _good(factor=lambda x: 1.5),
    "advanced": _good(gpu=lambda x: {"gpu_max_activity_api_events": 10}),
    "nsys": _good(no=lambda x: False),
    "on_error": _good(warn=lambda x: "warn"),
    "number": _good(three=lambda x: 3),
    "trainer": _good(any=lambda x: object()),
    "batch": _good(three=lambda x: 3),
    "epoch": _good(three=lambda x: 3),
    "samples": _good(
        mono=lambda x: np.zeros(8, np.float32), traced_samples=lambda x: jnp.ones(8) * x
    ),
    "sample_rate": _good(telephone=lambda x: 8000),
    "max_sounds": _good(two=lambda x: 2),
    "frames": _good(clip=lambda x: np.zeros((2, 4, 4, 3), np.uint8)),
    "fps": _good(four=lambda x: 4),
    "max_videos": _good(two=lambda x: 2),
    "layout": _good(automatic=lambda x: None),
    "cmap": _good(viridis=lambda x: "viridis"),
    "grid": _good(yes=lambda x: True),
    "boxes": _good(one=lambda x: np.array([[0.0, 0.0, 2.0, 2.0]])),
    "labels": _good(one=lambda x: ["cat"]),
    "class_names": _good(two=lambda x: ["cat", "dog"]),
    "vertices": _good(triangle=lambda x: np.zeros((3, 3), np.float32)),
    "faces": _good(one=lambda x: np.array([[0, 1, 2]])),
    "colors": _good(red=lambda x: np.full((3, 3), 255, np.uint8)),
    "config": _good(camera=lambda x: {"camera": {"cls": "PerspectiveCamera"}}),
    "max_meshes": _good(two=lambda x: 2),
    "resume": _good(automatic=lambda x: "auto", no=lambda x: False),
    "processes": _good(one=lambda x: "one", two=lambda x: [0, 1]),
    "hang_secs": _good(minute=lambda x: 60.0, never=lambda x: None),
    "max_file_bytes": _good(megabyte=lambda x: 2**20),
    "predictions": _good(three=lambda x: np.array([0.1, 0.6, 0.8], np.float32)),
    "classes": _good(automatic=lambda x: None),
    "weights": _good(three=lambda x: np.array([1.0, 2.0, 0.0], np.float32)),
    "num_thresholds": _good(ten=lambda x: 10),
    "vectors": _good(three=lambda x: np.eye(3, dtype=np.float32)),
    "metadata_header": _good(automatic=lambda x: None),
    "images": _good(three=lambda x: np.zeros((3, 4, 4, 1), np.float32)),
    "walltime": _good(then=lambda x: 1700000000.0),
    "bins": _good(three=lambda x: 3),
    "counts": _good(automatic=lambda x: None),
    "edges": _good(automatic=lambda x: None),
    "metrics": _good(loss=lambda x: {"loss": "min"}),
    "categories": _good(losses=lambda x: {"losses": {"all": ["loss.*"]}}),
    "plugin": _good(mine=lambda x: "mine"),
    "content": _good(nothing=lambda x: b""),
    "data_class": _good(tensor=lambda x: "tensor"),
    "display_name": _good(nothing=lambda x: ""),
    "description": _good(nothing=lambda x: ""),
    "state": _good(none=lambda x: None),
    "hidden": _good(nothing=lambda x: {}),
    "tags": _good(loss=lambda x: "loss", several=lambda x: ["loss", "train/*"]),
    "kind": _good(scalar=lambda x: "scalar"),
    "keep": _good(all=lambda x: "all"),
    "frame": _good(pandas=lambda x: "pandas"),
    "logs": _good(loss=lambda x: {"loss": 1.0}),
    "comment": _good(text=lambda x: "_lr_0.1"),
    "purge_step": _good(three=lambda x: 3),
    "max_queue": _good(ten=lambda x: 10),
    "filename_suffix": _good(text=lambda x: ".test"),
    "write_to_disk": _good(no=lambda x: False),
    "log_dir": _good(nothing=lambda x: None),
    "comet_config": _good(disabled=lambda x: {"disabled": True}),
    "global_step": _good(
        five=lambda x: 5, float_five=lambda x: 5.5, device_five=lambda x: jnp.int32(5)
    ),
    "scalar_value": _good(number=lambda x: 0.5, array_value=lambda x: jnp.ones((1, 1))),
    "summary_description": _good(text=lambda x: "**loss**"),
    "new_style": _good(yes=lambda x: True),
    "double_precision": _good(yes=lambda x: True),
    "main_tag": _good(loss=lambda x: "train/loss"),
    "tag_scalar_dict": _good(two=lambda x: {"a": 0.5, "b": jnp.float32(1)}),
    "category": _good(losses=lambda x: "losses"),
    "title": _good(loss=lambda x: "loss"),
    "hparam_dict": _good(lr=lambda x: {"lr": 0.1}),
    "metric_dict": _good(loss=lambda x: {"loss": 0.5}),
    "hparam_domain_discrete": _good(lr=lambda x: {"lr": [0.1, 0.2]}, nothing=lambda x: None),
    "run_name": _good(first=lambda x: "first"),
    "max_bins": _good(five=lambda x: 5),
    "min": _good(zero=lambda x: 0.0),
    "max": _good(three=lambda x: 3.0),
    "num": _good(three=lambda x: 3),
    "sum": _good(three=lambda x: 3.0),
    "sum_squares": _good(three=lambda x: 3.0),
    "bucket_limits": _good(two=lambda x: [1.0, 3.0]),
    "bucket_counts": _good(two=lambda x: [1, 2]),
    "img_tensor": _good(image=lambda x: np.zeros((3, 4, 4), np.float32)),
    "dataformats": _good(usual=lambda x: "CHW", lower=lambda x: "chw"),
    "box_tensor": _good(one=lambda x: np.array([[0.0, 0.0, 2.0, 2.0]])),
    "rescale": _good(two=lambda x: 2),
    "figure": _good(figure=lambda x: matplotlib.figure.Figure((1, 1))),
    "vid_tensor": _good(clip=lambda x: np.zeros((2, 2, 3, 4, 4), np.uint8)),
    "snd_tensor": _good(mono=lambda x: np.zeros(8, np.float32)),
    "text_string": _good(text=lambda x: "**text**"),
    "mat": _good(three=lambda x: np.eye(3)),
    "metadata": _good(three=lambda x: ["a", "b", "c"]),
    "label_img": _good(three=lambda x: np.zeros((3, 1, 4, 4))),
    "true_positive_counts": _good(two=lambda x: [2, 1]),
    "false_positive_counts": _good(two=lambda x: [3, 0]),
    "true_negative_counts": _good(two=lambda x: [0, 3]),
    "false_negative_counts": _good(two=lambda x: [0, 1]),
    "precision": _good(two=lambda x: [0.4, 1.0]),
    "recall": _good(two=lambda x: [1.0, 0.5]),
    "config_dict": _good(camera=lambda x: {"camera": {"cls": "PerspectiveCamera"}}),
    "onnx_model_file": _good(file=lambda x: "model.onnx"),
    "xmlname": _good(file=lambda x: "model.xml"),
    "event": _good(nothing=lambda x: _proto.Event(step=3)),
    "summary": _good(nothing=lambda x: _proto.Summary()),
    "tensor": _good(matrix=lambda x: np.eye(2)),
}
"""Correct values of each parameter, by its name. Directories, sinks and figures are in ``good_values``."""


def good_values(function: str, parameter: str, directory: str) -> list[Value]:  # noqa: C901, PLR0912 (a table)
    """Return correct values of a parameter of a public function. A new parameter needs an entry."""
    match function, parameter:
        case "figure" | "Run.figure" | "ChildRun.figure", "value":
            return _good(figure=lambda x: matplotlib.figure.Figure((1, 1)))
        case "Run", "sinks":
            return _good(memory=lambda x: [jb.sinks.MemorySink()], none=lambda x: [])
        case "instrument", "step":
            return _good(function=lambda x: _step_function)
        case "hparams", "values":
            return _good(lr=lambda x: {"lr": 0.1})
        case "pr_curve" | "roc_curve", "labels":
            return _good(three=lambda x: np.array([0, 1, 1]))
        case "confusion_matrix", "labels" | "predictions":
            return _good(three=lambda x: np.array([0, 1, 1]))
        case "metric" | "Run.metric" | "ChildRun.metric", "state":
            return _good(average=lambda x: nnx.metrics.Average())
        case "metric" | "Run.metric" | "ChildRun.metric", "reduce":
            return _good(merge=lambda x: "merge", last=lambda x: "last")
        case "read", "logdir":
            return _good(directory=lambda x: directory)
        case "image", "value":
            return _good(
                image=lambda x: np.zeros((4, 4, 1)), traced_image=lambda x: jnp.ones((4, 4, 3)) * x
            )
        case "SummaryWriter.add_custom_scalars", "layout":
            return _good(losses=lambda x: {"losses": {"all": ["Multiline", ["loss.*"]]}})
        case (
            "SummaryWriter.add_custom_scalars_multilinechart"
            | "SummaryWriter.add_custom_scalars_marginchart",
            "tags",
        ):
            return _good(three=lambda x: ["loss", "low", "high"])
        case "SummaryWriter.add_images", "dataformats":
            return _good(usual=lambda x: "NCHW", list=lambda x: "CHW")
        case "SummaryWriter.add_images", "img_tensor":
            return _good(
                images=lambda x: np.zeros((2, 3, 4, 4)), list=lambda x: [jnp.ones((3, 4, 4))] * 2
            )
        case "SummaryWriter.add_video", "dataformats":
            return _good(usual=lambda x: "NTCHW")
        case "SummaryWriter.add_pr_curve", "labels":
            return _good(three=lambda x: np.array([0, 1, 1]))
        case "SummaryWriter.add_mesh", "colors":
            return _good(red=lambda x: np.full((3, 3), 255))
        case (
            "Run" | "sinks.TensorBoardSink" | "profile" | "JAXProfiler" | "SummaryWriter",
            "logdir",
        ):
            return _good(directory=lambda x: os.path.join(directory, "logs"))
        case "profile" | "JAXProfiler", "every":
            return _good(hundred=lambda x: 100)
        case "memory_snapshot", "path":
            return _good(file=lambda x: os.path.join(directory, "memory.prof"))
        case _:
            return GOOD[parameter]


def any_values(function: str, parameter: str) -> list[Value]:
    """Return the values that a wrong program may pass, except functions that raise errors of their own."""
    if function.endswith("figure") and parameter in ("value", "figure"):
        own = ("a_function", "failing_function", "hostile")
        return [value for value in ANYTHING if value.name not in own]
    if (function, parameter) == (
        "read",
        "logdir",
    ):  # It searches a directory: not the whole machine.
        return [value for value in ANYTHING if value.name != "slashes"]
    if (function, parameter) == ("instrument", "step"):
        own = ("a_function", "a_type", "failing_function", "hostile", "any_attribute")
        return [value for value in ANYTHING if value.name not in own]
    return ANYTHING


def arguments_of_a_program() -> list[Value]:
    """Return the values that a jitted function may be called with, except those with which JAX breaks the process."""
    broken = ("cycle", "cyclic_dict", "deep", "petabytes", "more_than_possible")
    return [value for value in ANYTHING if value.name not in broken]


@dataclasses.dataclass(frozen=True)
class Function:
    """A public function, method, constructor or settable property.

    ``of`` makes the callable from an instance for a method, and ignores its argument otherwise.
    """

    name: str
    owner: str
    of: Callable[[Any], Callable[..., Any]]
    parameters: tuple[inspect.Parameter, ...]


def public_functions() -> list[Function]:
    """Return everything that a user can call, by the public names of the package."""
    found = [each for name in jb.__all__ for each in _functions(name, getattr(jb, name))]
    found += [
        each
        for name, value in vars(jaxboard.testing).items()
        if not name.startswith("_") and getattr(value, "__module__", "") == "jaxboard.testing"
        for each in _functions(f"testing.{name}", value)
    ]
    for name in jaxboard.sinks.__all__:
        found += _functions(f"sinks.{name}", getattr(jaxboard.sinks, name))
    return found


def _is_exempt(name: str, value: Any) -> bool:
    is_exception = isinstance(value, type) and issubclass(value, BaseException)
    is_record = name.startswith("sinks.") and dataclasses.is_dataclass(value)
    return name in EXEMPT or is_exception or is_record


def _functions(name: str, value: Any) -> Iterator[Function]:
    if _is_exempt(name, value):
        return
    if not isinstance(value, type):
        yield _function(name, "", lambda _: value, value)
        return
    if name != "ChildRun":  # made by run.child()
        yield _function(name, "", lambda _: value, value)
    if name.startswith(
        "sinks."
    ):  # The flusher calls its methods: tests/sinks/test_lost_records.py.
        return
    for attribute in dir(value):
        if attribute.startswith("_") or f"{name}.{attribute}" in EXEMPT:
            continue
        static = inspect.getattr_static(value, attribute)
        if isinstance(static, property):
            if static.fset is not None:
                yield _setter(f"{name}.{attribute}", name, attribute)
        elif callable(getattr(value, attribute)):
            bound = getattr(value, attribute)
            is_verb = not isinstance(static, types.FunctionType)
            yield _function(
                f"{name}.{attribute}",
                name,
                lambda owner, attribute=attribute: getattr(owner, attribute),
                bound,
                skip=0 if is_verb else 1,
            )


def _function(name, owner, of, value, skip=0) -> Function:
    parameters = tuple(inspect.signature(value).parameters.values())[skip:]
    return Function(name, owner, of, parameters)


def _setter(name, owner, attribute) -> Function:
    parameter = inspect.Parameter("step", inspect.Parameter.POSITIONAL_ONLY)
    assert attribute == "step", f"add a strategy for {name}"
    return Function(
        name, owner, lambda run: lambda value: setattr(run, attribute, value), (parameter,)
    )
