"""Serves the phase with the most vehicles waiting, less those that stand in its way.

Varaiya: Max pressure control of a network of signalized intersections, Transportation Research C 36, 2013.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.control_max_pressure.card import MaxPressureConfig
from models.tasks.tensors import TensorBatch

# [K, M]: right of way of each phase; sides N, E, S, W, each straight and left.
PROTECTED = (
    (1, 0, 0, 0, 1, 0, 0, 0), (0, 1, 0, 0, 0, 1, 0, 0), (0, 0, 1, 0, 0, 0, 1, 0), (0, 0, 0, 1, 0, 0, 0, 1),
    (1, 1, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 1, 1, 0, 0), (0, 0, 1, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 1, 1),
)  # fmt: skip


class MaxPressure(nn.Module):
    """Nothing is learned."""

    protected: Tensor

    def __init__(self, shape: TensorShape, config: MaxPressureConfig) -> None:
        super().__init__()
        if len(shape.output.labels) != len(PROTECTED):
            raise ValueError(f"max_pressure: expected {len(PROTECTED)} phases, got {len(shape.output.labels)}")
        self.config = config
        self.register_buffer("protected", torch.tensor(PROTECTED, dtype=torch.float32))

    def forward(self, observation: Tensor) -> Tensor:
        """observation: [B, F] in the order of the data set's card, unscaled; returns pressures [B, K]."""
        queue, moving, _, far_queue, exits, _ = observation.split_with_sizes([8, 8, 4, 4, 4, 29], dim=1)
        upstream = queue + moving + self.config.far_queue * far_queue.repeat_interleave(2, dim=1)  # [B, M]
        straight_on = exits[:, [2, 3, 0, 1]]  # [B, 4] by the side that vehicles come from
        in_the_way: Tensor = straight_on @ self.protected[:, 0::2].T
        pressure: Tensor = upstream @ self.protected.T - self.config.exit_queue * in_the_way
        return pressure

    def forward_hidden(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """The pressures, twice."""
        pressure = self.forward(observation)
        return pressure, pressure

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:
        """Nothing to fit."""
