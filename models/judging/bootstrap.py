"""How sure an error is: resampling of whole days for forecasts, within classes for images.

Errors of neighbouring windows are alike, so single windows would make intervals far too narrow; whole blocks are drawn
(moving-block idea of Künsch, Annals of Statistics 1989). Two models are compared on the same draws, paired.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.data.card import Frozen

MIN_DAYS = 10  # below this a day is too large a block
_SEED = 20260101


class Interval(Frozen):
    """A figure and the range that holds it with this confidence; percentile method."""

    value: float
    low: float
    high: float
    confidence: float
    method: str


@dataclass(frozen=True)
class Errors:
    """The judged error of each sample, kept to compare models on equal terms.

    sums, counts: (W,) error summed over the observed values of a sample, and their number
    groups: (W,) block (forecast) or class (classify) of each sample
    method: "blocks" draws whole groups, "strata" draws samples within each group
    """

    sums: NDArray[np.float64]
    counts: NDArray[np.float64]
    groups: NDArray[np.int64]
    method: Literal["blocks", "strata"]

    @property
    def mean(self) -> float:
        return float(self.sums.sum() / max(self.counts.sum(), 1.0))

    def save(self, path: Path) -> None:
        """As a plain float64 array [4, W]; no pickle."""
        is_strata = np.full(len(self.sums), float(self.method == "strata"))
        np.save(path, np.stack([self.sums, self.counts, self.groups.astype(np.float64), is_strata]), allow_pickle=False)

    @classmethod
    def load(cls, path: Path) -> "Errors":
        """What `save` wrote."""
        sums, counts, groups, is_strata = np.load(path, allow_pickle=False)
        return cls(sums, counts, groups.astype(np.int64), "strata" if is_strata.any() else "blocks")


def time_blocks(time: NDArray[np.datetime64], horizon_steps: int) -> NDArray[np.int64]:
    """Block of each window, windows in order: its day, or runs of `horizon_steps` windows where there are few days."""
    days = time.astype("datetime64[D]").astype(np.int64)
    blocks: NDArray[np.int64]
    if len(np.unique(days)) >= MIN_DAYS:
        blocks = np.unique(days, return_inverse=True)[1]
    else:
        blocks = np.arange(len(time)) // (horizon_steps if len(time) >= 2 * horizon_steps else 1)
    return blocks


def interval(errors: Errors, confidence: float, num_resamples: int, seed: int = _SEED) -> Interval:
    """The mean error with its bootstrap interval."""
    means = _resampled_means(errors, num_resamples, seed)
    return _interval(errors.mean, means, confidence, errors.method)


def compare(a: Errors, b: Errors, confidence: float, num_resamples: int, seed: int = _SEED) -> Interval:
    """Mean error of `a` less that of `b` with its paired interval: wholly below 0 means that `a` is better.

    Raises ValueError when they are not over the same samples.
    """
    if not (np.array_equal(a.counts, b.counts) and np.array_equal(a.groups, b.groups) and a.method == b.method):
        raise ValueError(f"errors of {len(a.sums)} and {len(b.sums)} samples are not over the same samples")
    differences = _resampled_means(a, num_resamples, seed) - _resampled_means(b, num_resamples, seed)
    return _interval(a.mean - b.mean, differences, confidence, f"paired {a.method}")


def _resampled_means(errors: Errors, num_resamples: int, seed: int) -> NDArray[np.float64]:
    """Mean error of each resample: (R,). The draws depend on the seed and the groups alone, so models are paired."""
    random = np.random.default_rng(seed)
    if errors.method == "blocks":
        _, groups = np.unique(errors.groups, return_inverse=True)
        by_block, num_by_block = np.bincount(groups, errors.sums), np.bincount(groups, errors.counts)
        draws = random.integers(0, len(by_block), (num_resamples, len(by_block)))
        return np.asarray(by_block[draws].sum(axis=1) / np.maximum(num_by_block[draws].sum(axis=1), 1.0))
    sums, counts = np.zeros(num_resamples), np.zeros(num_resamples)
    for group in np.unique(errors.groups):
        rows = np.flatnonzero(errors.groups == group)
        draws = rows[random.integers(0, len(rows), (num_resamples, len(rows)))]
        sums += errors.sums[draws].sum(axis=1)
        counts += errors.counts[draws].sum(axis=1)
    return np.asarray(sums / np.maximum(counts, 1.0))


def _interval(value: float, resampled: NDArray[np.float64], confidence: float, method: str) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value=value, low=float(low), high=float(high), confidence=confidence, method=method)
