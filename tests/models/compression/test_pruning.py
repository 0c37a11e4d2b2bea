"""Pruning: fewer units or more zeros, the same again after a kill, and fine-tuning that goes on."""

from pathlib import Path

import pytest
import torch

from models import catalog
from models.compression.pruning import CannotPruneError, make_permanent, prune_network, prune_units, share_zero
from models.recipe import PruneRecipe, TrainRecipe
from models.training.build import build_network, example_inputs, num_parameters
from models.training.checkpoint import load_weights
from models.training.loop import train
from models.training.objective import TaskLoss
from tests.models.conftest import one_epoch

NETWORKS = [
    pytest.param(card, id=name)
    for name, card in catalog.all_families().items()
    if card.student is not None and card.recipe.get("prune.enabled", True)
]


def pruned(card, tiny, method: str, share: float = 0.4):
    network = build_network(card, tiny.shape, card.student, tiny.scaler, seed=1)
    prune_network(network, PruneRecipe(method=method, share=share))
    return network


def loss_of(card, tiny) -> TaskLoss:
    return TaskLoss(card.task, one_epoch(card).loss, tiny.scaler)


@pytest.mark.families
@pytest.mark.parametrize("card", NETWORKS)
def test_structured_is_smaller_trains_and_is_rebuilt_from_its_file(card, tiny, tmp_path: Path):
    before = num_parameters(build_network(card, tiny.shape, card.student, tiny.scaler))
    network = pruned(card, tiny, "structured")
    assert num_parameters(network) < 0.85 * before  # a transformer's stream stays as wide as it is
    plan = TrainRecipe(num_epochs=2, loss=loss_of(card, tiny).kind)
    list(train(network, loss_of(card, tiny), tiny.train, tiny.val, plan, tmp_path))
    again = build_network(card, tiny.shape, card.student, tiny.scaler, seed=9).eval()
    load_weights(again, tmp_path / "weights.safetensors")
    inputs = example_inputs(card, tiny.shape, 3)
    with torch.no_grad():
        assert torch.equal(again(**inputs), network(**inputs))


@pytest.mark.families
@pytest.mark.parametrize("card", NETWORKS)
def test_structured_removes_units_that_do_nothing_without_a_change(card, tiny):
    network = build_network(card, tiny.shape, card.student, tiny.scaler, seed=1).eval()
    inner = getattr(network, "network", network)
    groups = inner.prunable()
    with torch.no_grad():
        for places in groups.values():
            size = inner.state_dict()[places[0][0]].shape[places[0][1]]
            for name, dim, offset in places:
                if "running_" not in name:
                    inner.state_dict()[name].narrow(dim, offset, size // 4).zero_()
        inputs = example_inputs(card, tiny.shape, 3)
        expected = network(**inputs)
        prune_units(network, 0.2)
        torch.testing.assert_close(network(**inputs), expected)


@pytest.mark.families
@pytest.mark.parametrize("card", NETWORKS)
def test_zeros_stay_zero_through_fine_tuning(card, tiny, tmp_path: Path):
    network = pruned(card, tiny, "magnitude", share=0.6)
    plan = TrainRecipe(num_epochs=1, loss=loss_of(card, tiny).kind)
    list(train(network, loss_of(card, tiny), tiny.train, tiny.val, plan, tmp_path))
    inputs = example_inputs(card, tiny.shape, 3)
    with torch.no_grad():
        expected = network(**inputs)
        make_permanent(network)
        assert share_zero(network) == pytest.approx(0.6, abs=0.05)
        assert torch.equal(network(**inputs), expected)
    assert not any(name.endswith(("_orig", "_mask")) for name in network.state_dict())


def test_resumed_fine_tuning_ends_with_the_same_weights(digits, tmp_path: Path):
    card = catalog.family("classify", "cnn")
    plan = TrainRecipe(num_epochs=3, loss="cross_entropy")
    for method in ("structured", "magnitude"):
        whole = pruned(card, digits, method)
        list(train(whole, loss_of(card, digits), digits.train, digits.val, plan, tmp_path / method / "whole"))
        stopped = train(
            pruned(card, digits, method),
            loss_of(card, digits),
            digits.train,
            digits.val,
            plan,
            tmp_path / method / "cut",
        )
        next(stopped)
        stopped.close()
        again = pruned(card, digits, method)
        list(train(again, loss_of(card, digits), digits.train, digits.val, plan, tmp_path / method / "cut"))
        both = (tmp_path / method / name / "weights.safetensors" for name in ("whole", "cut"))
        assert next(both).read_bytes() == next(both).read_bytes()


def test_a_fitted_family_is_refused(traffic):
    card = catalog.family("forecast", "linear")
    network = build_network(card, traffic.shape, card.config(), traffic.scaler)
    for method in ("structured", "magnitude"):
        with pytest.raises(CannotPruneError):
            prune_network(network, PruneRecipe(method=method))
