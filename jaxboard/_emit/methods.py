"""The reporting verbs as methods of a run."""

from __future__ import annotations

import contextlib
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any, Generic, Never, TypeVar, cast

from jaxboard._emit.array import histogram
from jaxboard._emit.attention import attention_entropy, max_logit
from jaxboard._emit.classification import confusion_matrix, pr_curve, roc_curve
from jaxboard._emit.embeddings import embedding
from jaxboard._emit.graph import graph
from jaxboard._emit.health import health
from jaxboard._emit.host_only import figure, text
from jaxboard._emit.hparams import hparams
from jaxboard._emit.keep import keep
from jaxboard._emit.layouts import layout
from jaxboard._emit.media import audio, image, video
from jaxboard._emit.meshes import mesh
from jaxboard._emit.metrics import metric
from jaxboard._emit.noise_scale import noise_scale
from jaxboard._emit.scalar import scalar, scalars
from jaxboard._emit.tap import tap
from jaxboard._emit.tensors import tensor
from jaxboard._emit.watch import watch

V = TypeVar("V", bound=Callable[..., object])


class _Method(Generic[V]):
    """A descriptor for a verb: on the class the verb itself, on a run the verb that reports to this run."""

    def __init__(self, verb: V):
        @functools.wraps(verb)
        def method(run: VerbMethods, /, *args: Never, **kwargs: Never) -> object:
            with run._active():  # noqa: SLF001 (declared below)
                return verb(*args, **kwargs)

        # The signature with the run in front, which Python leaves out where it shows that of a bound method.
        run = inspect.Parameter("run", inspect.Parameter.POSITIONAL_ONLY)
        signature = inspect.signature(verb)
        parameters = [run, *signature.parameters.values()]
        method.__signature__ = signature.replace(parameters=parameters)  # pyright: ignore[reportAttributeAccessIssue]
        self._verb = verb
        self._method = method

    def __get__(self, run: VerbMethods | None, owner: type) -> V:
        # A bound method, so that pickling it pickles the run, which raises.
        return self._verb if run is None else cast(V, types.MethodType(self._method, run))


class VerbMethods:
    """Base class of :class:`jaxboard.Run`: every verb that reports, with the signature of the function.

    ``scope`` is not a method, as it applies to all runs.
    """

    scalar = _Method(scalar)
    scalars = _Method(scalars)
    metric = _Method(metric)
    histogram = _Method(histogram)
    audio = _Method(audio)
    image = _Method(image)
    video = _Method(video)
    mesh = _Method(mesh)
    pr_curve = _Method(pr_curve)
    roc_curve = _Method(roc_curve)
    confusion_matrix = _Method(confusion_matrix)
    text = _Method(text)
    figure = _Method(figure)
    hparams = _Method(hparams)
    layout = _Method(layout)
    embedding = _Method(embedding)
    graph = _Method(graph)
    tensor = _Method(tensor)
    keep = _Method(keep)
    watch = _Method(watch)
    health = _Method(health)
    noise_scale = _Method(noise_scale)
    attention_entropy = _Method(attention_entropy)
    max_logit = _Method(max_logit)
    tap = _Method(tap)

    def _active(self) -> contextlib.AbstractContextManager[Any]:
        """Return a context in which this run is the active run of the current thread.

        Raises:
            RunError: the run is closed, and JAX is not tracing.
        """
        raise NotImplementedError


VERBS = tuple(name for name, value in vars(VerbMethods).items() if isinstance(value, _Method))
"""The names of all verbs that report. Tests compare other lists of verbs with this one."""
