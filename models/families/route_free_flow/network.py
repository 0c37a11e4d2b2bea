"""Travel times that never change: those of each edge when it is empty, as a map has them.

Dijkstra: A note on two problems in connexion with graphs, Numerische Mathematik 1, 1959, with its fixed lengths. Free
flow is the 5 % quantile of the training travel times, which know of signals, as length over speed limit does not.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.route_free_flow.card import FreeFlowConfig
from models.tasks.tensors import TensorBatch


class FreeFlow(nn.Module):
    """One number for each edge."""

    free: Tensor

    def __init__(self, shape: TensorShape, config: FreeFlowConfig) -> None:
        super().__init__()
        self.quantile, self.num_ahead = config.quantile, shape.output.shape[0]
        self.register_buffer("free", torch.zeros(shape.output.shape[1]))

    def forward(self, recent: Tensor, **_: Tensor) -> Tensor:
        """recent: [B, T, E]; returns [B, H, E]."""
        nothing = recent[:, :1] * 0  # [B, 1, E]: as many rows as were asked
        return (nothing + self.free).expand(-1, self.num_ahead, -1)

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:  # noqa: ARG002
        """The quantile of what was seen on each edge; 0, the usual travel time, where nothing was."""
        batches = list(train)
        target = torch.cat([batch.target for batch in batches]).flatten(0, 1)  # [S H, E]
        known = torch.cat([batch.target_mask for batch in batches]).flatten(0, 1) > 0
        for edge in range(target.shape[1]):
            seen = target[known[:, edge], edge]
            self.free[edge] = seen.quantile(self.quantile) if len(seen) else 0.0
