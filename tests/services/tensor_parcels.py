"""Real parcels of the tensor tasks, made by hand in milliseconds: one linear ONNX graph each."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models.artifact import wire
from models.artifact.manifest import Manifest, hash_files, write_manifest
from models.artifact.predictor import open_session
from models.data.card import RoadNetwork, TensorSpec
from tests.services.conftest import make_release

SPEEDS = TensorSpec(
    name="speeds", shape=(2, 3), unit="km/h", minimum=0, maximum=200, labels=("s1", "s2", "s3"), can_miss=True,
)  # fmt: skip
CLOCK = TensorSpec(name="clock", shape=(2,), dtype="int64", minimum=0, maximum=287, scaled=False)
FEATURES = TensorSpec(name="x", shape=(3,), labels=("age", "length, m", "lanes"), minimum=-100, maximum=100)
EXTRA = TensorSpec(name="weather", shape=(1,), labels=("rain",), can_miss=True)
NETWORK = RoadNetwork(
    edges=("ab", "bc", "ac", "ca"), sources=("A", "B", "A", "C"), targets=("B", "C", "C", "A"),
    length_m=(500.0, 500.0, 2000.0, 1000.0), speed_mps=(10.0,) * 4,
)  # fmt: skip
TASKS: dict[str, dict[str, Any]] = {
    "detect": {
        "inputs": (SPEEDS, CLOCK), "threshold": 0.5, "means": {"speeds": (40.0, 50.0, 60.0)},
        "output": TensorSpec(name="incident", shape=(3,), labels=("s1", "s2", "s3")),
        "request": {"speeds": [[10.0, 20.0, 90.0], [12.5, None, 91.0]], "clock": [70, 3]},
    },
    "regress": {
        "inputs": (FEATURES, EXTRA), "output": TensorSpec(name="price", shape=(), unit="EUR"),
        "means": {"x": (1.0, 2.0, 3.0), "weather": (0.5,)},
        "request": {"x": [1.5, -2.0, 3.25], "weather": [None]},
    },
    "localise": {
        "inputs": (TensorSpec(name="fixes", shape=(2, 2), can_miss=True), TensorSpec(name="map", shape=(1, 2, 2))),
        "output": TensorSpec(name="position", shape=(2,), unit="m", labels=("east", "north")),
        "request": {"fixes": [[1.0, 2.0], [None, None]], "map": [[[0.0, 1.0], [1.0, 0.0]]]},
    },
    "route": {
        "inputs": (
            TensorSpec(name="recent", shape=(2, 4), labels=NETWORK.edges, unit="s"),
            CLOCK.model_copy(update={"name": "slot", "shape": (1,)}),
            CLOCK.model_copy(update={"name": "weekday", "shape": (1,), "maximum": 6}),
        ),
        "output": TensorSpec(name="travel_time", shape=(2, 4), unit="s", labels=NETWORK.edges), "network": NETWORK,
        "cadence_min": 5.0, "means": {"recent": (50.0, 50.0, 200.0, 100.0)},
        "request": {"recent": [[50.0, 50.0, 200.0, 100.0], [55.0, 45.0, 210.0, 90.0]], "slot": [96], "weekday": [0]},
    },
    "control": {
        "inputs": (TensorSpec(name="queues", shape=(4,), labels=("n", "e", "s", "w"), minimum=0, unit="veh"),),
        "output": TensorSpec(name="phase", shape=(2,), labels=("north-south", 'east-"west" 100 %')),
        "means": {"queues": (1.0, 2.0, 3.0, 4.0)},
        "request": {"queues": [5, 0, 3, 1]},
    },
}  # fmt: skip


def manifest_of(task: str, **changes: Any) -> Manifest:
    """The manifest of the parcel of this task, without its files."""
    fields = {name: value for name, value in TASKS[task].items() if name != "request"}
    known = {
        "product": "tiny", "task": task, "variant": "linear", "family": "linear", "data_digest": "d",
        "recipe_digest": "r", "code_commit": "c", "num_parameters": 72, "opset": 20, "max_batch": 8, "ranges": (),
        "files": {},
    }  # fmt: skip
    return Manifest(**{**known, **fields, **changes})


def graph_of(task: str) -> bytes:
    """Every number of the inputs, 0 where missing, times positive weights: as many sums as the output has numbers."""
    inputs, output = TASKS[task]["inputs"], TASKS[task]["output"]
    num_in, num_out = sum(int(np.prod(spec.shape)) for spec in inputs), int(np.prod(output.shape))
    scale = 0.01 if task in ("detect", "control") else 0.5
    weights = np.random.default_rng(7).uniform(-scale if scale < 0.1 else 0.1, scale, (num_in, num_out))
    constants: dict[str, Any] = {"weights": weights.astype(np.float32), "zero": np.float32(0)}
    nodes, flat = [], []
    for spec in inputs:
        name, size = spec.name, int(np.prod(spec.shape))
        constants[f"{name}_flat"] = np.array([-1, size])
        nodes += [
            helper.make_node("Cast", [name], [f"{name}_float"], to=TensorProto.FLOAT),
            helper.make_node("IsNaN", [f"{name}_float"], [f"{name}_missing"]),
            helper.make_node("Where", [f"{name}_missing", "zero", f"{name}_float"], [f"{name}_seen"]),
            helper.make_node("Reshape", [f"{name}_seen", f"{name}_flat"], [f"{name}_row"]),
        ]
        flat.append(f"{name}_row")
    constants["shape"] = np.array([-1, *output.shape])
    nodes += [
        helper.make_node("Concat", flat, ["row"], axis=1),
        helper.make_node("MatMul", ["row", "weights"], ["sums"]),
        helper.make_node("Reshape", ["sums", "shape"], ["output"]),
    ]
    kinds = {"float32": TensorProto.FLOAT, "int64": TensorProto.INT64}
    graph = helper.make_graph(
        nodes, "tiny",
        [helper.make_tensor_value_info(spec.name, kinds[spec.dtype], ["B", *spec.shape]) for spec in inputs],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["B", *output.shape])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_tensor_folder(folder: Path, task: str) -> Path:
    """A release folder of this task, as it is served."""
    parcel = folder / "parcel"
    parcel.mkdir(parents=True)
    model, request, manifest = graph_of(task), {"data": TASKS[task]["request"]}, manifest_of(task)
    checked = wire.parse_request(manifest, json.dumps(request).encode())
    outputs = open_session(model).run(None, checked.inputs)[0]
    predictions = wire.answer(manifest, outputs, checked.is_list)["predictions"]
    (parcel / "model.onnx").write_bytes(model)
    (parcel / "golden.json").write_text(json.dumps({"request": request, "predictions": predictions, "tolerance": 1e-4}))
    (parcel / "card.md").write_text("# tiny\n")
    digest = write_manifest(parcel, manifest.model_copy(update={"files": hash_files(parcel)}))
    (folder / "release.json").write_text(make_release(digest, max_body_bytes=20_000).model_dump_json())
    return folder
