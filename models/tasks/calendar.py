"""Tells a forecast network which node it looks at and when: embeddings of node, slot of the day and weekday.

Shao et al., Spatial-Temporal Identity, CIKM 2022. Weekdays begin at zero and are left out of half of the training
samples, so a weekday that never came in training (a week of data, split in time) is told as "no weekday", which the
network knows, and not as noise.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape

WEEKDAY_DROP = 0.5


class Identities(nn.Module):
    """What is known of node and time before anything is measured: [B, N, node + slot + weekday width]."""

    def __init__(self, shape: ForecastShape, node_width: int, slot_width: int, weekday_width: int) -> None:
        super().__init__()
        self.node = nn.Embedding(shape.num_nodes, node_width)
        self.slot = nn.Embedding(shape.slots_per_day, slot_width)
        self.weekday = nn.Embedding(7, weekday_width)
        nn.init.zeros_(self.weekday.weight)
        self.width = node_width + slot_width + weekday_width

    def forward(self, clock: Tensor) -> Tensor:
        """clock: [B, 2], slot and weekday; returns [B, N, W]."""
        num_batch, num_nodes = clock.shape[0], self.node.num_embeddings
        weekday = self.weekday(clock[:, 1])  # [B, W]
        if self.training:
            weekday = weekday * (torch.rand_like(weekday[:, :1]) >= WEEKDAY_DROP)
        told = [
            self.node.weight.expand(num_batch, -1, -1),
            self.slot(clock[:, 0]).unsqueeze(1).expand(-1, num_nodes, -1),
            weekday.unsqueeze(1).expand(-1, num_nodes, -1),
        ]
        return torch.cat(told, dim=2)
