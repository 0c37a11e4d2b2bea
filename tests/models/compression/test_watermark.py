"""A mark is found with its key, in float and int8; without the key, or without the mark, only chance is found."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import catalog
from models.artifact.export import export
from models.catalog import FamilyCard
from models.compression.quantisation import quantise
from models.compression.watermark import MIN_POSITIONS, NUM_PILOTS, Match, WatermarkError, binomial_tail, check, embed
from models.compression.weights import weights_of, write_weight
from models.data.batches import batches
from models.training.build import build_network

KEY, OWNER, WIDTH = b"a secret of the owner", 0xDEADBEEF, 64
# One of each kind of weight: products, recurrences, convolutions over time, stations and pictures, attention.
KINDS = ("forecast/stid", "forecast/lstm", "forecast/transformer", "forecast/graph_wavenet", "classify/cnn",
         "detect/cnn", "regress/mlp")  # fmt: skip
NETWORKS = [pytest.param(catalog.all_families()[name], id=name) for name in KINDS]


@pytest.fixture(scope="module")
def graph() -> bytes:
    """Three layers of 64 units, one of them a Gemm, half of one pruned; and a constant that only scales."""
    random = np.random.default_rng(0)
    weights = {name: random.normal(size=(WIDTH, WIDTH)).astype(np.float32) / 8 for name in ("a", "b", "c")}
    weights["b"][np.abs(weights["b"]) < 0.08] = 0
    weights["scale"] = random.uniform(1, 2, (WIDTH, WIDTH)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "a"], ["h1"]),
        helper.make_node("Relu", ["h1"], ["h2"]),
        helper.make_node("Gemm", ["h2", "b"], ["h3"], transB=1),
        helper.make_node("Relu", ["h3"], ["h4"]),
        helper.make_node("MatMul", ["h4", "c"], ["h5"]),
        helper.make_node("Mul", ["h5", "scale"], ["y"]),
    ]
    source, sink = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [WIDTH, WIDTH]) for name in "xy")
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    model = helper.make_graph(nodes, "g", [source], [sink], stored)
    return helper.make_model(model, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()


@pytest.fixture(scope="module")
def marked(graph: bytes) -> bytes:
    return embed(graph, KEY, OWNER)


def stored(model: bytes) -> dict[str, np.ndarray]:
    return {item.name: numpy_helper.to_array(item) for item in onnx.load_from_string(model).graph.initializer}


def answer(model: bytes, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def to_int8(model: bytes, folder: Path) -> bytes:
    samples = np.random.default_rng(1).normal(size=(4, WIDTH, WIDTH)).astype(np.float32)
    (folder / "float.onnx").write_bytes(model)
    quantise(folder / "float.onnx", folder / "int8.onnx", ({"x": batch} for batch in samples))
    return (folder / "int8.onnx").read_bytes()


def with_noise(model: bytes, share: float) -> bytes:
    """Every weight moved by `share` of its tensor's scale: what a little fine-tuning does."""
    random, changed = np.random.default_rng(2), onnx.load_from_string(model)
    for weight in weights_of(changed):
        weight.values[...] += random.normal(size=weight.values.shape) * share * weight.values.std()
        write_weight(changed, weight)
    return changed.SerializeToString()


def test_the_mark_is_read_back(marked: bytes) -> None:
    assert check(marked, KEY) == Match(OWNER, NUM_PILOTS, NUM_PILOTS, 2.0**-NUM_PILOTS)
    assert check(marked, KEY).is_marked


def test_weights_change_little_and_pruned_ones_not_at_all(graph: bytes, marked: bytes, tmp_path: Path) -> None:
    before, after = stored(graph), stored(marked)
    for name in "abc":
        change = np.sqrt(np.mean((after[name] - before[name]) ** 2) / np.mean(before[name] ** 2))
        assert 0.0005 < change < 0.01
    np.testing.assert_array_equal(after["b"] == 0, before["b"] == 0)
    np.testing.assert_array_equal(after["scale"], before["scale"], "a constant that only scales is no weight")
    x = np.random.default_rng(3).normal(size=(WIDTH, WIDTH)).astype(np.float32)
    of_mark, of_int8 = (
        np.abs(answer(other, x) - answer(graph, x)).mean() for other in (marked, to_int8(graph, tmp_path))
    )
    assert of_mark < of_int8, "answers change less than by quantising"


