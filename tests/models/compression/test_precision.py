"""Dynamic int8 and half precision of single graphs, answered by ONNX Runtime."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models.artifact.predictor import open_session
from models.compression.precision import reduce_precision
from tests.models.compression.test_quantisation import save_graph

RANDOM = np.random.default_rng(0)
WEIGHTS = {name: RANDOM.normal(size=(32, 32)).astype(np.float32) for name in ("first", "second")}
BIAS = RANDOM.normal(size=32).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    nodes = [
        helper.make_node("Gemm", ["x", "first", "bias"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "second"], ["y"]),
    ]
    save_graph(tmp_path / "model.onnx", nodes, {**WEIGHTS, "bias": BIAS}, ["B", 32])
    return tmp_path / "model.onnx"


@pytest.mark.parametrize(("method", "share", "tolerance"), [("fp16", 0.6, 2e-3), ("dynamic", 0.5, 3e-2)])
def test_fewer_bytes_the_same_answers_and_float32_outside(
    source: Path, method: str, share: float, tolerance: float
) -> None:
    target = source.with_name("small.onnx")
    reduce_precision(method, source, target, iter([]))  # type: ignore[arg-type]
    assert target.stat().st_size < share * source.stat().st_size
    model = onnx.load(target)
    onnx.checker.check_model(model)
    assert {one.type.tensor_type.elem_type for one in (*model.graph.input, *model.graph.output)} == {TensorProto.FLOAT}
    x = RANDOM.normal(size=(16, 32)).astype(np.float32)
    expected, got = (open_session(path.read_bytes()).run(None, {"x": x})[0] for path in (source, target))
    assert np.abs(got - expected).max() < tolerance * np.abs(expected).max()


def test_both_products_become_int8(source: Path) -> None:
    target = source.with_name("small.onnx")
    reduce_precision("dynamic", source, target, iter([]))
    kinds = {tensor.data_type for tensor in onnx.load(target).graph.initializer if tuple(tensor.dims) == (32, 32)}
    assert kinds == {TensorProto.INT8}


@pytest.mark.parametrize("method", ["fp16", "dynamic"])
def test_a_graph_without_weights_is_refused(tmp_path: Path, method: str) -> None:
    save_graph(tmp_path / "model.onnx", [helper.make_node("Relu", ["x"], ["y"])], {}, ["B", 4])
    with pytest.raises(ValueError, match=r"expected .* in model\.onnx"):
        reduce_precision(method, tmp_path / "model.onnx", tmp_path / "small.onnx", iter([]))  # type: ignore[arg-type]
    assert not (tmp_path / "small.onnx").exists()


def test_a_weight_beyond_half_precision_is_refused(tmp_path: Path) -> None:
    save_graph(
        tmp_path / "model.onnx", [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.full((16, 16), 1e6, np.float32)}, ["B", 16],
    )  # fmt: skip
    with pytest.raises(ValueError, match=r"w in model\.onnx holds values above 65504"):
        reduce_precision("fp16", tmp_path / "model.onnx", tmp_path / "small.onnx", iter([]))
