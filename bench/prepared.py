"""Makes what `bench.serving` needs: the student trained once, its parcel released, and the same for the torch peers."""

import json
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np

from bench.contestants import Model
from flows.package import snapshot_of
from flows.prepare import build_recipe
from flows.run import run_steps
from flows.steps import fetch_folder
from flows.trust import signed, signed_content
from flows.workshop import Workshop
from models.artifact.manifest import read_and_verify
from models.data.snapshot import read_snapshot
from services.bento import release_bytes
from services.schemas import Release

RECIPE, DATA, VARIANT = "forecast/stid", "freeway", "student_hard"
NUM_WINDOWS = 64


def prepare(shop: Workshop, variant: str = VARIANT) -> Model:
    """Everything under HOME/bench/<variant>; what was trained before is found. The torch peers take a student."""
    steps = run_steps(RECIPE, DATA, {}, "", until="compress")
    recipe = build_recipe(shop, RECIPE, DATA, {}, "")
    parcel = Path(steps[f"export {variant}"]["folder"]) / "parcel"
    manifest = read_and_verify(parcel)
    address = shop.store.get_bytes(f"snapshots/{manifest.data_digest}").decode()
    home = shop.home / "bench" / variant
    home.mkdir(parents=True, exist_ok=True)
    facts = {
        "family": RECIPE.partition("/")[2],
        "config": recipe.student.model_dump(mode="json") if recipe.student else {},
        "snapshot": str(fetch_folder(shop, address)),
        "weights": str(Path(steps[f"fit {variant}"]["folder"]) / "weights.safetensors"),
        "window": [manifest.past_steps, len(manifest.nodes), len(manifest.channels)],
        "cadence_min": manifest.cadence_min,
    }
    (home / "config.json").write_text(json.dumps(facts))
    samples = snapshot_of(shop, manifest.data_digest).samples("test")
    index = np.arange(NUM_WINDOWS)
    batch, times = samples.take(index), read_snapshot(Path(facts["snapshot"])).windows("test").times(index)
    windows = tuple(
        {
            "time": str(np.datetime64(times[row], "s")),
            "values": np.round(batch.inputs["x"][row].astype(float), 2).tolist(),
        }
        for row in index
    )
    return Model(home, parcel, _release(shop, parcel, home / "served"), _mlflow(parcel, home / "mlflow-model"), windows)


def _release(shop: Workshop, parcel: Path, folder: Path) -> Path:
    """What our service serves: the parcel, its release record and its signature."""
    manifest = read_and_verify(parcel)
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(parcel, folder / "parcel")
    release = Release(
        product=manifest.product, version=1, data_hash=manifest.data_digest, parcel_digest=manifest.digest()
    )
    (folder / "release.json").write_bytes(release_bytes(release))
    (folder / "release.sig").write_bytes(signed_content(shop, release_bytes(release)))
    signature, public_key = signed(shop, parcel, manifest.digest())
    (folder / "parcel.sig").write_bytes(signature)
    (folder / "trust").mkdir()
    (folder / "trust" / "bench.pem").write_bytes(public_key)
    return folder


def _mlflow(parcel: Path, target: Path) -> Path:
    """The same graph as an MLflow model with a signature, as `mlflow models serve` takes it."""
    import mlflow.onnx
    import onnx
    from mlflow.models.signature import ModelSignature
    from mlflow.types import Schema, TensorSpec

    shutil.rmtree(target, ignore_errors=True)
    graph = onnx.load(parcel / "model.onnx")
    kinds = {onnx.TensorProto.FLOAT: np.float32, onnx.TensorProto.INT64: np.int64}
    specs = [
        TensorSpec(
            np.dtype(kinds[item.type.tensor_type.elem_type]),
            (-1, *(dim.dim_value for dim in item.type.tensor_type.shape.dim[1:])),
            item.name,
        )
        for item in graph.graph.input
    ]
    mlflow.onnx.save_model(
        graph,
        str(target),
        signature=ModelSignature(Schema(specs)),
        pip_requirements=[f"{name}=={version(name)}" for name in ("onnx", "onnxruntime", "numpy")],
        onnx_execution_providers=["CPUExecutionProvider"],
        onnx_session_options={"intra_op_num_threads": 1},
        save_as_external_data=False,
    )
    return target
