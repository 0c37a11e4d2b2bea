"""int8: a clearly smaller file that answers nearly the same."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from models import catalog
from models.artifact.export import export
from models.compression.quantisation import quantise
from models.data.batches import batches
from models.recipe import TrainRecipe
from models.training.build import build_network
from models.training.loop import train
from models.training.objective import TaskLoss

NETWORKS = [pytest.param(card, id=name) for name, card in catalog.families().items() if card.student is not None]


def answer(path: Path, inputs: dict) -> np.ndarray:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {entry.name: inputs[entry.name] for entry in session.get_inputs()})[0]


@pytest.mark.parametrize("card", NETWORKS)
def test_int8_is_smaller_and_answers_nearly_the_same(card, tiny, tmp_path: Path):
    network = build_network(card, tiny.shape, card.student, tiny.scaler, seed=1)
    loss = "mae" if card.task == "forecast" else "cross_entropy"
    plan = TrainRecipe(num_epochs=2, loss=loss)
    list(train(network, TaskLoss(card.task, loss, tiny.scaler), tiny.train, tiny.val, plan, tmp_path / "run"))
    inputs = tiny.val.take(np.arange(len(tiny.val))).inputs
    export(network, inputs, tmp_path / "model.onnx")
    quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", (batch.inputs for batch in batches(tiny.train, 64)))
    assert (tmp_path / "int8.onnx").stat().st_size < 0.75 * (tmp_path / "model.onnx").stat().st_size
    exact, rounded = (answer(tmp_path / name, inputs) for name in ("model.onnx", "int8.onnx"))
    assert np.abs(exact - rounded).mean() < 0.1 * exact.std()
    assert rounded[:1] == pytest.approx(answer(tmp_path / "int8.onnx", {k: v[:1] for k, v in inputs.items()}), rel=1e-3)


def test_a_graph_without_products_is_refused(traffic, tmp_path: Path):
    card = catalog.family("last_value")
    network = build_network(card, traffic.shape, card.config(), traffic.scaler)
    inputs = traffic.val.take(np.arange(8)).inputs
    export(network, inputs, tmp_path / "model.onnx")
    with pytest.raises(ValueError, match="int8: expected MatMul"):
        quantise(tmp_path / "model.onnx", tmp_path / "int8.onnx", iter([inputs]))
