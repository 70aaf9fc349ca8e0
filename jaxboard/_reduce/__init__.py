"""Reducers: how several values of one tag become one."""

from jaxboard._reduce.kinds import KINDS as KINDS
from jaxboard._reduce.kinds import ConfusionMatrixOptions as ConfusionMatrixOptions
from jaxboard._reduce.kinds import HistogramOptions as HistogramOptions
from jaxboard._reduce.kinds import LayerHealthOptions as LayerHealthOptions
from jaxboard._reduce.kinds import LeafHistogramsOptions as LeafHistogramsOptions
from jaxboard._reduce.kinds import NoiseScaleOptions as NoiseScaleOptions
from jaxboard._reduce.kinds import NormsOptions as NormsOptions
from jaxboard._reduce.kinds import StackAxis as StackAxis
from jaxboard._reduce.kinds import StackOptions as StackOptions
from jaxboard._reduce.kinds import ThresholdsOptions as ThresholdsOptions
from jaxboard._reduce.kinds import reducer as reducer
from jaxboard._reduce.layer_parts import Part as Part
from jaxboard._reduce.media_options import AudioOptions as AudioOptions
from jaxboard._reduce.media_options import BoxOptions as BoxOptions
from jaxboard._reduce.media_options import ImageOptions as ImageOptions
from jaxboard._reduce.media_options import MeshOptions as MeshOptions
from jaxboard._reduce.media_options import VideoOptions as VideoOptions
from jaxboard._reduce.metric_options import MetricOptions as MetricOptions
from jaxboard._reduce.reducers import REDUCTIONS as REDUCTIONS
from jaxboard._reduce.reducers import Reducer as Reducer
from jaxboard._reduce.reducers import State as State
from jaxboard._reduce.reducers import is_positive as is_positive
from jaxboard._reduce.reducers import replicated as replicated
from jaxboard._reduce.wide import WideInt as WideInt
from jaxboard._reduce.wide import floats as floats
