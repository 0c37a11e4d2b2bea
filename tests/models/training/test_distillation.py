"""Distillation: the teacher teaches where there are no labels; hints exist in training only."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models import catalog
from models.recipe import DistilRecipe, TrainRecipe, student_recipe
from models.training.build import build_network, example_inputs
from models.training.distillation import distillation
from models.training.loop import train
from models.training.objective import TaskLoss
from models.training.tensors import tensor_batches

CPU = torch.device("cpu")


def test_forecast_student_comes_closer_to_its_teacher(traffic, tmp_path: Path):
    card = catalog.family("forecast", "stid")
    teacher = build_network(card, traffic.shape, card.student, traffic.scaler, seed=1)
    student = build_network(card, traffic.shape, card.student, traffic.scaler, seed=2)
    plan, distil = TrainRecipe(), DistilRecipe(num_epochs=3, soft_weight=1.0, hint_weight=0.1)
    example = example_inputs(card, traffic.shape)
    objective = distillation("forecast", teacher, student, example, plan, distil, traffic.scaler)
    epochs = list(train(student, objective, traffic.train, traffic.val, student_recipe(plan, distil), tmp_path))
    assert len(epochs) == 3 and epochs[-1].train_loss < 0.7 * epochs[0].train_loss
    assert set(student.state_dict()) == set(teacher.state_dict()), "the hint's projection is not part of the student"
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not any(name.startswith("_teacher") for name in objective.state_dict())


def test_missing_targets_are_taught_by_the_teacher(traffic):
    card = catalog.family("forecast", "stid")
    teacher, student = (build_network(card, traffic.shape, card.student, traffic.scaler, seed) for seed in (1, 2))
    example = example_inputs(card, traffic.shape)
    distil = DistilRecipe(soft_weight=0.5, hint_weight=0.0)
    objective = distillation("forecast", teacher, student, example, TrainRecipe(), distil, traffic.scaler)
    batch = next(tensor_batches(traffic.train, 16, CPU))
    unlabelled = batch._replace(target_mask=torch.zeros_like(batch.target_mask))
    with torch.no_grad():
        loss = float(objective(student, unlabelled))
        difference = (student(**batch.inputs) - teacher(**batch.inputs)).abs().mean() / traffic.scaler.std[0]
    assert loss == pytest.approx(0.5 * float(difference), rel=1e-4)


def test_unlabelled_images_count_for_the_soft_term_only(digits):
    card = catalog.family("classify", "mlp")
    teacher, student = (build_network(card, digits.shape, card.config(width=8, dropout=0), seed=s) for s in (1, 2))
    plan = TrainRecipe(loss="cross_entropy")
    batch = next(tensor_batches(digits.train, 32, CPU))
    wrong = batch._replace(target=torch.where(batch.target_mask > 0, batch.target, 2))
    for weight in (0.0, 0.5, 1.0):
        objective = distillation("classify", teacher, student, {}, plan, DistilRecipe(soft_weight=weight))
        with torch.no_grad():
            assert float(objective(student, batch)) == pytest.approx(float(objective(student, wrong)))
    none = batch._replace(target_mask=torch.zeros_like(batch.target_mask))
    hard_only = distillation("classify", teacher, student, {}, plan, DistilRecipe(soft_weight=0.0))
    both = distillation("classify", teacher, student, {}, plan, DistilRecipe(soft_weight=0.5))
    with torch.no_grad():
        assert float(hard_only(student, none)) == 0
        assert float(both(student, none)) > 0


def test_few_labels_gain_from_a_teacher(digits, tmp_path: Path):
    card = catalog.family("classify", "mlp")
    plan = TrainRecipe(num_epochs=15, loss="cross_entropy", patience=15)
    hard = TaskLoss("classify", "cross_entropy")
    teacher = build_network(card, digits.shape, card.config(width=64), seed=1)
    list(train(teacher, hard, digits.train, digits.val, plan, tmp_path / "teacher"))
    few = FewLabels(digits.train, num_labelled=6)
    losses = {}
    for name, weight in (("hard", 0.0), ("distilled", 0.9)):
        student = build_network(card, digits.shape, card.config(width=8, dropout=0), seed=2)
        objective = distillation("classify", teacher, student, {}, plan, DistilRecipe(soft_weight=weight))
        list(train(student, objective, few, digits.val, plan, tmp_path / name, judge=hard))
        losses[name] = TotalLoss.of(student, hard, digits.val)
    assert losses["distilled"] < losses["hard"]


class FewLabels:
    """The first samples labelled, the others not."""

    def __init__(self, samples, num_labelled: int) -> None:
        self.samples, self.num_labelled = samples, num_labelled

    def __len__(self) -> int:
        return len(self.samples)

    def take(self, indices):
        batch = self.samples.take(indices)
        return replace(batch, target_mask=batch.target_mask * (indices < self.num_labelled).astype(np.float32))


class TotalLoss:
    """Mean loss of a network over samples."""

    @staticmethod
    def of(network, objective, samples) -> float:
        network.eval()
        with torch.no_grad():
            return float(objective(network, next(tensor_batches(samples, len(samples), CPU))))
