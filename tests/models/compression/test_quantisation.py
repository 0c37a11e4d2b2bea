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


def test_weights_are_int8_per_channel_and_outputs_stay_float(tmp_path: Path):
    random = np.random.default_rng(0)
    weight = random.normal(size=(16, 16)).astype(np.float32) * np.logspace(-2, 1, 16, dtype=np.float32)
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    save_graph(tmp_path / "model.onnx", nodes, {"w": weight, "b": np.ones(16, np.float32)}, ["B", 16])
    samples = random.normal(size=(8, 32, 16)).astype(np.float32)
    quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", ({"x": batch} for batch in samples))
    model = onnx.load(tmp_path / "int8.onnx")
    kinds = {tensor.data_type for tensor in model.graph.initializer if numpy_helper.to_array(tensor).shape == (16, 16)}
    assert kinds == {TensorProto.INT8}
    assert [node.op_type for node in model.graph.node].count("QuantizeLinear") == 1, "the input of the product"
    assert not any(node.name for node in model.graph.node)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    difference = np.abs(session.run(None, {"x": samples[0]})[0] - (samples[0] @ weight + 1)).mean(axis=0)
    assert (difference < 0.02 * np.abs(weight).sum(axis=0)).all(), "small channels are as exact as large ones"


def test_a_graph_without_products_is_refused(tmp_path: Path):
    save_graph(tmp_path / "model.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ["B", 4])
    with pytest.raises(ValueError, match=r"int8: expected MatMul, Gemm or Conv in model\.onnx, got Relu"):
        quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", iter([]))
