"""Every family of the catalog keeps what families promise; a new folder is found and tested without a change here."""

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from models import catalog, recipe
from models.catalog import FamilyCard, FamilyConfig
from models.compression.pruning import Prunable
from models.compression.quantisation import quantise
from models.data.batches import batches
from models.data.card import TENSOR_KINDS
from models.training.build import Shape, build_network, example_inputs, num_parameters
from models.training.closed_form import is_closed_form
from models.training.loop import train
from models.training.objective import TaskLoss
from tests.models.conftest import data_card, one_epoch

pytestmark = pytest.mark.families

# Written out step by step: what rounds and scales at every step outweighs the weights of a small student.
STEP_BY_STEP = ("forecast/rnn", "forecast/gru", "forecast/gcn_gru")

CARDS = [pytest.param(card, id=name) for name, card in sorted(catalog.all_families().items())]
CONFIGS = [
    pytest.param(card, config, id=f"{card.task}/{card.name}-{kind}")
    for card in catalog.all_families().values()
    for kind, config in (("teacher", card.config()), ("student", card.student))
    if config is not None
]


FEW = 100  # a handful of numbers with a meaning each is set, not drawn, and there is nothing in it to round


@pytest.mark.parametrize("card", CARDS)
def test_card_is_complete(card):
    assert card.title and card.network
    assert re.search(r"\b(19|20)\d\d\b", card.source) or "ed." in card.source, "a family cites its source"
    assert card.is_baseline == (card.student is None), "a baseline is never distilled, a network always can be"
    assert len(card.load().__doc__ or "") > 10


@pytest.mark.parametrize(("card", "config"), CONFIGS)
def test_recipe_goes_to_json_and_back(card, config):
    built = recipe.build(f"{card.task}/{card.name}", data_card(card.task))
    assert type(built).model_validate_json(built.model_dump_json()) == built
    assert type(config).model_validate_json(config.model_dump_json()) == config
    with pytest.raises(ValueError, match="no_such_key"):
        card.config.model_validate({"no_such_key": 1})


@pytest.mark.parametrize(("card", "config"), CONFIGS)
def test_forward_gives_the_promised_shape(card: FamilyCard, config: FamilyConfig, tiny):
    network = build_network(card, tiny.shape, config, tiny.scaler).eval()
    for batch_size in (1, 3):
        output = network(**example_inputs(card, tiny.shape, batch_size))
        assert output.shape == (batch_size, *promised(card, tiny.shape))
        assert output.dtype == torch.float32 and output.isfinite().all()
    if not is_closed_form(network):
        hidden = network.forward_hidden(**example_inputs(card, tiny.shape, 3))[1]
        assert hidden.shape[0] == 3
        assert card.is_baseline or isinstance(getattr(network, "network", network), Prunable)


@pytest.mark.parametrize("card", CARDS)
def test_trains_one_epoch(card, tiny, tmp_path: Path):
    train_recipe = one_epoch(card)
    network = build_network(card, tiny.shape, card.config(), tiny.scaler, seed=1)
    objective = TaskLoss(card.task, train_recipe.loss, tiny.scaler)
    (epoch,) = train(network, objective, tiny.train, tiny.val, train_recipe, tmp_path)
    assert np.isfinite([epoch.train_loss, epoch.val_loss]).all()
    assert (tmp_path / "weights.safetensors").is_file() and (tmp_path / "done.json").is_file()


@pytest.mark.parametrize("card", CARDS)
def test_seed_decides_the_weights(card, tiny):
    first, again, other = (build_network(card, tiny.shape, card.config(), tiny.scaler, seed) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    if sum(parameter.numel() for parameter in first.parameters()) > FEW:
        assert any(not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("card", CARDS)
def test_is_exported_with_parity_and_a_network_survives_int8(card, tiny, exported, tmp_path: Path):
    graph, int8 = exported(card), tmp_path / "int8.onnx"
    if card.is_baseline or num_parameters(build_network(card, tiny.shape, card.config(), tiny.scaler)) <= FEW:
        return
    quantise(graph, int8, (batch.inputs for batch in batches(tiny.train, 64)))
    if f"{card.task}/{card.name}" not in STEP_BY_STEP:
        assert int8.stat().st_size < 0.75 * graph.stat().st_size
    inputs = tiny.val.take(np.arange(min(64, len(tiny.val)))).inputs
    exact, rounded = answer(graph, inputs), answer(int8, inputs)
    assert np.abs(exact - rounded).mean() < 0.1 * exact.std()
    one = {name: array[:1] for name, array in inputs.items()}
    assert answer(int8, one) == pytest.approx(rounded[:1], rel=1e-3, abs=1e-3)


def promised(card: FamilyCard, shape: Shape) -> tuple[int, ...]:
    if card.task == "forecast":
        return shape.horizon_steps, shape.num_nodes
    if card.task == "classify":
        return (shape.num_classes,)
    return (len(shape.output.labels),) if TENSOR_KINDS[card.task] == "choice" else shape.output.shape


def answer(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    return session.run(None, {entry.name: inputs[entry.name] for entry in session.get_inputs()})[0]
