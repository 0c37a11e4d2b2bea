"""Real parcels, small enough to make in milliseconds: a linear ONNX graph with its golden request."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.artifact import wire
from models.artifact.manifest import Manifest, hash_files, write_manifest
from models.artifact.predictor import open_session
from services.schemas import Release

NODES, PAST_STEPS, HORIZON_STEPS, MAX_BATCH = ("a", "b", "c"), 4, 2, 8
CLASSES, IMAGE_SHAPE = ("zero", "one"), (1, 3, 3)


def forecast_graph(seed: int = 7) -> bytes:
    """x, mask [B, T, N, 1] and clock [B, 2] to [B, H, N]: the weighted readings, and a little of the clock."""
    num_in, num_out = PAST_STEPS * len(NODES), HORIZON_STEPS * len(NODES)
    weights = np.random.default_rng(seed).uniform(0, 2 / num_in, (num_in, num_out)).astype(np.float32)
    nodes = [
        helper.make_node("Mul", ["x", "mask"], ["seen"]),
        helper.make_node("Reshape", ["seen", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["sums"]),
        helper.make_node("Cast", ["clock"], ["time"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["time", "axis"], ["late"], keepdims=1),
        helper.make_node("Mul", ["late", "share"], ["little"]),
        helper.make_node("Add", ["sums", "little"], ["all"]),
        helper.make_node("Reshape", ["all", "shape"], ["y"]),
    ]
    constants = {
        "weights": weights,
        "flat": np.array([-1, num_in]),
        "axis": np.array([1]),
        "share": np.array([0.001], np.float32),
        "shape": np.array([-1, HORIZON_STEPS, len(NODES)]),
    }
    window = ["B", PAST_STEPS, len(NODES), 1]
    inputs = [
        helper.make_tensor_value_info("x", TensorProto.FLOAT, window),
        helper.make_tensor_value_info("mask", TensorProto.FLOAT, window),
        helper.make_tensor_value_info("clock", TensorProto.INT64, ["B", 2]),
    ]
    return _model(nodes, constants, inputs, ["B", HORIZON_STEPS, len(NODES)])


def classify_graph() -> bytes:
    """x [B, 1, 3, 3] to logits [B, 2]: one class for bright images, one for dark."""
    num_pixels = int(np.prod(IMAGE_SHAPE))
    weights = np.stack([np.full(num_pixels, -1.0), np.full(num_pixels, 1.0)], axis=1).astype(np.float32)
    nodes = [
        helper.make_node("Reshape", ["x", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", *IMAGE_SHAPE])]
    return _model(nodes, {"weights": weights, "flat": np.array([-1, num_pixels])}, inputs, ["B", len(CLASSES)])


def _model(nodes: list[Any], constants: dict[str, Any], inputs: list[Any], output_shape: list[Any]) -> bytes:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, output_shape)
    stored = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "tiny", inputs, [output], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def make_window(value: float = 40.0) -> dict[str, Any]:
    """One window that the forecast parcel takes."""
    return {"time": "2024-05-31T17:45:00", "values": [[value + step, value, None] for step in range(PAST_STEPS)]}


FORECAST = {
    "task": "forecast", "family": "linear", "ranges": ((0.0, 200.0),), "nodes": NODES, "channels": ("speed_kmh",),
    "units": ("km/h",), "past_steps": PAST_STEPS, "horizon_steps": HORIZON_STEPS, "cadence_min": 15.0,
    "slots_per_day": 96, "judged_step": 1, "max_missing_share": 0.5,
}  # fmt: skip
CLASSIFY = {
    "task": "classify", "family": "logistic", "ranges": ((0.0, 1.0),), "classes": CLASSES, "image_shape": IMAGE_SHAPE,
}  # fmt: skip


def make_parcel(folder: Path, task: str, seed: int = 7) -> str:
    """Write a parcel of `task` and return its digest; another `seed` makes another forecast."""
    folder.mkdir(parents=True)
    model = forecast_graph(seed) if task == "forecast" else classify_graph()
    request = {"data": make_window() if task == "forecast" else np.ones(IMAGE_SHAPE).tolist()}
    fields = {
        **(FORECAST if task == "forecast" else CLASSIFY),
        "product": "tiny", "variant": "linear", "data_digest": "d", "recipe_digest": "r", "code_commit": "c",
        "num_parameters": 72, "opset": 20, "max_batch": MAX_BATCH,
    }  # fmt: skip
    checked = wire.parse_request(Manifest(**fields, files={}), json.dumps(request).encode())
    outputs = open_session(model).run(None, checked.inputs)[0]
    predictions = wire.answer(Manifest(**fields, files={}), outputs, checked.is_list)["predictions"]
    (folder / "model.onnx").write_bytes(model)
    (folder / "golden.json").write_text(json.dumps({"request": request, "predictions": predictions, "tolerance": 1e-4}))
    (folder / "card.md").write_text("# tiny\n")
    return write_manifest(folder, Manifest(**fields, files=hash_files(folder)))


def make_release(parcel_digest: str, **fields: Any) -> Release:
    """Version 3 of the product `tiny`, where the fields say no other."""
    known = {"product": "tiny", "version": 3, "run_id": "r1", "data_hash": "d1", "parcel_digest": parcel_digest}
    return Release(**{**known, **fields})


def make_release_folder(folder: Path, task: str = "forecast", seed: int = 7, **fields: Any) -> Path:
    """A folder with `parcel/` and `release.json`, as it is served."""
    release = make_release(make_parcel(folder / "parcel", task, seed), max_body_bytes=20_000, **fields)
    (folder / "release.json").write_text(release.model_dump_json())
    return folder


@pytest.fixture
def window() -> dict[str, Any]:
    """One window that the forecast parcel takes; a third of it is missing."""
    return make_window()


@pytest.fixture
def served_folder(tmp_path: Path) -> Callable[[str], Path]:
    """Makes what a Bento of this task holds: `parcel/` and `release.json`."""

    def make(task: str) -> Path:
        return make_release_folder(tmp_path / task, task)

    return make


@pytest.fixture(scope="session")
def released(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Release]:
    """A forecast parcel and its release, as they come to be packed."""
    parcel = tmp_path_factory.mktemp("released") / "parcel"
    return parcel, make_release(make_parcel(parcel, "forecast"), max_body_bytes=20_000)
