"""STID is a residual MLP per node over its past, told the node, slot of the day and weekday.

Shao, Zhang, Wang, Wei, Xu: Spatial-Temporal Identity: A Simple yet Effective Baseline for Multivariate Time Series
Forecasting, CIKM 2022. Deviations: the mask is an input, the output is a change from the last past value, slot and
weekday are told as `models.tasks.calendar` says, and `mixing_heads` low-rank mixtures of all nodes' past are inputs
too, because on a freeway the neighbours matter. Beyond `mixing_max_nodes` nodes there are none, as in the paper: so
many nodes come with too few steps, as a rule, to tell a neighbour from a chance likeness.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.stid.card import StidConfig
from models.tasks.calendar import Identities


class Residual(nn.Module):
    """x + W2 relu(W1 x)."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.widen = nn.Linear(width, width)
        self.narrow = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        change: Tensor = self.narrow(self.dropout(torch.relu(self.widen(x))))
        return x + change


class Mixing(nn.Module):
    """`num_heads` mixtures of all nodes per node, through `rank` virtual nodes."""

    def __init__(self, num_nodes: int, rank: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.gather = nn.Parameter(torch.empty(rank, num_nodes).uniform_(-1, 1) / num_nodes**0.5)
        self.spread = nn.Parameter(torch.empty(num_nodes * num_heads, rank).uniform_(-1, 1) / rank**0.5)

    def forward(self, past: Tensor) -> Tensor:
        """past: [B, N, F]; returns [B, N, heads F]."""
        mixed = self.spread @ (self.gather @ past)  # [B, N heads, F]
        return mixed.reshape(past.shape[0], past.shape[1], self.num_heads * past.shape[2])


def _by_node(past: Tensor) -> Tensor:
    """[B, T, N, C] as [B, N, C, T], by a transpose of the last two of three dimensions: the fast one when served."""
    num_batch, num_steps, num_nodes, num_channels = past.shape
    flat = past.reshape(num_batch, num_steps, num_nodes * num_channels).transpose(1, 2)
    return flat.reshape(num_batch, num_nodes, num_channels, num_steps)


class Stid(nn.Module):
    """Input projection, identities, residual layers, linear head."""

    def __init__(self, shape: ForecastShape, config: StidConfig) -> None:
        super().__init__()
        num_values = shape.past_steps * shape.num_channels
        has_mixing = config.mixing_heads > 0 and 1 < shape.num_nodes <= config.mixing_max_nodes
        self.mixing = Mixing(shape.num_nodes, config.mixing_rank, config.mixing_heads) if has_mixing else None
        num_inputs = num_values * (1 + config.mixing_heads * has_mixing) + shape.past_steps
        self.past = nn.Linear(num_inputs, config.past_width)
        self.told = Identities(shape, config.node_width, config.slot_width, config.weekday_width)
        width = config.past_width + self.told.width
        self.layers = nn.Sequential(*(Residual(width, config.dropout) for _ in range(config.num_layers)))
        self.head = nn.Linear(width, shape.horizon_steps)

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        return self.forward_hidden(x, mask, clock)[0]

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast and the residual stream before the head [B, N, D]."""
        past = _by_node(x).flatten(2)  # [B, N, C T]
        parts = [past, _by_node(mask)[:, :, 0]]
        if self.mixing is not None:
            parts.append(self.mixing(past))
        told = self.told(clock)  # [B, N, W]
        hidden = self.layers(torch.cat([self.past(torch.cat(parts, dim=2)), told], dim=2))  # [B, N, D]
        change: Tensor = self.head(hidden)  # [B, N, H]
        return change.transpose(1, 2) + x[:, -1:, :, 0], hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: the stream's four parts, then each layer."""
        groups = {"past": [("past.weight", 0, 0), ("past.bias", 0, 0)]}
        groups |= {name: [(f"told.{name}.weight", 1, 0)] for name in ("node", "weekday")}
        groups["slot"] = [("told.slot.weight", 0, 0), ("told.slot.bias", 0, 0), ("told.own_slot.weight", 1, 0)]
        told = self.told
        widths = {"past": self.past.out_features, "node": told.node.embedding_dim, "slot": told.slot.out_features}
        widths["weekday"], offset = told.weekday.embedding_dim, 0
        for name in widths:
            places = groups[name]
            places.append(("head.weight", 1, offset))
            for layer in range(len(self.layers)):
                places += [(f"layers.{layer}.widen.weight", 1, offset), (f"layers.{layer}.narrow.weight", 0, offset)]
                places.append((f"layers.{layer}.narrow.bias", 0, offset))
            offset += widths[name]
        for layer in range(len(self.layers)):
            path = f"layers.{layer}"
            groups[path] = [
                (f"{path}.widen.weight", 0, 0),
                (f"{path}.widen.bias", 0, 0),
                (f"{path}.narrow.weight", 1, 0),
            ]
        if self.mixing is not None:
            groups["mixing"] = [("mixing.gather", 0, 0), ("mixing.spread", 1, 0)]
        return groups
