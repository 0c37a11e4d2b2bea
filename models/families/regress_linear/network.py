"""Ridge regression on all features, and on which of them are missing, in closed form.

Hoerl and Kennard: Ridge Regression: Biased Estimation for Nonorthogonal Problems, Technometrics 12(1), 1970.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.regress_linear.card import RegressLinearConfig
from models.tasks.tensors import TensorBatch


class RegressLinear(nn.Module):
    """Weights [F + 1, K], the last row the intercept; F counts every feature and every mask of one."""

    weight: Tensor

    def __init__(self, shape: TensorShape, config: RegressLinearConfig) -> None:
        super().__init__()
        self.config = config
        num_features = sum(spec.size * (1 + spec.can_miss) for spec in shape.inputs)
        self.register_buffer("weight", torch.zeros(num_features + 1, shape.output.size))
        self.output_shape = shape.output.shape

    def forward(self, **inputs: Tensor) -> Tensor:
        """Inputs [B, ...], scaled, and their masks; returns [B, *output]."""
        answer = _flat(inputs) @ self.weight[:-1] + self.weight[-1]  # [B, K]
        return answer.reshape(-1, *self.output_shape)

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:
        """Normal equations over known targets; of the ridges the one with the least validation MAE is kept."""
        num_rows, num_outputs = self.weight.shape
        gram = torch.zeros(num_outputs, num_rows, num_rows, dtype=torch.float64, device=self.weight.device)
        moment = torch.zeros(num_outputs, num_rows, 1, dtype=torch.float64, device=self.weight.device)
        for batch in train:
            flat = _flat(batch.inputs).double()
            rows = torch.cat([flat, torch.ones_like(flat[:, :1])], dim=1)  # [B, F + 1]
            known, target = batch.target_mask.flatten(1).double(), batch.target.flatten(1).double()  # [B, K]
            gram += torch.einsum("bi,bk,bj->kij", rows, known, rows)
            moment += torch.einsum("bi,bk->ki", rows, known * target)[..., None]
        penalty = torch.eye(num_rows, dtype=torch.float64, device=self.weight.device)
        penalty[-1, -1] = 1e-9  # the intercept is free
        candidates = [
            torch.linalg.solve(gram + ridge * penalty, moment) for ridge in self.config.ridges
        ]  # [K, F + 1, 1]
        weights = [candidate.squeeze(2).T.to(self.weight) for candidate in candidates]
        errors = [self._error(weight, val) for weight in weights]
        self.weight.copy_(weights[errors.index(min(errors))])

    def _error(self, weight: Tensor, val: Iterable[TensorBatch]) -> float:
        self.weight.copy_(weight)
        total, count = 0.0, 0.0
        for batch in val:
            total += float(((self(**batch.inputs) - batch.target).abs() * batch.target_mask).sum())
            count += float(batch.target_mask.sum())
        return total / max(count, 1.0)


def _flat(inputs: dict[str, Tensor]) -> Tensor:
    """Every feature and mask of a sample in one row: [B, F], in the order of their names."""
    return torch.cat([inputs[name].float().flatten(1) for name in sorted(inputs)], dim=1)
