"""The verbs, and the checks of what they are given."""

from jaxboard._emit.tap import tap as tap
from jaxboard._emit.verbs import figure as figure
from jaxboard._emit.verbs import histogram as histogram
from jaxboard._emit.verbs import image as image
from jaxboard._emit.verbs import scalar as scalar
from jaxboard._emit.verbs import scalars as scalars
from jaxboard._emit.verbs import scope as scope
from jaxboard._emit.verbs import text as text
from jaxboard._emit.watch import watch as watch
