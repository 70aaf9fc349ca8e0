"""TensorBoard for JAX: report values where they are, inside anything that JAX transforms."""

from jaxboard import testing as testing
from jaxboard._compat import version as __version__
from jaxboard._emit import figure as figure
from jaxboard._emit import histogram as histogram
from jaxboard._emit import image as image
from jaxboard._emit import scalar as scalar
from jaxboard._emit import scalars as scalars
from jaxboard._emit import scope as scope
from jaxboard._emit import tap as tap
from jaxboard._emit import text as text
from jaxboard._emit import watch as watch
from jaxboard._errors import JaxboardError as JaxboardError
from jaxboard._errors import JaxboardWarning as JaxboardWarning
from jaxboard._errors import NonFiniteError as NonFiniteError
from jaxboard._errors import ProfileError as ProfileError
from jaxboard._errors import ReportError as ReportError
from jaxboard._errors import RunError as RunError
from jaxboard._profile import JAXProfiler as JAXProfiler
from jaxboard._profile import profile as profile
from jaxboard._profile import trace as trace
from jaxboard._run import Run as Run
from jaxboard._run import current_run as current_run
from jaxboard._run import memory_snapshot as memory_snapshot
from jaxboard._telemetry.settings import Telemetry as Telemetry
from jaxboard._trace.instrument import instrument as instrument

__all__ = [
    "JAXProfiler",
    "JaxboardError",
    "JaxboardWarning",
    "NonFiniteError",
    "ProfileError",
    "ReportError",
    "Run",
    "RunError",
    "Telemetry",
    "__version__",
    "current_run",
    "figure",
    "histogram",
    "image",
    "instrument",
    "memory_snapshot",
    "profile",
    "scalar",
    "scalars",
    "scope",
    "tap",
    "text",
    "trace",
    "watch",
]
