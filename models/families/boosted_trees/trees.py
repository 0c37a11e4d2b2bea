"""Fits boosted trees with scikit-learn and lays them out as tables of perfect trees.

These are walked without a branch. A tree of depth d is 2^d - 1 splits and 2^d leaves, row by row; where the fitted tree
ends early, its leaf is repeated below splits that always go left.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Tables:
    """An ensemble of K trees: split k asks whether a feature is above its threshold.

    feature: int64 (K, 2^d - 1); threshold: float32 (K, 2^d - 1); leaf: float32 (K, 2^d); base: what is added to the sum
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float32]
    leaf: NDArray[np.float32]
    base: float


def fit(
    features: NDArray[np.float32], target: NDArray[np.float32], num_trees: int, depth: int, rate: float, seed: int
) -> Tables:
    """Least squares on features (R, F) and target (R,); the same rows and seed give the same trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    model = HistGradientBoostingRegressor(
        max_iter=num_trees, max_depth=depth, max_leaf_nodes=31, learning_rate=rate, min_samples_leaf=20,
        early_stopping=False, random_state=seed,
    )  # fmt: skip
    return tables(model.fit(features, target), depth)


def tables(model: Any, depth: int) -> Tables:
    """The trees of a fitted `HistGradientBoostingRegressor`; scikit-learn has no public door to its nodes."""
    laid = [_perfect(stage[0].nodes, depth) for stage in model._predictors]
    feature, threshold, leaf = (np.stack(parts) for parts in zip(*laid, strict=True))
    return Tables(feature, threshold, leaf, float(np.ravel(model._baseline_prediction)[0]))


def _perfect(nodes: NDArray[Any], depth: int) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    num_splits = 2**depth - 1
    feature, threshold = np.zeros(num_splits, np.int64), np.full(num_splits, np.inf, np.float32)
    place = {0: 0}  # of the perfect tree -> of the fitted one
    for index in range(num_splits):
        node = place[index]
        left, right = node, node
        if not nodes[node]["is_leaf"]:
            feature[index], threshold[index] = nodes[node]["feature_idx"], _at_most(nodes[node]["num_threshold"])
            left, right = int(nodes[node]["left"]), int(nodes[node]["right"])
        place[2 * index + 1], place[2 * index + 2] = left, right
    leaf = np.array([nodes[place[num_splits + k]]["value"] for k in range(num_splits + 1)], np.float32)
    return feature, threshold, leaf


def _at_most(threshold: float) -> np.float32:
    """The largest float32 that is not above: float32 features are then split exactly as in double precision."""
    near = np.float32(threshold)
    return near if near <= threshold else np.nextafter(near, np.float32(-np.inf))
