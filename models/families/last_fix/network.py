"""The last fix that was seen, kept through an outage.

What a receiver shows on its own: Groves, Principles of GNSS, Inertial, and Multisensor Integrated Navigation Systems,
2nd edition, 2013, chapter 9.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.shape import TensorShape
from models.tasks.tensors import TensorBatch


class LastFix(nn.Module):
    """Nothing to learn; where no fix was seen at all, the origin."""

    order: Tensor

    def __init__(self, shape: TensorShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()
        num_steps = next(spec for spec in shape.inputs if spec.name == "fixes").shape[0]
        self.register_buffer("order", torch.arange(1.0, num_steps + 1), persistent=False)

    def forward(self, fixes: Tensor, patch: Tensor, fixes_mask: Tensor) -> Tensor:
        """fixes, fixes_mask: [B, T, 6], patch: [B, 1, P, P], in the graph but not looked at; returns [B, 2]."""
        latest = (fixes_mask[:, :, 0] * self.order).argmax(dim=1)[:, None, None]  # [B, 1, 1]
        last = fixes[:, :, :2].gather(1, latest.expand(-1, 1, 2))[:, 0]
        return last + 0 * patch[:, 0, 0, :1]

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:
        """Nothing to fit."""
