"""A gated recurrent unit over the minutes of each station and its neighbours, the same weights at every station.

Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, EMNLP 2014.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.shape import TensorShape
from models.families.detect_gru.card import DetectGruConfig


class DetectGru(nn.Module):
    """Neighbours side by side, GRU over time, dense layer with the place of the station, head."""

    def __init__(self, shape: TensorShape, config: DetectGruConfig) -> None:
        super().__init__()
        _, num_stations, num_channels = shape.inputs[0].shape
        self.reach = config.reach
        self.gru = nn.GRU(2 * num_channels * (2 * config.reach + 1), config.hidden, batch_first=True)
        self.mix = nn.Linear(config.hidden, config.width)
        self.place = nn.Parameter(torch.zeros(num_stations, config.width))  # some merges always jam
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, 1)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x, x_mask: [B, T, N, C]; returns logits [B, N]."""
        return self.forward_hidden(x, x_mask)[0]

    def forward_hidden(self, x: Tensor, x_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the dense layer [B, N, D]."""
        num_batch, num_steps, num_stations, _ = x.shape
        both = functional.pad(torch.cat([x, x_mask], dim=3), (0, 0, self.reach, self.reach))  # [B, T, N + 2 R, 2 C]
        around = [both[:, :, shift : shift + num_stations] for shift in range(2 * self.reach + 1)]
        rows = torch.cat(around, dim=3).transpose(1, 2).reshape(num_batch * num_stations, num_steps, -1)
        last = self.gru(rows)[0][:, -1]  # [B N, D]
        hidden = self.mix(self.dropout(last)).reshape(num_batch, num_stations, -1) + self.place
        hidden = self.dropout(torch.relu(hidden))  # [B, N, D]
        return self.head(hidden).squeeze(2), hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: recurrent units with their gates, dense units."""
        return {"mix": [("mix.weight", 0, 0), ("mix.bias", 0, 0), ("place", 1, 0), ("head.weight", 1, 0)]}
