"""Convolutions along the road: a filter sees the whole past of a few stations.

After Ritchie and Cheu: Simulation of freeway incident detection using artificial neural networks, Transportation
Research Part C 1(3), 1993, who gave a perceptron the past of a station and of the next; here the same weights slide
along the road (LeCun et al., Proc. IEEE 86(11), 1998), so that an incident seen at one station is learned for all.
"""

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.detect_cnn.card import DetectCnnConfig


class DetectCnn(nn.Module):
    """Convolution over stations with T (2 C) channels, another over three stations, a dense layer, a head."""

    def __init__(self, shape: TensorShape, config: DetectCnnConfig) -> None:
        super().__init__()
        num_steps, num_stations, num_channels = shape.inputs[0].shape
        self.first = nn.Conv1d(2 * num_steps * num_channels, config.filters, config.span, padding=config.span // 2)
        self.place = nn.Parameter(torch.zeros(config.filters, num_stations))  # some merges always jam
        self.second = nn.Conv1d(config.filters, config.width, 3, padding=1)
        self.third = nn.Conv1d(config.width, config.width, 1)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Conv1d(config.width, 1, 1)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x, x_mask: [B, T, N, C]; returns logits [B, N]."""
        return self.forward_hidden(x, x_mask)[0]

    def forward_hidden(self, x: Tensor, x_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the last hidden layer [B, N, D]."""
        both = torch.cat([x, x_mask], dim=3)  # [B, T, N, 2 C]
        past = both.permute(0, 1, 3, 2).flatten(1, 2)  # [B, T 2 C, N]
        hidden = self.dropout(torch.relu(self.first(past) + self.place))
        hidden = self.dropout(torch.relu(self.second(hidden)))
        hidden = self.dropout(torch.relu(self.third(hidden)))  # [B, D, N]
        return self.head(hidden).squeeze(1), hidden.transpose(1, 2)

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: the filters of each layer."""
        return {
            "first": [("first.weight", 0, 0), ("first.bias", 0, 0), ("place", 0, 0), ("second.weight", 1, 0)],
            "second": [("second.weight", 0, 0), ("second.bias", 0, 0), ("third.weight", 1, 0)],
            "third": [("third.weight", 0, 0), ("third.bias", 0, 0), ("head.weight", 1, 0)],
        }
