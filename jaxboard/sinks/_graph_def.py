"""The encoding of graphs as TensorFlow's ``GraphDef``, which the Graphs dashboard reads."""

from __future__ import annotations

from jaxboard.records import Graph
from jaxboard.sinks import _proto


def encode_graph(graph: Graph) -> bytes:
    """Return a graph as a serialized ``GraphDef``.

    The dashboard shows the shapes from ``_output_shapes`` (tensorflow/core/framework/graph.proto).
    """
    graph_def = _proto.GraphDef()
    # The dashboard ignores it; TensorFlow refuses graphs without one.
    graph_def.versions.producer = 22
    for node in graph.nodes:
        message = graph_def.node.add(name=node.name, op=node.op, input=node.inputs)
        shapes = message.attr["_output_shapes"].list
        for _, shape in node.outputs:
            sizes = shapes.shape.add()
            for size in shape:
                sizes.dim.add(size=-1 if size is None else size)
        texts = {"dtype": ", ".join(dtype for dtype, _ in node.outputs), **node.attributes}
        for name, text in texts.items():
            if text:
                message.attr[name].s = text.encode()
    return graph_def.SerializeToString()


def encode_tagged_graph(graph: Graph) -> bytes:
    """Return a graph with a name of its own, as ``tf.summary.trace_export`` stores one: in a ``RunMetadata``."""
    metadata = _proto.RunMetadata()
    metadata.function_graphs.add().pre_optimization_graph.ParseFromString(encode_graph(graph))
    return metadata.SerializeToString()
