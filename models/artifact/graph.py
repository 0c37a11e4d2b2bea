"""An ONNX graph reduced to what it computes, so that the same weights give the same bytes.

Exporter and quantiser leave source paths, stack traces, their names and versions, and inferred shapes in a graph. None
of it is computed with, some of it is private, and on small models it is most of the file.
"""

from typing import Any

import onnx

OPSET = 20
PRODUCER = "roadworthy"


def stripped(model: Any) -> Any:
    """The model without metadata, documentation and inferred shapes, in place; `producer_name` is ours."""
    model.ClearField("metadata_props")
    model.ClearField("doc_string")
    model.ClearField("producer_version")
    model.producer_name = PRODUCER
    for function in model.functions:
        _strip(function)
        _strip_nodes(function.node)
    _strip_graph(model.graph)
    return model


def to_bytes(model: Any) -> bytes:
    """Deterministic serialisation; everything in one file."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def from_bytes(content: bytes) -> Any:
    """A checked model; raises what onnx raises for bytes that are none."""
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model)
    return model


def opset_of(model: Any) -> int:
    """Version of the standard operators."""
    return int(next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")))


def is_quantised(model: Any) -> bool:
    """Whether any operator works on quantised numbers."""
    return any("Quantize" in node.op_type or "Integer" in node.op_type for node in model.graph.node)


def _strip_graph(graph: Any) -> None:
    _strip(graph)
    graph.ClearField("value_info")
    for item in (*graph.input, *graph.output, *graph.initializer):
        _strip(item)
    _strip_nodes(graph.node)


def _strip_nodes(nodes: Any) -> None:
    for node in nodes:
        _strip(node)
        for attribute in node.attribute:
            attribute.ClearField("doc_string")
            for graph in (attribute.g, *attribute.graphs) if attribute.HasField("g") else attribute.graphs:
                _strip_graph(graph)


def _strip(item: Any) -> None:
    for field in ("metadata_props", "doc_string"):
        if field in item.DESCRIPTOR.fields_by_name:
            item.ClearField(field)
