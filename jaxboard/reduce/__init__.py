"""How several values of one tag become one: accumulators that merge."""

from jaxboard.reduce._reducer import REDUCTIONS as REDUCTIONS
from jaxboard.reduce._reducer import Reducer as Reducer
from jaxboard.reduce._reducer import State as State
from jaxboard.reduce._reducer import floats as floats
from jaxboard.reduce._table import reducer as reducer
