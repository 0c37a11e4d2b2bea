"""The tables of the boosted trees answer as scikit-learn's own trees do."""

import numpy as np
import torch
from sklearn.ensemble import HistGradientBoostingRegressor

from models import catalog
from models.data.shape import ForecastShape
from models.families.boosted_trees.network import BoostedTrees, _tellers
from models.families.boosted_trees.trees import tables
from models.tasks.forecast import WindowBatch

SHAPE = ForecastShape(past_steps=3, horizon_steps=2, num_nodes=3, num_channels=1, slots_per_day=24)


def windows(num: int = 300) -> WindowBatch:
    """Every node becomes what the one before it is."""
    random = np.random.default_rng(5)
    x = torch.from_numpy(random.normal(size=(num, 3, 3, 1)).astype(np.float32))
    target = x[:, -1:, :, 0].roll(1, 2).repeat(1, 2, 1)
    clock = torch.stack([torch.arange(num) % 24, torch.arange(num) // 24 % 7], dim=1)
    return WindowBatch(x, torch.ones_like(x), clock, target, torch.ones_like(target))


def test_perfect_trees_answer_like_those_that_were_fitted():
    random = np.random.default_rng(6)
    features = random.normal(size=(500, 4)).astype(np.float32)
    target = np.where(features[:, 0] > 0.3, 2.0, features[:, 1])
    model = HistGradientBoostingRegressor(max_iter=5, max_depth=3, early_stopping=False, random_state=0)
    laid = tables(model.fit(features, target), depth=4)  # deeper than any tree: leaves are repeated
    place = np.zeros((500, 5), np.int64)
    for _ in range(4):
        split = laid.feature[np.arange(5), place], laid.threshold[np.arange(5), place]
        place = 2 * place + 1 + (np.take_along_axis(features, split[0], axis=1) > split[1])
    found = laid.leaf[np.arange(5), place - 15].sum(axis=1) + laid.base
    assert np.allclose(found, model.predict(features), atol=1e-6)


def test_the_neighbour_that_tells_most_is_found_and_used():
    batch = windows()
    assert _tellers([batch], 1).tolist() == [[2], [0], [1]]
    card = catalog.family("forecast", "boosted_trees")
    config = card.config.model_validate({"num_trees": 60, "depth": 4, "num_neighbours": 1, "num_lags": 2})
    network = BoostedTrees(SHAPE, config)
    network.fit([batch], [])
    error = (network(batch.x, batch.mask, batch.clock) - batch.target).abs().mean()
    naive = (batch.x[:, -1:, :, 0] - batch.target).abs().mean()
    assert error < 0.35 * naive
