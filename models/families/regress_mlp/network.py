"""Two hidden layers over the features and over which of them are missing.

Rumelhart, Hinton, Williams: Learning representations by back-propagating errors, Nature 323, 1986.
"""

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.regress_mlp.card import RegressMlpConfig


class RegressMlp(nn.Module):
    """Linear, ReLU, linear, ReLU, linear."""

    def __init__(self, shape: TensorShape, config: RegressMlpConfig) -> None:
        super().__init__()
        num_features = sum(spec.size * (1 + spec.can_miss) for spec in shape.inputs)
        self.first = nn.Linear(num_features, config.width)
        self.second = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, shape.output.size)
        self.output_shape = shape.output.shape

    def forward(self, **inputs: Tensor) -> Tensor:
        """Inputs [B, ...], scaled, and their masks; returns [B, *output]."""
        return self.forward_hidden(**inputs)[0]

    def forward_hidden(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The output and the last hidden layer [B, D]."""
        row = torch.cat([inputs[name].float().flatten(1) for name in sorted(inputs)], dim=1)  # [B, F]
        hidden = self.dropout(torch.relu(self.first(row)))
        hidden = self.dropout(torch.relu(self.second(hidden)))
        return self.head(hidden).reshape(-1, *self.output_shape), hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: both hidden layers."""
        return {
            "first": [("first.weight", 0, 0), ("first.bias", 0, 0), ("second.weight", 1, 0)],
            "second": [("second.weight", 0, 0), ("second.bias", 0, 0), ("head.weight", 1, 0)],
        }
