"""Distils: the teacher's outputs, and for forecasts its hidden state, join the labels.

Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, 2015 (soft targets with temperature).
Romero et al.: FitNets, ICLR 2015 (hidden hints). What has no label is taught by the teacher alone, so unlabelled
data are of use.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.scaling import Scaler
from models.recipe import DistilRecipe, TrainRecipe
from models.training.objective import TaskLoss
from models.training.tensors import Tensors


def distillation(
    task: str,
    teacher: nn.Module,
    student: nn.Module,
    example: dict[str, Tensor],
    train: TrainRecipe,
    distil: DistilRecipe,
    scaler: Scaler | None = None,
) -> nn.Module:
    """The objective that trains `student` from `teacher`; `example` inputs tell the widths of their hidden states."""
    hard = TaskLoss(task, train.loss, scaler)
    if task == "classify" or train.loss == "cross_entropy":
        return SoftLabels(hard, teacher, distil)
    if train.loss == "bce":
        return SoftAnswers(hard, teacher, distil)
    return OutputsAndHints(hard, teacher, student, example, distil, scaler.std[0] if scaler else 1.0)


class _Taught(nn.Module):
    """Holds the teacher without owning it: its weights are neither trained nor saved with the objective."""

    def __init__(self, hard: TaskLoss, teacher: nn.Module, recipe: DistilRecipe) -> None:
        super().__init__()
        self.hard, self.recipe = hard, recipe
        self._teacher = (teacher.eval().requires_grad_(False),)

    def teacher_on(self, batch: Tensors) -> tuple[Tensor, Tensor]:
        """The teacher's outputs and hidden state, on the batch's device."""
        teacher = self._teacher[0].to(batch.target.device)
        with torch.no_grad():
            output, hidden = teacher.forward_hidden(**batch.inputs)  # type: ignore[operator]
        return output, hidden


class SoftLabels(_Taught):
    """(1 - w) cross entropy on labelled images + w T^2 KL(teacher || student) on all of them, both at temperature T."""

    def forward(self, network: nn.Module, batch: Tensors) -> Tensor:
        logits, temperature = network(**batch.inputs), self.recipe.temperature
        taught, _ = self.teacher_on(batch)
        soft = functional.kl_div(
            functional.log_softmax(logits / temperature, dim=1),
            functional.log_softmax(taught / temperature, dim=1),
            reduction="batchmean",
            log_target=True,
        )
        hard = self.hard.loss(logits, batch.target, batch.target_mask)
        return (1 - self.recipe.soft_weight) * hard + self.recipe.soft_weight * temperature**2 * soft


class SoftAnswers(_Taught):
    """(1 - w) binary cross entropy on what is labelled + w of it against the teacher's probabilities everywhere."""

    def forward(self, network: nn.Module, batch: Tensors) -> Tensor:
        logits = network(**batch.inputs)
        taught, _ = self.teacher_on(batch)
        soft = functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(taught))
        hard = self.hard.loss(logits, batch.target, batch.target_mask)
        return (1 - self.recipe.soft_weight) * hard + self.recipe.soft_weight * soft


class OutputsAndHints(_Taught):
    """(1 - w) task loss + w distance to the teacher's outputs everywhere + h distance of hidden states.

    The student's hidden state [.., D] is projected to the teacher's width by a layer that exists in training only.
    """

    def __init__(
        self,
        hard: TaskLoss,
        teacher: nn.Module,
        student: nn.Module,
        example: dict[str, Tensor],
        recipe: DistilRecipe,
        scale: float,
    ) -> None:
        super().__init__(hard, teacher, recipe)
        self.scale = scale
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.hint = nn.Linear(_hidden_width(student, example), _hidden_width(teacher, example))

    def forward(self, network: nn.Module, batch: Tensors) -> Tensor:
        output, hidden = network.forward_hidden(**batch.inputs)  # type: ignore[operator]
        taught, taught_hidden = self.teacher_on(batch)
        hard = self.hard.loss(output, batch.target, batch.target_mask)
        soft = functional.l1_loss(output / self.scale, taught / self.scale)
        loss = (1 - self.recipe.soft_weight) * hard + self.recipe.soft_weight * soft
        if self.recipe.hint_weight == 0:
            return loss
        return loss + self.recipe.hint_weight * functional.mse_loss(self.hint(hidden), _standardised(taught_hidden))


def _hidden_width(network: nn.Module, example: dict[str, Tensor]) -> int:
    _, hidden = network.cpu().forward_hidden(**example)  # type: ignore[operator]
    return int(hidden.shape[-1])


def _standardised(hidden: Tensor) -> Tensor:
    """Zero mean and unit variance over the batch, so that the hint's weight means the same for every teacher."""
    flat = hidden.flatten(0, -2)
    return (hidden - flat.mean(0)) / flat.std(0).clamp(min=1e-3)
