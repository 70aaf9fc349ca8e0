"""The verbs, and the checks of their arguments."""

from jaxboard._emit.array import histogram as histogram
from jaxboard._emit.classification import confusion_matrix as confusion_matrix
from jaxboard._emit.classification import pr_curve as pr_curve
from jaxboard._emit.classification import roc_curve as roc_curve
from jaxboard._emit.embeddings import embedding as embedding
from jaxboard._emit.graph import graph as graph
from jaxboard._emit.host_only import figure as figure
from jaxboard._emit.host_only import text as text
from jaxboard._emit.hparams import hparams as hparams
from jaxboard._emit.keep import keep as keep
from jaxboard._emit.layouts import layout as layout
from jaxboard._emit.media import audio as audio
from jaxboard._emit.media import image as image
from jaxboard._emit.media import video as video
from jaxboard._emit.meshes import mesh as mesh
from jaxboard._emit.methods import VERBS as VERBS
from jaxboard._emit.methods import VerbMethods as VerbMethods
from jaxboard._emit.metrics import metric as metric
from jaxboard._emit.scalar import scalar as scalar
from jaxboard._emit.scalar import scalars as scalars
from jaxboard._emit.scope import scope as scope
from jaxboard._emit.scope import silent as silent
from jaxboard._emit.tap import tap as tap
from jaxboard._emit.tensors import tensor as tensor
from jaxboard._emit.watch import watch as watch
