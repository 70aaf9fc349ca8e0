"""The graph of a function: its jaxpr as nested operations, small enough for TensorBoard's Graphs dashboard."""

from jaxboard._graph.nodes import graph_of as graph_of
