"""The last travel time that was reported of each edge holds on, as live maps have it.

Ben-Akiva, De Palma, Kaysi: Dynamic network models and driver information systems, Transportation Research A 25, 1991.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.shape import TensorShape
from models.tasks.tensors import TensorBatch


class Live(nn.Module):
    """What was seen last; an edge that nobody left in all T slots is as usual."""

    usual: Tensor

    def __init__(self, shape: TensorShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.num_ahead = shape.output.shape[0]
        self.register_buffer("usual", torch.zeros(shape.output.shape[1]))

    def forward(self, recent: Tensor, recent_mask: Tensor, **_: Tensor) -> Tensor:
        """recent, recent_mask: [B, T, E]; returns [B, H, E]."""
        last = torch.zeros_like(recent[:, 0]) + self.usual
        for step in range(recent.shape[1]):
            last = torch.where(recent_mask[:, step] > 0, recent[:, step], last)
        return last.unsqueeze(1).expand(-1, self.num_ahead, -1)

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:  # noqa: ARG002
        """The mean of each edge, for where nobody drives."""
        sums = torch.stack([(batch.target * batch.target_mask).sum(dim=(0, 1)) for batch in train]).sum(0)
        counts = torch.stack([batch.target_mask.sum(dim=(0, 1)) for batch in train]).sum(0)
        self.usual.copy_(sums / counts.clamp(min=1))
