"""Logs a parcel as an MLflow model, byte for byte what is served.

It has a signature and an input example and is loadable as `models:/…`.

`mlflow.onnx.log_model` would write the graph anew and guess requirements for seconds. Here the parcel's own files lie
in the model's folder, and nothing is imported but `onnx`: no torch, no pickle.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.tracking import TrackedRun, Tracking, flatten
from infra.tracking_store import PARCEL

if TYPE_CHECKING:
    import numpy as np
    from mlflow.entities import LoggedModel


def log_model_parcel(
    tracking: Tracking,
    run: TrackedRun,
    folder: Path,
    *,
    name: str,
    digest: str,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    outputs: np.ndarray[Any, Any],
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, float] | None = None,
    task: str = "",
) -> str:
    """Log the parcel in `folder` as the output of `run`; the same parcel and run give the same model.

    inputs: the graph's inputs, a batch of any size (the batch dimension stays open in the signature); outputs: what it
    answered. Returns the address `models:/m-…`, the `source` to register.
    """
    client = tracking.client
    model = _find(tracking, run, digest)
    if model is None:
        own = {PARCEL: digest, "roadworthy.key": run.key}
        model = client.create_logged_model(
            run.experiment_id, name=name, source_run_id=run.run_id, tags=own, params=flatten(params or {}),
            model_type=task or None,
        )  # fmt: skip
    address = f"models:/{model.model_id}"
    if str(model.status) != "READY":
        cache = tracking.config.folder / "cache"
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            target = Path(scratch) / "model"
            _write_model(target, folder, model, run, inputs, outputs)
            client.log_model_artifacts(model.model_id, str(target))
        _link(tracking, run, model, metrics or {})
        client.finalize_logged_model(model.model_id, "READY")
    return address


def _find(tracking: Tracking, run: TrackedRun, digest: str) -> LoggedModel | None:
    wanted = f"source_run_id = '{run.run_id}' and tags.`{PARCEL}` = '{digest}'"
    found = tracking.client.search_logged_models([run.experiment_id], wanted, max_results=1)
    return found[0] if found else None


def _write_model(
    target: Path,
    parcel: Path,
    model: LoggedModel,
    run: TrackedRun,
    inputs: Mapping[str, np.ndarray[Any, Any]],
    outputs: np.ndarray[Any, Any],
) -> None:
    import mlflow.onnx
    import onnx
    from mlflow.models import Model
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    graph = onnx.load(parcel / "model.onnx")
    given: list[ColSpec | TensorSpec] = []
    for name, array in inputs.items():
        given.append(TensorSpec(array.dtype, (-1, *array.shape[1:]), name))
    answer = TensorSpec(outputs.dtype, (-1, *outputs.shape[1:]), graph.graph.output[0].name)
    mlflow.onnx.save_model(
        graph,
        str(target),
        mlflow_model=Model(run_id=run.run_id, model_id=model.model_id, model_uuid=model.model_id),
        signature=ModelSignature(Schema(given), Schema([answer])),
        input_example=dict(inputs),
        pip_requirements=[f"{package}=={version(package)}" for package in ("onnx", "onnxruntime", "numpy")],
        onnx_execution_providers=["CPUExecutionProvider"],
        save_as_external_data=False,
    )
    shutil.copytree(parcel, target, dirs_exist_ok=True)  # the judged bytes take the place of the rewritten graph


def _link(tracking: Tracking, run: TrackedRun, model: LoggedModel, metrics: Mapping[str, float]) -> None:
    from mlflow.entities import LoggedModelOutput

    tracking.log_metrics(run.run_id, metrics, model_id=model.model_id)
    tracking.client.log_outputs(run.run_id, [LoggedModelOutput(model.model_id, 0)])
