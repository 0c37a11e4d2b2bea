"""The closed-form baselines against what they are by definition, and the figure that the linear one must reach."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models import catalog, recipe
from models.data.prepare import prepare
from models.data.shape import ForecastShape
from models.data.snapshot import read_snapshot
from models.datasets import oregon_counts
from models.families.last_value.network import LastValue
from models.families.profile.network import Profile
from models.tasks.forecast import WindowBatch
from models.training.build import build_network
from models.training.loop import train
from models.training.objective import TaskLoss
from models.training.tensors import tensor_batches

SHAPE = ForecastShape(past_steps=3, horizon_steps=2, num_nodes=2, num_channels=1, slots_per_day=4)


def test_last_value_is_the_last_observed_one():
    x = torch.tensor([[[1.0, 0.0], [2.0, 0.0], [0.0, 0.0]]])[..., None]
    mask = torch.tensor([[[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]])[..., None]
    output = LastValue(SHAPE, catalog.FamilyConfig())(x, mask, torch.zeros(1, 2, dtype=torch.int64))
    assert output.tolist() == [[[2.0, 0.0], [2.0, 0.0]]], "node 0: the second step; node 1: never seen, train mean"


def profile_batch(clock: list[list[int]], target: list[float], seen: list[float]) -> WindowBatch:
    size = len(clock)
    past = torch.zeros(size, 3, 2, 1)
    first = torch.tensor(target).reshape(size, 1, 1).expand(size, 2, 2)
    return WindowBatch(
        past, past, torch.tensor(clock), first, torch.tensor(seen).reshape(size, 1, 1).expand(size, 2, 2)
    )


def test_profile_knows_weekday_slot_and_the_turn_of_the_day():
    network = Profile(SHAPE, catalog.FamilyConfig())
    # Friday, last slot: the next step is Saturday, slot 0
    batch = profile_batch([[3, 4], [3, 0], [3, 1], [0, 0]], [10.0, 2.0, 4.0, 7.0], [1.0, 1.0, 1.0, 1.0])
    network.fit([batch], [])
    ahead = network(batch.x, batch.mask, torch.tensor([[3, 5], [3, 2], [0, 3], [1, 3]]))[:, 0, 0]
    weekday_slot_0, weekday_slot_1, node_mean = 3.0, 7.0, 23 / 4
    assert ahead.tolist() == pytest.approx([10.0, weekday_slot_0, weekday_slot_1, node_mean])


def test_profile_falls_back_to_the_other_day_type():
    network = Profile(SHAPE, catalog.FamilyConfig())
    network.fit([profile_batch([[0, 0], [1, 0]], [5.0, 9.0], [1.0, 1.0])], [])
    saturday = network(torch.zeros(1, 3, 2, 1), torch.zeros(1, 3, 2, 1), torch.tensor([[0, 5]]))
    assert saturday[0, 0].tolist() == [5.0, 5.0]


def test_linear_reaches_its_figure_on_the_oregon_counts(tmp_path: Path):
    card, plan = catalog.family("forecast", "linear"), recipe.build("forecast/linear", oregon_counts.CARD)
    raw = oregon_counts.read(oregon_counts.fetch()[0].parent)
    prepare(raw, oregon_counts.CARD, plan.data, b"0" * 32, tmp_path / "snapshot")
    snapshot = read_snapshot(tmp_path / "snapshot")
    network = build_network(card, snapshot.shape, plan.model, snapshot.manifest.scaler)
    objective = TaskLoss("forecast", "mae", snapshot.manifest.scaler)
    samples = [snapshot.samples(split) for split in ("train", "val", "test")]
    list(train(network, objective, samples[0], samples[1], plan.train, tmp_path / "run"))
    total, count = 0.0, 0.0
    with torch.no_grad():
        for batch in tensor_batches(samples[2], 256, torch.device("cpu")):
            error = (network(**batch.inputs) - batch.target).abs() * batch.target_mask
            total, count = total + float(error[:, 0].sum()), count + float(batch.target_mask[:, 0].sum())
    assert total / count <= 3.60, "one step ahead, MAE in vehicles"


def test_linear_stands_in_the_profile_for_what_is_missing(traffic, tmp_path: Path):
    card = catalog.family("forecast", "linear")
    network = build_network(card, traffic.shape, card.config(), traffic.scaler)
    plan = recipe.TrainRecipe()
    list(train(network, TaskLoss("forecast", "mae", traffic.scaler), traffic.train, traffic.val, plan, tmp_path))
    batch = next(tensor_batches(traffic.val, 16, torch.device("cpu"))).inputs
    gone = {**batch, "x": torch.full_like(batch["x"], 1e6), "mask": torch.zeros_like(batch["mask"])}
    with torch.no_grad():
        difference = (network(**gone) - network(**batch)).abs().mean()
    assert float(difference) < 10 and np.isfinite(float(difference))
