"""Two hidden layers over the pixels.

Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, Nature 323, 1986.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ImageShape
from models.families.mlp.card import MlpConfig


class Mlp(nn.Module):
    """Linear, ReLU, linear, ReLU, linear."""

    def __init__(self, shape: ImageShape, config: MlpConfig) -> None:
        super().__init__()
        self.first = nn.Linear(shape.num_channels * shape.height * shape.width, config.width)
        self.second = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, shape.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W] in 0..1; returns logits [B, K]."""
        return self.forward_hidden(x)[0]

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the last hidden layer [B, D]."""
        hidden = self.dropout(torch.relu(self.first(x.flatten(1))))
        hidden = self.dropout(torch.relu(self.second(hidden)))
        return self.head(hidden), hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: both hidden layers."""
        return {
            "first": [("first.weight", 0, 0), ("first.bias", 0, 0), ("second.weight", 1, 0)],
            "second": [("second.weight", 0, 0), ("second.bias", 0, 0), ("head.weight", 1, 0)],
        }
