"""Reads each node's past with recurrent layers and forecasts the change from its last value.

What the recurrent forecasting families share; each brings its own layer. The start of the state is told the node, the
slot of the day and the weekday.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.tasks.calendar import Identities


class Recurrent(nn.Module):
    """Layers `layer(num_inputs, width)`, each called with steps [T, R, F] and a state [R, D], shared by all nodes."""

    def __init__(
        self,
        shape: ForecastShape,
        layer: Callable[[int, int], nn.Module],
        width: int,
        num_layers: int,
        identities: tuple[int, int, int],
    ) -> None:
        super().__init__()
        self.num_nodes = shape.num_nodes
        self.told = Identities(shape, *identities)
        self.start = nn.Linear(self.told.width, width)
        sizes = [shape.num_channels + 1] + [width] * num_layers
        self.layers = nn.ModuleList(layer(size, width) for size in sizes[:-1])
        self.head = nn.Linear(width, shape.horizon_steps)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        return self.forward_hidden(x, mask, clock)[0]

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast and the last state [B, N, D]."""
        start = torch.tanh(self.start(self.told(clock))).flatten(0, 1)  # [B N, D]
        states = torch.cat([x, mask[..., :1]], dim=3).transpose(0, 1).flatten(1, 2)  # [T, B N, C + 1]
        for layer in self.layers:
            states = layer(states, start)
        hidden = states[-1].reshape(x.shape[0], self.num_nodes, -1)  # [B, N, D]
        change: Tensor = self.head(hidden)  # [B, N, H]
        return change.transpose(1, 2) + x[:, -1:, :, 0], hidden
