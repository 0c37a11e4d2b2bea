"""A GRU whose gates look at the neighbours' states too, through graph convolutions.

Zhao, Song, Zhang, Liu, Wang, Lin, Deng, Li: T-GCN: A Temporal Graph Convolutional Network for Traffic Prediction, IEEE
Transactions on Intelligent Transportation Systems 21(9), 2020. Three deviations: neighbours are looked at apart from
the node itself (a sum of both would say the same of either), up and down the road apart where links have a direction,
and where the data bring no adjacency it is learned, as in Graph WaveNet (Wu et al., IJCAI 2019).
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.gcn_gru.card import GcnGruConfig
from models.tasks.calendar import Identities
from models.tasks.links import Links

NUM_GATES = 3  # reset, update, new


class Cell(nn.Module):
    """One step of the GRU; what comes of the inputs was made before, for all steps at once."""

    def __init__(self, width: int, num_supports: int) -> None:
        super().__init__()
        self.gates = nn.Linear((1 + num_supports) * width, 2 * width)
        self.new = nn.Linear((1 + num_supports) * width, width)

    def forward(self, inputs: Tensor, state: Tensor, supports: list[Tensor]) -> Tensor:
        """inputs: [B, N, 3 D], state: [B, N, D], supports: [N, N] each; returns [B, N, D]."""
        width = state.shape[2]
        gates = torch.sigmoid(inputs[..., : 2 * width] + _by_row(self.gates, _around(state, supports)))
        reset, update = gates[..., :width], gates[..., width:]
        fresh = torch.tanh(inputs[..., 2 * width :] + _by_row(self.new, _around(reset * state, supports)))
        return fresh + update * (state - fresh)


class GcnGru(nn.Module):
    """Forecasts the change of each node from its last value."""

    def __init__(self, shape: ForecastShape, config: GcnGruConfig) -> None:
        super().__init__()
        self.links = Links(shape, config.link_width, has_learned=shape.adjacency is None)
        num_supports = self.links.num_supports
        self.told = Identities(shape, config.node_width, config.slot_width, config.weekday_width)
        self.start = nn.Linear(self.told.width, config.width)
        self.inputs = nn.Linear((1 + num_supports) * (shape.num_channels + 1), NUM_GATES * config.width)
        self.cell = Cell(config.width, num_supports)
        self.head = nn.Linear(config.width, shape.horizon_steps)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        return self.forward_hidden(x, mask, clock)[0]

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast and the last state [B, N, D]."""
        supports = self.links()
        state = torch.tanh(self.start(self.told(clock)))  # [B, N, D]
        steps = torch.cat([x, mask[..., :1]], dim=3)  # [B, T, N, C + 1]
        for inputs in self.inputs(_around(steps, supports)).unbind(1):  # [B, N, 3 D]
            state = self.cell(inputs, state, supports)
        change: Tensor = self.head(state)  # [B, N, H]
        return change.transpose(1, 2) + x[:, -1:, :, 0], state

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: units of the state."""
        width = self.start.out_features
        places = [("start.weight", 0, 0), ("start.bias", 0, 0), ("head.weight", 1, 0)]
        for gate in range(NUM_GATES):
            places += [("inputs.weight", 0, gate * width), ("inputs.bias", 0, gate * width)]
        for name, num_parts in (("gates", 2), ("new", 1)):
            for part in range(num_parts):
                places += [(f"cell.{name}.weight", 0, part * width), (f"cell.{name}.bias", 0, part * width)]
            places += [(f"cell.{name}.weight", 1, part * width) for part in range(1 + self.links.num_supports)]
        return {"state": places}


def _by_row(layer: nn.Linear, values: Tensor) -> Tensor:
    """A linear layer on rows [B N, F]: exported so, its weight is stored once and not again for every step."""
    return layer(values.flatten(0, 1)).unflatten(0, values.shape[:2])  # type: ignore[no-any-return]


def _around(values: Tensor, supports: list[Tensor]) -> Tensor:
    """Each node's own values [..., N, F] and, beside them, its neighbours' means over each support."""
    return torch.cat([values, *(support @ values for support in supports)], dim=-1)
