"""Two layers over the reports of each edge, its works, its identity, time and other edges.

Identities as in Shao et al., Spatial-Temporal Identity, CIKM 2022; mixing over edges as over patches in Tolstikhin et
al., MLP-Mixer, NeurIPS 2021, at low rank. The output is a factor upon the last report, for queues grow by factors.
"""

import math

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.route_mlp.card import RouteMlpConfig

MIN_SHARE = 0.05  # of the usual travel time; a report below it is taken for this
MAX_CHANGE = 3.0  # of the logarithm
SLOTS_PER_DAY = 288
NUM_WAVES = 6


def _waves(slot: Tensor) -> Tensor:
    """Time of day as sines and cosines of one to NUM_WAVES periods: [B, 1] int64 to [B, 2 NUM_WAVES]."""
    turn = slot.to(torch.float32) * (2 * math.pi / SLOTS_PER_DAY) * torch.arange(1, NUM_WAVES + 1)
    return torch.cat([torch.sin(turn), torch.cos(turn)], dim=1)


class RouteMlp(nn.Module):
    """Features of every edge, linear, ReLU, linear, ReLU, linear: the logarithm of a factor for each slot ahead."""

    def __init__(self, shape: TensorShape, config: RouteMlpConfig) -> None:
        super().__init__()
        specs = {spec.name: spec for spec in shape.inputs}
        num_past, num_edges = specs["recent"].shape
        num_ahead = shape.output.shape[0]
        num_values = num_past + num_ahead
        self.num_heads = config.mixing_heads
        if config.mixing_heads:
            self.gather = nn.Parameter(torch.empty(config.mixing_rank, num_edges).uniform_(-1, 1) / num_edges**0.5)
            num_mixed, rank = num_edges * config.mixing_heads, config.mixing_rank
            self.spread = nn.Parameter(torch.empty(num_mixed, rank).uniform_(-1, 1) / rank**0.5)
        self.edge = nn.Embedding(num_edges, config.edge_width)
        self.weekday = nn.Embedding(7, config.weekday_width)
        num_inputs = num_values * (1 + config.mixing_heads) + num_past + 1
        num_inputs += config.edge_width + config.weekday_width + 2 * NUM_WAVES
        self.first = nn.Linear(num_inputs, config.width)
        self.second = nn.Linear(config.width, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(config.width, num_ahead)

    def forward(self, recent: Tensor, recent_mask: Tensor, works: Tensor, slot: Tensor, weekday: Tensor) -> Tensor:
        """recent, recent_mask: [B, T, E]; works: [B, H, E]; slot, weekday: [B, 1]; returns [B, H, E]."""
        return self.forward_hidden(recent, recent_mask, works, slot, weekday)[0]

    def forward_hidden(
        self, recent: Tensor, recent_mask: Tensor, works: Tensor, slot: Tensor, weekday: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The output and the last hidden layer [B, E, D]."""
        num_batch, num_past, num_edges = recent.shape
        level = torch.log((recent + 1).clamp(min=MIN_SHARE)) * recent_mask  # 0 is the usual travel time
        last = torch.zeros_like(level[:, 0])
        for step in range(num_past):
            last = torch.where(recent_mask[:, step] > 0, level[:, step], last)
        values = torch.cat([level, works], dim=1)  # [B, T + H, E]
        parts = [values.transpose(1, 2), recent_mask.transpose(1, 2), last.unsqueeze(2)]
        if self.num_heads:
            mixed = self.spread @ (self.gather @ values.transpose(1, 2))  # [B, E heads, T + H]
            parts.append(mixed.reshape(num_batch, num_edges, -1))
        day = torch.cat([self.weekday(weekday[:, 0]), _waves(slot)], dim=1).unsqueeze(1)
        parts += [self.edge.weight.expand(num_batch, -1, -1), day.expand(-1, num_edges, -1)]
        hidden = self.dropout(torch.relu(self.first(torch.cat(parts, dim=2))))
        hidden = self.dropout(torch.relu(self.second(hidden)))  # [B, E, D]
        change = self.head(hidden).transpose(1, 2).clamp(-MAX_CHANGE, MAX_CHANGE)  # [B, H, E]
        return torch.exp(last.unsqueeze(1) + change) - 1, hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: both hidden layers."""
        return {
            "first": [("first.weight", 0, 0), ("first.bias", 0, 0), ("second.weight", 1, 0)],
            "second": [("second.weight", 0, 0), ("second.bias", 0, 0), ("head.weight", 1, 0)],
        }
