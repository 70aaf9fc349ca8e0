"""TensorBoard for JAX: report values from plain Python or from any code that JAX transforms."""

import importlib as _importlib
import typing as _typing

from jaxboard._emit import attention_entropy as attention_entropy
from jaxboard._emit import audio as audio
from jaxboard._emit import confusion_matrix as confusion_matrix
from jaxboard._emit import embedding as embedding
from jaxboard._emit import figure as figure
from jaxboard._emit import graph as graph
from jaxboard._emit import health as health
from jaxboard._emit import histogram as histogram
from jaxboard._emit import hparams as hparams
from jaxboard._emit import image as image
from jaxboard._emit import keep as keep
from jaxboard._emit import layout as layout
from jaxboard._emit import max_logit as max_logit
from jaxboard._emit import mesh as mesh
from jaxboard._emit import metric as metric
from jaxboard._emit import noise_scale as noise_scale
from jaxboard._emit import pr_curve as pr_curve
from jaxboard._emit import roc_curve as roc_curve
from jaxboard._emit import scalar as scalar
from jaxboard._emit import scalars as scalars
from jaxboard._emit import scope as scope
from jaxboard._emit import silent as silent
from jaxboard._emit import tap as tap
from jaxboard._emit import tensor as tensor
from jaxboard._emit import text as text
from jaxboard._emit import video as video
from jaxboard._emit import watch as watch
from jaxboard._errors import JaxboardError as JaxboardError
from jaxboard._errors import JaxboardWarning as JaxboardWarning
from jaxboard._errors import NonFiniteError as NonFiniteError
from jaxboard._errors import ProfileError as ProfileError
from jaxboard._errors import ReportError as ReportError
from jaxboard._errors import RunError as RunError
from jaxboard._errors import UsageError as UsageError
from jaxboard._trace.instrument import instrument as instrument

if _typing.TYPE_CHECKING:
    __version__: str
    from jaxboard import notebook as notebook
    from jaxboard import records as records
    from jaxboard import sinks as sinks
    from jaxboard import testing as testing
    from jaxboard._alerts import Alert as Alert
    from jaxboard._autopsy import Autopsy as Autopsy
    from jaxboard._autopsy import autopsy as autopsy
    from jaxboard._profile import JAXProfiler as JAXProfiler
    from jaxboard._profile import profile as profile
    from jaxboard._profile import trace as trace
    from jaxboard._read.read import read as read
    from jaxboard._run import ChildRun as ChildRun
    from jaxboard._run import Run as Run
    from jaxboard._run import current_run as current_run
    from jaxboard._run import memory_snapshot as memory_snapshot
    from jaxboard._summary_writer import SummaryWriter as SummaryWriter
    from jaxboard._telemetry.settings import Telemetry as Telemetry

__all__ = [
    "Alert",
    "Autopsy",
    "ChildRun",
    "JAXProfiler",
    "JaxboardError",
    "JaxboardWarning",
    "NonFiniteError",
    "ProfileError",
    "ReportError",
    "Run",
    "RunError",
    "SummaryWriter",
    "Telemetry",
    "UsageError",
    "__version__",
    "attention_entropy",
    "audio",
    "autopsy",
    "confusion_matrix",
    "current_run",
    "embedding",
    "figure",
    "graph",
    "health",
    "histogram",
    "hparams",
    "image",
    "instrument",
    "keep",
    "layout",
    "max_logit",
    "memory_snapshot",
    "mesh",
    "metric",
    "noise_scale",
    "pr_curve",
    "profile",
    "read",
    "roc_curve",
    "scalar",
    "scalars",
    "scope",
    "silent",
    "tap",
    "tensor",
    "text",
    "trace",
    "video",
    "watch",
]

# Only programs that open a run, or look for a fault, need these, so they are imported on first use. Models that report are often
# imported by programs that open none.
_LAZY = {
    "Alert": "jaxboard._alerts",
    "Autopsy": "jaxboard._autopsy",
    "autopsy": "jaxboard._autopsy",
    "JAXProfiler": "jaxboard._profile",
    "profile": "jaxboard._profile",
    "trace": "jaxboard._profile",
    "read": "jaxboard._read.read",
    "ChildRun": "jaxboard._run",
    "Run": "jaxboard._run",
    "current_run": "jaxboard._run",
    "memory_snapshot": "jaxboard._run",
    "SummaryWriter": "jaxboard._summary_writer",
    "Telemetry": "jaxboard._telemetry.settings",
}
_SUBMODULES = ("notebook", "records", "sinks", "testing")


def __getattr__(name: str) -> _typing.Any:
    if name in _SUBMODULES:
        return _importlib.import_module(f"jaxboard.{name}")
    if name == "__version__":
        return _version()
    if name == "load_ipython_extension":  # IPython calls it for `%load_ext jaxboard`.
        return _importlib.import_module("jaxboard.notebook").load_ipython_extension
    if name not in _LAZY:
        raise AttributeError(f"module 'jaxboard' has no attribute {name!r}")
    value = getattr(_importlib.import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def _version() -> str:
    from importlib import metadata

    try:
        return metadata.version("jaxboard-tb")
    except metadata.PackageNotFoundError:  # a source tree that is not installed
        return "0+unknown"


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_SUBMODULES, "__version__"})
