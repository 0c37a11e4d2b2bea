"""int8 of single graphs; every family's own graph is quantised in the conformance test."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.compression.quantisation import quantise


def save_graph(path: Path, nodes: list, weights: dict[str, np.ndarray], shape: list) -> None:
    tensors = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    source, sink = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("x", "y"))
    graph = helper.make_graph(nodes, "g", [source], [sink], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


def test_weights_are_int8_per_channel_and_physical_inputs_stay_float(tmp_path: Path):
    random = np.random.default_rng(0)
    first, second = (random.normal(size=(16, 16)).astype(np.float32) * np.logspace(-2, 1, 16) for _ in range(2))
    nodes = [
        helper.make_node("MatMul", ["x", "first"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "second"], ["y"]),
    ]
    weights = {"first": first.astype(np.float32), "second": second.astype(np.float32)}
    save_graph(tmp_path / "model.onnx", nodes, weights, ["B", 16])
    samples = random.normal(size=(8, 32, 16)).astype(np.float32)
    quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", ({"x": batch} for batch in samples))
    model = onnx.load(tmp_path / "int8.onnx")
    kinds = [tensor.data_type for tensor in model.graph.initializer if tuple(tensor.dims) == (16, 16)]
    assert kinds == [TensorProto.INT8] * 2
    quantised = [node.input[0] for node in model.graph.node if node.op_type == "QuantizeLinear"]
    assert quantised == ["r"], "only what flows into the second product"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    hidden = np.maximum(samples[0] @ weights["first"], 0)
    difference = np.abs(session.run(None, {"x": samples[0]})[0] - hidden @ weights["second"]).mean(axis=0)
    scale = np.abs(hidden @ weights["second"]).mean(axis=0)
    assert (difference < 0.05 * scale).all(), "small channels are as exact as large ones"


def test_a_graph_without_products_is_refused(tmp_path: Path):
    save_graph(tmp_path / "model.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ["B", 4])
    with pytest.raises(ValueError, match=r"int8: expected MatMul, Gemm or Conv in model\.onnx, got Relu"):
        quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", iter([]))
