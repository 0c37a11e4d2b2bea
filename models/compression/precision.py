"""Fewer bits per number: one exported graph in int8, static or dynamic, or in float16.

- static: int8, ranges of what flows through are measured on train samples beforehand (`quantisation.py`)
- dynamic: int8, they are measured at every request; weights of matrix products are int8, per channel
- fp16: weights are stored in half precision and widened when the graph is loaded, so it answers as fast as before

ONNX Runtime's own conversion to float16 computes in half precision, which its CPU kernels do not have for most
operators: it puts casts around every one. What was measured is in `models/README.md`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from models.compression.quantisation import quantise

Method = Literal["static", "dynamic", "fp16"]
MIN_VALUES = 64  # of a tensor that is worth the node which widens it
DYNAMIC = ("MatMul", "Gather", "LSTM", "Attention")


def reduce_precision(
    method: Method, source: Path, target: Path, calibration: Iterator[Mapping[str, NDArray[Any]]]
) -> None:
    """Write the graph of `source` to `target` with fewer bits; `calibration` is read by `static` only.

    Raises ValueError when nothing in the graph could be reduced.
    """
    if method == "static":
        quantise(source, target, calibration)
    elif method == "dynamic":
        to_int8_dynamic(source, target)
    else:
        to_float16(source, target)


def to_int8_dynamic(source: Path, target: Path) -> None:
    """Weights of matrix products as int8; what flows into them is quantised anew for each request."""
    model = onnx.load(source)
    operators = {node.op_type for node in model.graph.node}
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    _gemm_to_matmul(model)
    known = [name for name in DYNAMIC if name in operators | {"MatMul"}]
    add_pre_process_metadata(model)
    quantize_dynamic(model, target, op_types_to_quantize=known, per_channel=True, weight_type=QuantType.QInt8)
    made = {node.op_type for node in onnx.load(target).graph.node} - operators
    if not any("Integer" in name or "Quantize" in name for name in made):
        target.unlink()
        raise ValueError(f"int8: expected products with weights in {source.name}, got {', '.join(sorted(operators))}")


def _gemm_to_matmul(model: Any) -> None:
    """Plain `Gemm` with weights as `MatMul` and `Add`: ONNX Runtime has no dynamic int8 for it."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    for place, node in [(place, node) for place, node in enumerate(model.graph.node) if node.op_type == "Gemm"][::-1]:
        set_to = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        is_plain = set_to.get("alpha", 1.0) == 1.0 == set_to.get("beta", 1.0) and not set_to.get("transA")
        if not is_plain or node.input[1] not in weights:
            continue
        product, weight = f"{node.output[0]}.product", node.input[1]
        if set_to.get("transB"):
            turned = np.ascontiguousarray(numpy_helper.to_array(weights[weight]).T)
            weight = f"{weight}.turned"
            if weight not in weights:
                model.graph.initializer.append(numpy_helper.from_array(turned, weight))
                weights[weight] = model.graph.initializer[-1]
        has_bias = len(node.input) > 2 and bool(node.input[2])
        outputs = [product] if has_bias else [node.output[0]]
        made = [helper.make_node("MatMul", [node.input[0], weight], outputs, name=f"{node.name}.product")]
        if has_bias:
            made.append(helper.make_node("Add", [product, node.input[2]], [node.output[0]], name=f"{node.name}.bias"))
        model.graph.node.remove(node)
        for one in made[::-1]:
            model.graph.node.insert(place, one)
    _drop_unused(model)


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in node.input}
    for tensor in [tensor for tensor in model.graph.initializer if tensor.name not in used]:
        model.graph.initializer.remove(tensor)


def to_float16(source: Path, target: Path) -> None:
    """Weights in half precision behind a `Cast`; inputs, outputs and the arithmetic stay float32.

    Raises ValueError where no weights are large enough, or one would overflow.
    """
    model = onnx.load(source)
    large = [one for one in model.graph.initializer if _is_large(one)]
    if not large:
        raise ValueError(f"fp16: expected a tensor of {MIN_VALUES} or more weights in {source.name}, got none")
    for tensor in large:
        values = numpy_helper.to_array(tensor)
        if float(np.abs(values).max()) > float(np.finfo(np.float16).max):
            raise ValueError(f"fp16: {tensor.name} in {source.name} holds values above 65504")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.float16"))
        model.graph.node.insert(0, helper.make_node("Cast", [tensor.name], [name], to=TensorProto.FLOAT))
    onnx.save(model, target)


def _is_large(tensor: Any) -> bool:
    return tensor.data_type == TensorProto.FLOAT and int(np.prod(tensor.dims)) >= MIN_VALUES
