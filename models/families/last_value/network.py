"""The last observed value of every node, kept for the whole horizon.

Naive forecast: Hyndman and Athanasopoulos, Forecasting: Principles and Practice, 3rd edition, section 5.2 (2021).
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.shape import ForecastShape
from models.tasks.forecast import WindowBatch


class LastValue(nn.Module):
    """Nothing to learn; where a node has no observation in the window, the train mean (0 in scaled units)."""

    order: Tensor

    def __init__(self, shape: ForecastShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.horizon_steps = shape.horizon_steps
        order = torch.arange(1, shape.past_steps + 1, dtype=torch.float32)
        self.register_buffer("order", order.reshape(1, -1, 1), persistent=False)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:  # noqa: ARG002
        """x, mask: [B, T, N, C]; returns [B, H, N]."""
        latest = (mask[..., 0] * self.order).argmax(dim=1, keepdim=True)  # [B, 1, N]
        last = x[..., 0].gather(1, latest)
        return last.expand(-1, self.horizon_steps, -1)  # [B, H, N]

    def fit(self, train: Iterable[WindowBatch], val: Iterable[WindowBatch]) -> None:
        """Nothing to fit."""
