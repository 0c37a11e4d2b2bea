"""A gated recurrent unit over the minutes of each station and its neighbours.

Cho et al.: Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation, EMNLP 2014.
The weights are the same at every station. Written out step by step: exported so, int8 and pruning reach its products.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.shape import TensorShape
from models.families.detect_gru.card import DetectGruConfig

NUM_GATES = 3  # reset, update, new


class DetectGru(nn.Module):
    """Neighbours side by side, GRU over time, dense layer with the place of the station, head."""

    def __init__(self, shape: TensorShape, config: DetectGruConfig) -> None:
        super().__init__()
        _, num_stations, num_channels = shape.inputs[0].shape
        self.reach = config.reach
        num_inputs = 2 * num_channels * (2 * config.reach + 1)
        self.inputs = nn.Linear(num_inputs, NUM_GATES * config.hidden)
        self.state = nn.Linear(config.hidden, NUM_GATES * config.hidden)
        self.mix = nn.Linear(config.hidden, config.width)
        self.place = nn.Parameter(torch.zeros(num_stations, config.width))  # some merges always jam
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, 1)

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:
        """x, x_mask: [B, T, N, C]; returns logits [B, N]."""
        return self.forward_hidden(x, x_mask)[0]

    def forward_hidden(self, x: Tensor, x_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the dense layer [B, N, D]."""
        num_stations = x.shape[2]
        both = functional.pad(torch.cat([x, x_mask], dim=3), (0, 0, self.reach, self.reach))  # [B, T, N + 2 R, 2 C]
        around = torch.cat([both[:, :, shift : shift + num_stations] for shift in range(2 * self.reach + 1)], dim=3)
        last = self._last_state(self.inputs(around))  # [B, N, D]
        hidden = self.dropout(torch.relu(self.mix(self.dropout(last)) + self.place))  # [B, N, D]
        return self.head(hidden).squeeze(2), hidden

    def _last_state(self, steps: Tensor) -> Tensor:
        """steps: [B, T, N, 3 D], the inputs of the gates; returns [B, N, D]."""
        state = torch.zeros_like(steps[:, 0, :, : self.state.in_features])
        for inputs in steps.unbind(1):
            reset, update, new = inputs.chunk(NUM_GATES, dim=2)
            state_reset, state_update, state_new = self.state(state).chunk(NUM_GATES, dim=2)
            kept = torch.sigmoid(update + state_update)
            fresh = torch.tanh(new + torch.sigmoid(reset + state_reset) * state_new)
            state = fresh + kept * (state - fresh)
        return state

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: units of the state, units of the dense layer."""
        width = self.state.in_features
        places = [("mix.weight", 1, 0), ("state.weight", 1, 0)]
        for name in ("inputs.weight", "inputs.bias", "state.weight", "state.bias"):
            places += [(name, 0, gate * width) for gate in range(NUM_GATES)]
        return {
            "state": places,
            "mix": [("mix.weight", 0, 0), ("mix.bias", 0, 0), ("place", 1, 0), ("head.weight", 1, 0)],
        }
