"""Logistic regression on the newest readings around a station and how they changed.

Cox: The regression analysis of binary sequences, Journal of the Royal Statistical Society B 20(2), 1958. Fitted by
Newton's method.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.shape import TensorShape
from models.families.detect_logistic.card import DetectLogisticConfig
from models.tasks.tensors import TensorBatch

NEWEST = (1, 3)  # the last minute; the mean of the last three


class DetectLogistic(nn.Module):
    """Weights [F] and an intercept for every station [N]."""

    weight: Tensor
    intercept: Tensor

    def __init__(self, shape: TensorShape, config: DetectLogisticConfig) -> None:
        super().__init__()
        _, num_stations, num_channels = shape.inputs[0].shape
        self.config = config
        num_features = (len(NEWEST) + 1) * num_channels * (2 * config.reach + 1)
        self.register_buffer("weight", torch.zeros(num_features))
        self.register_buffer("intercept", torch.zeros(num_stations))

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:  # noqa: ARG002
        """x: [B, T, N, C], 0 where missing; returns logits [B, N]."""
        return self._features(x) @ self.weight + self.intercept

    def _features(self, x: Tensor) -> Tensor:
        """Newest readings, their mean and the mean of the whole past, of a station and its neighbours: [B, N, F]."""
        means = [x[:, -steps:].mean(dim=1) for steps in NEWEST]
        own = torch.cat([*means, x.mean(dim=1)], dim=2)  # [B, N, 3 C]
        reach, num_stations = self.config.reach, x.shape[2]
        padded = functional.pad(own, (0, 0, reach, reach))
        return torch.cat([padded[:, shift : shift + num_stations] for shift in range(2 * reach + 1)], dim=2)

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:
        """Newton steps on the penalised log likelihood; the ridge with the least validation loss is kept."""
        rows, target, known = self._rows(train)
        found = [self._newton(rows, target, known, ridge) for ridge in self.config.ridges]
        rows, target, known = self._rows(val)
        losses = [
            float(functional.binary_cross_entropy_with_logits(rows @ each, target, weight=known)) for each in found
        ]
        best = found[losses.index(min(losses))].to(self.weight)
        self.weight.copy_(best[: len(self.weight)])
        self.intercept.copy_(best[len(self.weight) :])

    def _rows(self, batches: Iterable[TensorBatch]) -> tuple[Tensor, Tensor, Tensor]:
        """Features and the station as one of N [S N, F + N], target and mask [S N], in double precision."""
        rows, targets, masks = [], [], []
        for batch in batches:
            features = self._features(batch.inputs["x"])
            stations = torch.eye(features.shape[1], device=features.device).expand(len(features), -1, -1)
            rows.append(torch.cat([features, stations], dim=2).flatten(0, 1))
            targets.append(batch.target.flatten())
            masks.append(batch.target_mask.flatten())
        return torch.cat(rows).double(), torch.cat(targets).double(), torch.cat(masks).double()

    def _newton(self, rows: Tensor, target: Tensor, known: Tensor, ridge: float) -> Tensor:
        weight = torch.zeros(rows.shape[1], dtype=rows.dtype, device=rows.device)
        penalty = ridge * torch.eye(len(weight), dtype=rows.dtype, device=rows.device)
        for _ in range(self.config.num_steps):
            share = torch.sigmoid(rows @ weight)
            slope = rows.T @ (known * (share - target)) + penalty @ weight
            curve = (rows * (known * share * (1 - share))[:, None]).T @ rows + penalty
            weight = weight - torch.linalg.solve(curve, slope)
        return weight
