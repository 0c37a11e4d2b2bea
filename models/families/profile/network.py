"""The mean of every node at this time of day, for weekdays and for weekends.

Historical average as in Li, Yu, Shahabi, Liu: Diffusion Convolutional Recurrent Neural Network, ICLR 2018.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.shape import ForecastShape
from models.tasks.forecast import WindowBatch


class Profile(nn.Module):
    """A table of 2 day types x slots x N means. An unseen cell falls back to the slot's, then to the node's mean."""

    table: Tensor
    steps: Tensor

    def __init__(self, shape: ForecastShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.slots_per_day = shape.slots_per_day
        self.register_buffer("table", torch.zeros(2 * shape.slots_per_day, shape.num_nodes))
        self.register_buffer("steps", torch.arange(1, shape.horizon_steps + 1), persistent=False)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:  # noqa: ARG002
        """clock: [B, 2]; returns [B, H, N]."""
        return self.table[self._rows(clock)]

    def fit(self, train: Iterable[WindowBatch], val: Iterable[WindowBatch]) -> None:  # noqa: ARG002
        """Means over the first target step of every window, so each time counts once."""
        total = torch.zeros_like(self.table, dtype=torch.float64)
        count = torch.zeros_like(total)
        for batch in train:
            rows = self._rows(batch.clock)[:, 0]
            total.index_add_(0, rows, batch.target[:, 0].double())
            count.index_add_(0, rows, batch.target_mask[:, 0].double())
        node_mean = total.sum(0) / count.sum(0).clamp(min=1)  # [N]
        by_slot, slot_count = total.reshape(2, -1, total.shape[1]).sum(0), count.reshape(2, -1, total.shape[1]).sum(0)
        slot_mean = torch.where(slot_count > 0, by_slot / slot_count.clamp(min=1), node_mean).repeat(2, 1)
        self.table.copy_(torch.where(count > 0, total / count.clamp(min=1), slot_mean))

    def _rows(self, clock: Tensor) -> Tensor:
        """Row of the table at every step of the horizon: [B, H]."""
        week = clock[:, 1:] * self.slots_per_day + clock[:, :1] + self.steps
        week = week % (7 * self.slots_per_day)
        is_weekend = (week >= 5 * self.slots_per_day).long()
        return is_weekend * self.slots_per_day + week % self.slots_per_day
