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

from models.compression.quantisation import quantise

Method = Literal["static", "dynamic", "fp16"]
MIN_VALUES = 64  # of a tensor that is worth the node which widens it
DYNAMIC = ("MatMul", "Gemm", "Gather", "LSTM", "GRU", "Attention")


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
    if not operators & set(DYNAMIC):
        raise ValueError(f"int8: expected {', '.join(DYNAMIC)} in {source.name}, got {', '.join(sorted(operators))}")
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"node_{number}"
    known = [name for name in DYNAMIC if name in operators]
    quantize_dynamic(model, target, op_types_to_quantize=known, per_channel=True, weight_type=QuantType.QInt8)


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
