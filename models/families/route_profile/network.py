"""The usual travel time of each edge at this time of day, working days and weekends apart.

Historical average as in Stephanedes, Michalopoulos, Plum: Improved estimation of traffic flow for real-time control,
Transportation Research Record 795, 1981.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.shape import TensorShape
from models.families.route_profile.card import RouteProfileConfig
from models.tasks.tensors import TensorBatch

SATURDAY = 5
NUM_KINDS = 2  # of days


class RouteProfile(nn.Module):
    """A table by kind of day, slot and edge."""

    table: Tensor

    def __init__(self, shape: TensorShape, config: RouteProfileConfig) -> None:
        super().__init__()
        self.num_ahead, num_edges = shape.output.shape
        self.slots, self.reach = config.slots_per_day, config.reach_slots
        self.register_buffer("table", torch.zeros(NUM_KINDS * config.slots_per_day, num_edges))

    def forward(self, slot: Tensor, weekday: Tensor, **_: Tensor) -> Tensor:
        """slot, weekday: [B, 1] int64, of the last slot that was seen; returns [B, H, E]."""
        return self.table[self._rows(slot, weekday)]

    def _rows(self, slot: Tensor, weekday: Tensor) -> Tensor:
        """Rows of the table of the H slots ahead, [B, H]."""
        ahead = (slot + 1 + torch.arange(self.num_ahead)) % self.slots
        return ahead + self.slots * (weekday >= SATURDAY)

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:  # noqa: ARG002
        """Means over slots beside each other; 0, the usual travel time, where nothing was seen."""
        sums, counts = torch.zeros_like(self.table), torch.zeros_like(self.table)
        for batch in train:
            rows = self._rows(batch.inputs["slot"], batch.inputs["weekday"]).flatten()
            sums.index_add_(0, rows, (batch.target * batch.target_mask).flatten(0, 1))
            counts.index_add_(0, rows, batch.target_mask.flatten(0, 1))
        self.table.copy_(self._blurred(sums) / self._blurred(counts).clamp(min=1))

    def _blurred(self, table: Tensor) -> Tensor:
        """Sums over the slots within reach, around midnight too."""
        by_edge = table.reshape(NUM_KINDS, self.slots, -1).permute(0, 2, 1)  # [2, E, slots]
        width = 2 * self.reach + 1
        wide = functional.pad(by_edge, (self.reach, self.reach), mode="circular")
        summed = functional.avg_pool1d(wide, width, stride=1) * width
        return summed.permute(0, 2, 1).reshape(table.shape)
