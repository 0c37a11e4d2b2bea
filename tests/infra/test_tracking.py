"""Runs that are found again, in a real MLflow store."""

import json
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import psutil
import pytest
from onnx import TensorProto, helper

from infra import tracked_model, tracking, tracking_store
from infra.tracking import RunBusyError, TrackedRun, Tracking


@pytest.fixture
def product(request: pytest.FixtureRequest) -> str:
    return str(request.node.name)


@pytest.fixture
def run(tracking: Tracking, product: str) -> TrackedRun:
    return tracking.lifecycle_run(product, "key1", {"train": {"num_epochs": 5}}, {"roadworthy.recipe": "forecast/stid"})


@pytest.fixture
def other() -> Iterator[str]:
    """A living process that is not this one, as an owner."""
    with subprocess.Popen(["sleep", "60"]) as process:
        started_s = psutil.Process(process.pid).create_time()
        yield f"{tracking.platform.node()}/{process.pid}/{started_s:.0f}"
        process.kill()


@pytest.fixture
def dead() -> str:
    """A process of this host that was killed."""
    with subprocess.Popen(["sleep", "60"]) as process:
        started_s = psutil.Process(process.pid).create_time()
        process.kill()
    return f"{tracking.platform.node()}/{process.pid}/{started_s:.0f}"


def make_parcel(folder: Path, factor: float = 2.0) -> Path:
    """A parcel whose graph multiplies the masked input."""
    folder.mkdir()
    tensors = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["B", 3]) for name in ("x", "mask", "y")]
    nodes = [helper.make_node("Mul", ["x", "mask"], ["z"]), helper.make_node("Mul", ["z", "factor"], ["y"])]
    constant = [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])]
    graph = helper.make_graph(nodes, "double", tensors[:2], tensors[2:], constant)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    (folder / "manifest.json").write_text("{}")
    return folder


def test_flatten_gives_dotted_names_and_cuts_long_values() -> None:
    flat = tracking.flatten({"a": {"b": 1, "c": [1, 2]}, "d": None, "e": "x" * 9000})
    assert flat == {"a.b": "1", "a.c": "[1, 2]", "d": "None", "e": "x" * 6000}


def test_a_reused_process_id_is_another_process(other: str) -> None:
    host, pid, started_s = other.rsplit("/", 2)
    assert not tracking.is_dead(other)
    assert tracking.is_dead(f"{host}/{pid}/{float(started_s) - 3600:.0f}")
    assert not tracking.is_dead(f"elsewhere/{pid}/0")


