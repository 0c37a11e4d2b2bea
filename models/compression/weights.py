"""Finds the weights of an exported graph, the same in its float and in its int8 form.

Quantising renames weights, puts them in another order, stores them in 8 bits behind a `DequantizeLinear`, and turns
some of them round. What stays is each tensor's shape and what it is for: that is what is gone by here. Constants that
only scale or shift, as the means and ranges of the data do, are no weights.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Where", "Max", "Min", "Pow", "Clip"})
MIN_WEIGHTS = 256  # smaller tensors are left alone
_FLOATS = (np.dtype(np.float32), np.dtype(np.float16), np.dtype(np.float64))


@dataclass(frozen=True)
class Weight:
    """One tensor of weights; `names` are the initializers that hold it, several where it is stored more than once.

    values: float64, with a product's inputs along the rows, whichever way it is stored
    """

    names: tuple[str, ...]
    values: NDArray[np.float64]
    is_transposed: bool


def weights_of(model: Any) -> list[Weight]:
    """Every different tensor of weights with two dimensions or more, float or quantised."""
    found: dict[tuple[tuple[int, ...], bytes], Weight] = {}
    for name, values, is_transposed in _read(model):
        if sum(size > 1 for size in values.shape) < 2 or values.size < MIN_WEIGHTS:
            continue
        oriented = np.array(values.T if is_transposed else values, np.float64, order="C")
        place = oriented.shape, oriented.tobytes()
        names = found[place].names if place in found else ()
        found[place] = Weight(tuple(dict.fromkeys((*names, name))), oriented, is_transposed)
    return list(found.values())


def write_weight(model: Any, weight: Weight) -> None:
    """Put the values back as float32. Raises ValueError for a weight that is stored in 8 bits."""
    values = weight.values.T if weight.is_transposed else weight.values
    for tensor in model.graph.initializer:
        if tensor.name in weight.names:
            if numpy_helper.to_array(tensor).dtype != np.float32:
                raise ValueError(f"{tensor.name}: expected float32 weights, got a quantised graph; take the float one")
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))


def _read(model: Any) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """Name, values as they are stored but in floats, and whether their inputs run along the columns."""
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    users = _users(model)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and set(node.input) <= stored.keys():
            yield node.input[0], _dequantised(node, stored), _is_transposed(users[node.output[0]])
        elif node.op_type == "DynamicQuantizeLSTM":
            yield from _recurrent(node, stored)
    for name, values in stored.items():
        nodes = [node for node in users.get(name, ()) if "Quantize" not in node.op_type]
        if values.dtype in _FLOATS and any(node.op_type not in ELEMENTWISE for node in nodes):
            yield name, values, _is_transposed(nodes)


def _users(model: Any) -> dict[str, list[Any]]:
    """The nodes that take each tensor."""
    users: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)
    return users


def _is_transposed(nodes: list[Any]) -> bool:
    """Whether a product takes the tensor turned round; what quantises writes `Transpose` and MatMul for such a Gemm."""
    return any(
        node.op_type == "Transpose"
        or (node.op_type == "Gemm" and any(a.name == "transB" and a.i for a in node.attribute))
        for node in nodes
    )


def _dequantised(node: Any, stored: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    values, scale = stored[node.input[0]].astype(np.float64), stored[node.input[1]].astype(np.float64)
    zero = stored[node.input[2]].astype(np.float64) if len(node.input) > 2 else np.zeros_like(scale)
    if scale.size > 1:  # one per channel
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        shape = [1] * values.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return (values - zero) * scale


def _recurrent(node: Any, stored: dict[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any], bool]]:
    """W and R of a dynamically quantised LSTM, [D, inputs, 4 units] where the float one has [D, 4 units, inputs]."""
    for weight, scale, zero in ((1, 8, 9), (2, 10, 11)):
        values = stored[node.input[weight]].astype(np.float64)
        scales, zeros = (
            stored[node.input[place]].astype(np.float64).reshape(values.shape[0], 1, -1) for place in (scale, zero)
        )
        yield node.input[weight], np.swapaxes((values - zeros) * scales, -1, -2), False
