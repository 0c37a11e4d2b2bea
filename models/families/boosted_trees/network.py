"""Boosted trees forecast each node's change from its past, its neighbours and the calendar.

Friedman: Greedy Function Approximation: A Gradient Boosting Machine, Annals of Statistics 29(5), 2001; the histogram
variant of Ke et al.: LightGBM, NeurIPS 2017, in scikit-learn. One ensemble for each of a few steps of the horizon,
shared by all nodes; the steps between are interpolated.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from models.data.shape import ForecastShape
from models.families.boosted_trees.card import BoostedTreesConfig
from models.families.boosted_trees.trees import fit
from models.tasks.forecast import WindowBatch


class BoostedTrees(nn.Module):
    """Tables of trees [E, K, ...] for E fitted steps, and the neighbours of each node [N, M]."""

    feature: Tensor
    threshold: Tensor
    leaf: Tensor
    base: Tensor
    neighbours: Tensor
    spread: Tensor

    def __init__(self, shape: ForecastShape, config: BoostedTreesConfig) -> None:
        super().__init__()
        self.config = config
        self.steps = sorted({-(-shape.horizon_steps * share // 12) for share in (1, 3, 6, 12)})  # from 1
        self.num_lags = min(config.num_lags, shape.past_steps)
        num_neighbours = min(config.num_neighbours, shape.num_nodes - 1)
        size, num_splits = (len(self.steps), config.num_trees), 2**config.depth - 1
        self.register_buffer("feature", torch.zeros(*size, num_splits, dtype=torch.int64))
        self.register_buffer("threshold", torch.zeros(*size, num_splits))
        self.register_buffer("leaf", torch.zeros(*size, num_splits + 1))
        self.register_buffer("base", torch.zeros(len(self.steps)))
        self.register_buffer("neighbours", torch.zeros(shape.num_nodes, num_neighbours, dtype=torch.int64))
        grid = np.arange(1, shape.horizon_steps + 1)
        spread = np.stack([np.interp(grid, self.steps, row) for row in np.eye(len(self.steps))], axis=1)
        self.register_buffer("spread", torch.from_numpy(spread.astype(np.float32)), persistent=False)  # [H, E]

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N]."""
        rows = self._features(x, mask, clock)  # [B, N, F]
        flat = rows.flatten(0, 1)
        ahead = (self._walk(flat) @ self.spread.T).reshape(x.shape[0], x.shape[2], -1)  # [B, N, H]
        forecast: Tensor = x[:, -1:, :, 0] + ahead.transpose(1, 2)
        return forecast

    def fit(self, train: Iterable[WindowBatch], val: Iterable[WindowBatch]) -> None:  # noqa: ARG002
        """Chooses neighbours, then fits each step on rows drawn with the seed."""
        batches = list(train)
        self.neighbours.copy_(_tellers(batches, self.neighbours.shape[1]))
        random = np.random.default_rng(self.config.seed)
        features = torch.cat([self._features(batch.x, batch.mask, batch.clock) for batch in batches])  # [W, N, F]
        for number, step in enumerate(self.steps):
            seen = torch.cat([batch.target_mask[:, step - 1] * batch.mask[:, -1, :, 0] for batch in batches]) > 0
            change = torch.cat([batch.target[:, step - 1] - batch.x[:, -1, :, 0] for batch in batches])  # [W, N]
            rows, target = features[seen].cpu().numpy(), change[seen].cpu().numpy()
            drawn = np.sort(random.permutation(len(rows))[: self.config.max_rows])
            config = self.config
            trees = fit(rows[drawn], target[drawn], config.num_trees, config.depth, config.learning_rate, config.seed)
            for name in ("feature", "threshold", "leaf", "base"):
                getattr(self, name)[number] = torch.as_tensor(getattr(trees, name))

    def _features(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """[B, N, F]: last value, its changes, the neighbours beside it, other channels, calendar, node."""
        target = x[..., 0].transpose(1, 2)  # [B, N, T]
        last = target[..., -1:]
        lags = target[..., -self.num_lags : -1] - last
        beside = target[..., -1][:, self.neighbours] - last  # [B, N, M]
        calendar = torch.stack([clock[:, 0], (clock[:, 1] >= 5).long()], dim=1).to(x).unsqueeze(1)
        calendar = calendar.expand(-1, last.shape[1], -1)
        node = torch.arange(last.shape[1], device=x.device).to(x)[:, None].expand(x.shape[0], -1, -1)
        return torch.cat([last, lags, beside, x[:, -1, :, 1:], mask[:, -1, :, :1], calendar, node], dim=2)

    def _walk(self, rows: Tensor) -> Tensor:
        """The forecast change of each row [R, E]: all trees of all steps at once, a level at a time."""
        feature, threshold, leaf = self.feature.flatten(0, 1), self.threshold.flatten(0, 1), self.leaf.flatten(0, 1)
        num_splits = feature.shape[1]
        first = torch.arange(len(feature), device=rows.device)  # number of each tree
        place = torch.zeros_like(rows[:, :1], dtype=torch.int64) + torch.zeros_like(first)  # [R, E K]
        for _ in range(self.config.depth):
            split = place + first * num_splits
            is_above = rows.gather(1, feature.flatten()[split]) > threshold.flatten()[split]
            place = 2 * place + 1 + is_above.long()
        found = leaf.flatten()[place - num_splits + first * (num_splits + 1)]  # [R, E K]
        change: Tensor = found.reshape(-1, *self.leaf.shape[:2]).sum(dim=2) + self.base
        return change


def _tellers(batches: list[WindowBatch], num_neighbours: int) -> Tensor:
    """Of each node, those whose present less its own tells most of its next change: int64 [N, M], by correlation."""
    now = torch.cat([batch.x[:, -1, :, 0] for batch in batches]).double()  # [W, N]
    both = torch.cat([batch.target_mask[:, 0] * batch.mask[:, -1, :, 0] for batch in batches]).double()
    change = (torch.cat([batch.target[:, 0] for batch in batches]) - now) * both
    num_rows = len(now)
    level, change = now - now.mean(0), change - change.mean(0)
    spread = level.T @ level / num_rows  # [N, N]
    own = spread.diagonal()
    told = change.T @ level / num_rows  # of i's change, by j's level
    told = (told - told.diagonal()[:, None]).abs()
    score = told / (own[:, None] + own[None, :] - 2 * spread).clamp(min=1e-9).sqrt()
    score.fill_diagonal_(-1)
    return score.topk(num_neighbours, dim=1).indices
