"""A small road with a daily rhythm, a graph that repeats the last value, and the parcel of both."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import onnx
import polars as pl
import pytest
from onnx import TensorProto, helper, numpy_helper

from models import recipe as recipes
from models.artifact.parcel import build_parcel
from models.artifact.predictor import Predictor
from models.data.card import Channel, Contract, DatasetCard
from models.data.prepare import prepare
from models.data.series import RawSeries
from models.data.snapshot import Snapshot, read_snapshot
from models.recipe import Recipe

NUM_STEPS, NODES = 1200, ("s1", "s2", "s10")
PAST_STEPS, HORIZON_STEPS = 4, 3


@pytest.fixture(scope="session")
def toy_card() -> DatasetCard:
    speed = Channel(name="speed_kmh", unit="km/h", minimum=0, maximum=150)
    contract = Contract(channels=(speed, Channel(name="flow_vph", unit="veh/h", minimum=0)), cadence_min=30)
    return DatasetCard(name="toy", task="forecast", title="Toy", source="this test", licence="CC0", contract=contract)


@pytest.fixture(scope="session")
def toy_recipe(toy_card: DatasetCard) -> Recipe:
    steps = {"data.past_steps": PAST_STEPS, "data.horizon_steps": HORIZON_STEPS, "data.gap_steps": 4}
    shares = {"data.train_share": 0.3, "data.val_share": 0.2}
    return recipes.build("forecast/last_value", toy_card, {**steps, **shares, "judge.judged_step": 2})


@pytest.fixture(scope="session")
def toy_snapshot(toy_card: DatasetCard, toy_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """1 200 half hours at three sensors; every 50th speed is missing."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("snapshot")
    times = [datetime(2024, 1, 1) + timedelta(minutes=30 * step) for step in range(NUM_STEPS) for _ in NODES]
    rhythm = np.repeat(60 + 20 * np.sin(np.arange(NUM_STEPS) * np.pi / 24), len(NODES))
    speed = (rhythm + rng.normal(0, 3, len(times))).round(1).astype(object)
    speed[::50] = None
    flow = rng.uniform(0, 2000, len(times)).round()
    columns = {"time": times, "node": list(NODES) * NUM_STEPS, "speed_kmh": speed.tolist(), "flow_vph": flow}
    prepare(RawSeries(pl.DataFrame(columns), NODES), toy_card, toy_recipe.data, b"key", folder)
    return read_snapshot(folder)


def last_value_graph(bias: float = 0.0) -> bytes:
    """ONNX: x [B, T, N, 2], mask, clock -> the last value of channel 0, plus a bias, H times: [B, H, N]."""
    sizes = {"x": ["batch", PAST_STEPS, 3, 2], "mask": ["batch", PAST_STEPS, 3, 2]}
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, size) for name, size in sizes.items()]
    inputs.append(helper.make_tensor_value_info("clock", TensorProto.INT64, ["batch", 2]))
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", HORIZON_STEPS, 3])
    constants = {"last": np.int64(-1), "first": np.int64(0), "axis": np.array([1]), "bias": np.float32(bias)}
    nodes = [
        helper.make_node("Gather", ["x", "last"], ["now"], axis=1),
        helper.make_node("Gather", ["now", "first"], ["speed"], axis=2),
        helper.make_node("Add", ["speed", "bias"], ["shifted"]),
        helper.make_node("Unsqueeze", ["shifted", "axis"], ["one"]),
        helper.make_node("Concat", ["one"] * HORIZON_STEPS, ["output"], axis=1, doc_string="/home/somebody/secret.py"),
    ]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "toy", inputs, [output], values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.helper.set_model_props(model, {"made": "2024-01-01 12:00"})
    content: bytes = model.SerializeToString()
    return content


PackToy = Callable[..., tuple[Path, Predictor]]


@pytest.fixture
def pack_toy(toy_snapshot: Snapshot, toy_recipe: Recipe, tmp_path: Path) -> PackToy:
    """pack_toy(name, bias) -> the folder of a fresh parcel and its predictor."""

    def pack(name: str = "toy", bias: float = 0.0) -> tuple[Path, Predictor]:
        model, folder = tmp_path / f"{name}.onnx", tmp_path / name
        model.write_bytes(last_value_graph(bias))
        return folder, build_parcel(folder, model, toy_snapshot, toy_recipe, name, 1, "0000000")

    return pack
