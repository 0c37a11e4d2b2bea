"""Changed images: in training only, within their range, and the same again after a kill."""

from pathlib import Path

import pytest
import torch

from models import catalog, recipe
from models.datasets import digits as digits_card
from models.datasets import oregon_travel_times
from models.recipe import DistilRecipe, TrainRecipe, student_recipe
from models.training.augmentation import STRENGTHS, augment, augment_images
from models.training.build import build_network
from models.training.consistency import Consistency
from models.training.loop import train
from models.training.objective import TaskLoss
from models.training.tensors import tensor_batches

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("kind", sorted(STRENGTHS))
def test_every_image_is_changed_a_little_and_stays_one(kind: str) -> None:
    x = torch.zeros(50, 3, 20, 28)
    x[:, :, 6:14, 9:19] = 0.6
    changed = augment_images(x, STRENGTHS[kind], generator())
    assert changed.shape == x.shape and changed.dtype == x.dtype
    assert float(changed.min()) >= 0 and float(changed.max()) <= 1
    assert all(float((a - b).abs().mean()) > 1e-3 for a, b in zip(changed, x, strict=True))
    assert not torch.equal(changed[0], changed[1])
    torch.testing.assert_close(changed, augment_images(x, STRENGTHS[kind], generator()))
    distance = {name: float((augment_images(x, s, generator()) - x).abs().mean()) for name, s in STRENGTHS.items()}
    assert distance["light"] < distance["strong"]


def test_the_middle_moves_by_no_more_than_the_shift() -> None:
    x = torch.zeros(200, 1, 40, 40)
    x[:, :, 18:22, 18:22] = 1.0
    moved = augment_images(x, STRENGTHS["light"], generator(1)) - 0.1  # brightness adds at most that
    weight = moved.clamp(min=0.2).sub(0.2)
    place = torch.arange(40.0)
    total = weight.sum(dim=(1, 2, 3))
    down, across = (weight.sum(dim=(1, axis)) @ place / total - 19.5 for axis in (3, 2))
    assert 1.5 < float(torch.stack([down, across]).abs().max()) < 1.2 * 40 * STRENGTHS["light"].shift


def test_none_is_the_batch_itself(digits) -> None:
    batch = next(tensor_batches(digits.train, 8, CPU))
    assert augment(batch, "none", generator()) is batch
    changed = augment(batch, "light", generator())
    assert changed.target is batch.target and not torch.equal(changed.inputs["x"], batch.inputs["x"])


@pytest.mark.parametrize("kind", ["plain", "consistency"])
def test_killed_and_resumed_with_changed_images_ends_the_same(digits, tmp_path: Path, kind: str) -> None:
    card = catalog.family("classify", "mlp")
    plan = TrainRecipe(loss="cross_entropy", num_epochs=3, augment="light")

    def fresh() -> tuple[torch.nn.Module, torch.nn.Module]:
        loss = TaskLoss("classify", "cross_entropy")
        network = build_network(card, digits.shape, card.config(width=16), None, seed=1)
        return network, loss if kind == "plain" else Consistency(loss)

    whole, objective = fresh()
    losses = [e.train_loss for e in train(whole, objective, digits.train, digits.val, plan, tmp_path / "whole")]
    killed, objective = fresh()
    next(train(killed, objective, digits.train, digits.val, plan, tmp_path / "killed"))
    resumed, objective = fresh()
    rest = [e.train_loss for e in train(resumed, objective, digits.train, digits.val, plan, tmp_path / "killed")]
    assert rest == losses[1:]
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))


class Brightness(torch.nn.Module):
    """Bright or dark, more or less sure of it; a changed image is often the other one."""

    def __init__(self, sureness: float) -> None:
        super().__init__()
        self.sureness = sureness

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        difference = x.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([difference, -difference, torch.zeros_like(difference)], dim=1) * self.sureness


def test_only_sure_answers_teach(digits) -> None:
    batch = next(tensor_batches(digits.train, 32, CPU))
    hard = TaskLoss("classify", "cross_entropy")
    unsure, sure = Brightness(0.1), Brightness(1e3)
    assert float(Consistency(hard)(unsure, batch)) == pytest.approx(float(hard(unsure, batch)))
    assert float(Consistency(hard)(sure, batch)) > float(hard(sure, batch)) + 0.1


def test_students_learn_of_unlabelled_images_from_their_teacher_alone() -> None:
    plan = TrainRecipe(loss="cross_entropy", augment="light", unlabelled="consistency")
    student = student_recipe(plan, DistilRecipe())
    assert student.unlabelled == "ignore" and student.augment == "light"


@pytest.mark.parametrize("key", ["train.augment=strong", "train.unlabelled=consistency"])
def test_what_is_for_images_is_refused_for_others(key: str) -> None:
    name, value = key.split("=")
    with pytest.raises(recipe.RecipeError, match=f"{key}: for images alone"):
        recipe.build("regress/mlp", oregon_travel_times.CARD, {name: value})
    assert recipe.build("classify/cnn", digits_card.CARD, {name: value})
