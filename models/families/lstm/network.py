"""One LSTM shared by all nodes, and a linear head over the horizon.

The head is told the node, the slot of the day and the weekday.

Hochreiter and Schmidhuber: Long Short-Term Memory, Neural Computation 9(8), 1997.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.lstm.card import LstmConfig
from models.tasks.calendar import Identities


class Lstm(nn.Module):
    """Reads each node's past and forecasts the change from its last value."""

    def __init__(self, shape: ForecastShape, config: LstmConfig) -> None:
        super().__init__()
        self.num_nodes = shape.num_nodes
        self.recurrent = nn.LSTM(shape.num_channels + 1, config.width, config.num_layers, batch_first=True)
        self.told = Identities(shape, config.node_width, config.slot_width, config.weekday_width)
        self.head = nn.Linear(config.width + self.told.width, shape.horizon_steps)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        return self.forward_hidden(x, mask, clock)[0]

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast and the last hidden state [B, N, D]."""
        steps = torch.cat([x, mask[..., :1]], dim=3).transpose(1, 2).flatten(0, 1)  # [B N, T, C + 1]
        states, _ = self.recurrent(steps)
        hidden = states[:, -1].unflatten(0, (-1, self.num_nodes))  # [B, N, D]
        change: Tensor = self.head(torch.cat([hidden, self.told(clock)], dim=2))  # [B, N, H]
        return change.transpose(1, 2) + x[:, -1:, :, 0], hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: hidden units, the same in every layer."""
        width = self.recurrent.hidden_size
        places = [("recurrent.weight_hh_l0", 1, 0), ("head.weight", 1, 0)]
        for layer in range(self.recurrent.num_layers):
            places += [(f"recurrent.weight_hh_l{layer}", 1, 0)] if layer else []
            places += [(f"recurrent.weight_ih_l{layer}", 1, 0)] if layer else []
            for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
                places += [(f"recurrent.{kind}_l{layer}", 0, gate * width) for gate in range(4)]  # four gates
        return {"recurrent": places}