def test_the_same_key_gives_the_same_bytes(graph: bytes, marked: bytes) -> None:
    assert embed(graph, KEY, OWNER) == marked


def test_survives_int8(marked: bytes, tmp_path: Path) -> None:
    found = check(to_int8(marked, tmp_path), KEY)
    assert found.is_marked and found.bits == OWNER


def test_survives_half_precision_noise_and_a_second_mark(marked: bytes) -> None:
    halves = onnx.load_from_string(marked)
    for item in halves.graph.initializer:
        item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item).astype(np.float16), item.name))
    for changed in (halves.SerializeToString(), with_noise(marked, 0.01), embed(marked, b"another key " * 2, 7)):
        found = check(changed, KEY)
        assert found.is_marked and found.bits == OWNER


def test_does_not_survive_what_changes_every_weight_much(marked: bytes) -> None:
    assert not check(with_noise(marked, 0.2), KEY).is_marked


def test_wrong_keys_and_unmarked_graphs_agree_by_chance(graph: bytes, marked: bytes) -> None:
    keys = [f"key {number}".encode() for number in range(100)]
    for model in (graph, marked):
        agreeing = [check(model, key).num_agreeing for key in keys]
        assert abs(np.mean(agreeing) - NUM_PILOTS / 2) < 2  # five standard errors
        assert 2.5 < np.std(agreeing) < 5.5  # a binomial's is 4
        assert not any(check(model, key).is_marked for key in keys)
    assert not check(graph, KEY).is_marked


def test_the_tail_is_a_binomials() -> None:
    assert binomial_tail(0, 64) == pytest.approx(1)
    assert binomial_tail(64, 64) == 2.0**-64
    assert binomial_tail(2, 3) == pytest.approx(0.5)


def test_too_few_weights_and_wrong_bits_are_refused(graph: bytes, tmp_path: Path) -> None:
    with pytest.raises(WatermarkError, match=r"owner's bits: expected 0 to 4294967295, got -1"):
        embed(graph, KEY, -1)
    small = onnx.load_from_string(graph)
    del small.graph.initializer[:]
    with pytest.raises(WatermarkError, match=r"expected at least 3072 weights, got 0"):
        check(small.SerializeToString(), KEY)
    with pytest.raises(ValueError, match="expected float32 weights, got a quantised graph"):
        embed(to_int8(graph, tmp_path), KEY, OWNER)


def keeps_the_mark(plain: Path, tiny, folder: Path) -> bool:
    """Whether this graph's mark is found again, in float and after our quantiser."""
    (folder / "marked.onnx").write_bytes(embed(plain.read_bytes(), KEY, OWNER))
    quantise(folder / "marked.onnx", folder / "int8.onnx", (batch.inputs for batch in batches(tiny.train, 64)))
    matches = [check((folder / name).read_bytes(), KEY) for name in ("marked.onnx", "int8.onnx")]
    return all(found.num_agreeing >= NUM_PILOTS - 2 and found.is_marked for found in matches)


@pytest.mark.families
@pytest.mark.parametrize("card", NETWORKS)
def test_students_keep_the_mark_or_is_too_small(card: FamilyCard, tiny, exported, tmp_path: Path) -> None:
    plain = exported(card)
    if sum(weight.values.size for weight in weights_of(onnx.load(plain))) < MIN_POSITIONS:
        with pytest.raises(WatermarkError, match=r"expected at least 3072 weights"):
            embed(plain.read_bytes(), KEY, OWNER)
    else:
        assert keeps_the_mark(plain, tiny, tmp_path)


@pytest.mark.families
@pytest.mark.parametrize("card", NETWORKS)
def test_networks_keep_the_mark_through_our_quantiser(card: FamilyCard, tiny, tmp_path: Path) -> None:
    network = build_network(card, tiny.shape, card.config(), tiny.scaler, seed=1)
    export(network, tiny.val.take(np.arange(min(64, len(tiny.val)))).inputs, tmp_path / "model.onnx")
    assert keeps_the_mark(tmp_path / "model.onnx", tiny, tmp_path)
