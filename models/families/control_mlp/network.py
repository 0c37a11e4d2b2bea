"""Scores phases by two hidden layers over what detectors see, learned by imitation.

Behavioural cloning, as in Pomerleau: Efficient training of artificial neural networks for autonomous navigation, Neural
Computation 3(1), 1991.
"""

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.control_mlp.card import ControlMlpConfig


class ControlMlp(nn.Module):
    """Logarithm of the counts, then linear, ReLU, linear, ReLU, linear."""

    def __init__(self, shape: TensorShape, config: ControlMlpConfig) -> None:
        super().__init__()
        num_features, num_phases = sum(spec.size for spec in shape.inputs), len(shape.output.labels)
        self.first = nn.Linear(num_features, config.width)
        self.second = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, num_phases)

    def forward(self, **inputs: Tensor) -> Tensor:
        """Inputs [B, ...], unscaled; returns logits [B, K]."""
        return self.forward_hidden(**inputs)[0]

    def forward_hidden(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the last hidden layer [B, D]."""
        row = torch.cat([inputs[name].float().flatten(1) for name in sorted(inputs)], dim=1)  # [B, F]
        row = torch.log1p(torch.relu(row))  # counts from 0 to dozens, seconds to thousands
        hidden = self.dropout(torch.relu(self.first(row)))
        hidden = self.dropout(torch.relu(self.second(hidden)))
        return self.head(hidden), hidden

    def evolvable(self) -> tuple[str, ...]:
        """Parameters that closed-loop search changes: how readily each phase is chosen."""
        return ("head.bias",)

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: both hidden layers."""
        return {
            "first": [("first.weight", 0, 0), ("first.bias", 0, 0), ("second.weight", 1, 0)],
            "second": [("second.weight", 0, 0), ("second.bias", 0, 0), ("head.weight", 1, 0)],
        }