def test_the_store_is_whole_and_lies_under_home(mlflow_template: Path) -> None:
    folder = mlflow_template / "mlflow"
    assert {path.name for path in folder.iterdir()} <= {"mlflow.db", "mlflow.lock"}
    with sqlite3.connect(folder / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        ((location,),) = database.execute("SELECT artifact_location FROM experiments").fetchall()
    assert location.startswith(folder.as_uri())


def test_the_same_key_is_the_same_run(tracking: Tracking, run: TrackedRun, product: str) -> None:
    again = tracking.lifecycle_run(product, "key1", {"train": {"num_epochs": 9}})
    assert again == run and not run.finished
    assert tracking.client.get_run(run.run_id).data.params == {"train.num_epochs": "5"}
    tracking.finish(run.run_id)
    assert tracking.lifecycle_run(product, "key1", {}).finished
    assert tracking.lifecycle_run(product, "key2", {}).run_id != run.run_id


def test_steps_are_children_of_their_own_parent(tracking: Tracking, run: TrackedRun, product: str) -> None:
    step = tracking.step_run(run, "train", "stepkey", {"family": "stid"})
    assert tracking.step_run(run, "train", "stepkey") == step
    assert tracking.client.get_run(step.run_id).data.tags["mlflow.parentRunId"] == run.run_id
    elsewhere = tracking.lifecycle_run(product, "key2", {})
    assert tracking.step_run(elsewhere, "train", "stepkey").run_id != step.run_id


def test_a_killed_run_is_stale_then_taken_over(tracking: Tracking, run: TrackedRun, product: str, dead: str) -> None:
    tracking.set_tags(run.run_id, {"roadworthy.owner": dead})
    (stale,) = tracking.stale_runs()
    assert (stale.run_id, stale.product, stale.step) == (run.run_id, product, "lifecycle")
    tracking.mark_failed(stale)
    assert tracking.stale_runs() == []
    assert tracking.client.get_run(run.run_id).info.status == "FAILED"
    assert tracking.lifecycle_run(product, "key1", {}).run_id == run.run_id
    assert tracking.client.get_run(run.run_id).info.status == "RUNNING"
    assert len(tracking.client.search_runs([run.experiment_id])) == 1


def test_a_run_at_work_is_not_taken(tracking: Tracking, run: TrackedRun, product: str, other: str) -> None:
    tracking.set_tags(run.run_id, {"roadworthy.owner": other})
    assert tracking.stale_runs() == []
    with pytest.raises(RunBusyError, match=other):
        tracking.lifecycle_run(product, "key1", {})
    tracking.finish(run.run_id)


def test_epochs_are_logged_once_also_after_a_rerun(tracking: Tracking, run: TrackedRun) -> None:
    epochs = [{"number": n, "train_loss": np.float32(1 / n), "is_best": True, "note": "x"} for n in range(1, 4)]
    tracking.log_epochs(run.run_id, epochs[:2])
    tracking.log_epochs(run.run_id, epochs)
    history = tracking.client.get_metric_history(run.run_id, "train_loss")
    assert [point.step for point in history] == [1, 2, 3]
    assert tracking.client.get_run(run.run_id).data.metrics == {"train_loss": pytest.approx(1 / 3), "is_best": 1.0}


def test_more_than_one_batch(tracking: Tracking, run: TrackedRun) -> None:
    tracking.log_params(run.run_id, {f"p{n}": n for n in range(230)})
    tracking.log_metrics(run.run_id, {f"m{n}": n for n in range(1200)})
    data = tracking.client.get_run(run.run_id).data
    assert len(data.params) == 231 and len(data.metrics) == 1200


def test_a_data_set_keeps_its_digest(tracking: Tracking, run: TrackedRun) -> None:
    digest = "d" * 64
    for _ in range(2):
        tracking.log_dataset(run.run_id, "oregon", digest, "snapshots/d/", {"count": "double"}, {"num_steps": 7})
    (given,) = tracking.client.get_run(run.run_id).inputs.dataset_inputs
    assert given.dataset.digest == digest[:36]
    assert json.loads(given.dataset.profile) == {"digest": digest, "num_steps": 7}
    assert given.tags[0].value == "train, test"


def test_figures_and_tables_are_artifacts(tracking: Tracking, run: TrackedRun, tmp_path: Path) -> None:
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "error.png").write_bytes(b"png")
    tracking.log_figures(run.run_id, tmp_path / "figures")
    for _ in range(2):
        tracking.log_table(run.run_id, "candidates", [{"name": "linear", "mae": 3.5}, {"name": "stid", "mae": 3.6}])
    client = tracking.client
    assert [file.path for file in client.list_artifacts(run.run_id, "figures")] == ["figures/error.png"]
    shown = Path(client.download_artifacts(run.run_id, "tables/candidates.json", str(tmp_path)))
    assert json.loads(shown.read_text()) == {"columns": ["name", "mae"], "data": [["linear", 3.5], ["stid", 3.6]]}
    tables = json.loads(client.get_run(run.run_id).data.tags["mlflow.loggedArtifacts"])
    assert tables == [{"path": "tables/candidates.json", "type": "table"}]


def test_finishing_prints_nothing(tracking: Tracking, run: TrackedRun, capsys: pytest.CaptureFixture[str]) -> None:
    tracking.finish(run.run_id)
    assert capsys.readouterr().out == ""


def test_a_parcel_is_a_model_with_its_own_bytes(tracking: Tracking, run: TrackedRun, tmp_path: Path) -> None:
    import mlflow

    parcel = make_parcel(tmp_path / "parcel")
    inputs = {"x": np.full((2, 3), 4, "float32"), "mask": np.ones((2, 3), "float32")}
    more = {"name": "linear", "digest": "abc", "inputs": inputs, "outputs": inputs["x"] * 2, "metrics": {"mae": 3.5}}
    address = tracked_model.log_model_parcel(tracking, run, parcel, **more)
    tracking_store.bind(tracking.config)  # MLflow's global address may still be another test's server
    assert tracked_model.log_model_parcel(tracking, run, parcel, **more) == address
    folder = Path(mlflow.artifacts.download_artifacts(address))
    assert (folder / "model.onnx").read_bytes() == (parcel / "model.onnx").read_bytes()
    assert (folder / "manifest.json").exists() and not list(folder.rglob("*.pkl"))
    model = mlflow.pyfunc.load_model(address)
    assert [column.shape for column in model.metadata.signature.inputs] == [(-1, 3), (-1, 3)]
    np.testing.assert_array_equal(model.predict(model.input_example)["y"], np.full((2, 3), 8))
    shown = tracking.client.get_logged_model(address.removeprefix("models:/"))
    assert [(metric.key, metric.value) for metric in shown.metrics] == [("mae", 3.5)]
