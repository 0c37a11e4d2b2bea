"""Sums and counts errors, so what is missing never counts and batches add up to the whole.

Conventions, stored with every figure: "pooled" is over all horizon steps up to the last, "at-horizon" over the judged
step alone, "per-image" over labelled images.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

POOLED, AT_HORIZON, PER_IMAGE = "pooled", "at-horizon", "per-image"

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ErrorSums:
    """Sums over observed values, one cell per group of values; cells may have any shape.

    absolute, squared: sums of |forecast - actual| and of its square; actual: sum of |actual|; count: observed values
    """

    absolute: Array
    squared: Array
    actual: Array
    count: Array

    @classmethod
    def joined(cls, parts: Iterable[Self]) -> Self:
        """Parts one after the other, along the first axis."""
        columns = zip(*((part.absolute, part.squared, part.actual, part.count) for part in parts), strict=True)
        return cls(*(np.concatenate(column) for column in columns))

    def over(self, axis: int | None = None) -> Self:
        """Summed over an axis; all of them when None."""
        return type(self)(*(np.atleast_1d(item.sum(axis=axis)) for item in self._items()))

    def at(self, index: Any) -> Self:
        """The cells at a numpy index."""
        return type(self)(*(item[index] for item in self._items()))

    def grouped(self, groups: NDArray[np.int64], num_groups: int) -> Self:
        """One-dimensional cells summed by group: (num_groups,)."""
        return type(self)(*(np.bincount(groups, item, num_groups).astype(np.float64) for item in self._items()))

    def mae(self) -> Array:
        """Mean absolute error of each cell; NaN where nothing was observed."""
        return _divided(self.absolute, self.count)

    def rmse(self) -> Array:
        """Root of the mean squared error of each cell."""
        return np.sqrt(_divided(self.squared, self.count))

    def wape(self) -> Array:
        """Weighted absolute percentage error, sum |error| / sum |actual|: unlike MAPE calm where actual is near 0."""
        return _divided(self.absolute, self.actual)

    def _items(self) -> tuple[Array, ...]:
        return self.absolute, self.squared, self.actual, self.count


def error_sums(forecast: NDArray[Any], actual: NDArray[Any], mask: NDArray[Any], axis: int) -> ErrorSums:
    """Sums over one axis of [B, H, N] arrays; `mask` is 1 where the actual value was observed."""
    difference = np.abs(forecast - actual, dtype=np.float64) * mask
    sums = (difference.sum(axis), np.square(difference).sum(axis), (np.abs(actual) * mask).sum(axis), mask.sum(axis))
    return ErrorSums(*(item.astype(np.float64) for item in sums))


@dataclass(frozen=True)
class BandSums:
    """Sums over observed values of what a band of quantiles held, one cell per group of values.

    hits: values between the outer quantiles; width: of the band; pinball: mean loss over the quantiles; count: values
    """

    hits: Array
    width: Array
    pinball: Array
    count: Array

    @classmethod
    def total(cls, parts: Iterable[Self]) -> Self:
        """Parts of the same cells added up."""
        columns = zip(*((part.hits, part.width, part.pinball, part.count) for part in parts), strict=True)
        return cls(*(np.sum(column, axis=0) for column in columns))

    def over(self) -> Self:
        """All cells in one."""
        return type(self)(*(np.atleast_1d(item.sum()) for item in (self.hits, self.width, self.pinball, self.count)))

    def means(self) -> tuple[Array, Array, Array]:
        """Share held, mean width, mean pinball loss of each cell; NaN where nothing was observed."""
        return _divided(self.hits, self.count), _divided(self.width, self.count), _divided(self.pinball, self.count)


def band_sums(
    quantiles: NDArray[Any], shares: Iterable[float], actual: NDArray[Any], groups: NDArray[np.int64], num_groups: int
) -> BandSums:
    """Sums by group over values (V,) and their quantiles (V, Q), ascending.

    The pinball loss of quantile q is max(q d, (q - 1) d) of d = actual - quantile (Koenker and Bassett 1978).
    """
    low, high = quantiles[:, 0], quantiles[:, -1]
    below = actual[:, None] - quantiles
    share = np.array(tuple(shares))
    pinball = np.maximum(share * below, (share - 1) * below).mean(axis=1)
    held = (low <= actual) & (actual <= high)
    sums = (np.bincount(groups, item, num_groups) for item in (held, high - low, pinball, np.ones(len(actual))))
    return BandSums(*(item.astype(np.float64) for item in sums))


def confusion_matrix(actual: NDArray[np.int64], predicted: NDArray[np.int64], num_classes: int) -> NDArray[np.int64]:
    """[K, K] counts: rows are the actual classes, columns the predicted ones."""
    return np.bincount(actual * num_classes + predicted, minlength=num_classes**2).reshape(num_classes, num_classes)


def accuracy(confusion: NDArray[np.int64]) -> float:
    """Share of images that were named right."""
    return float(confusion.trace() / max(confusion.sum(), 1))


def f1_by_class(confusion: NDArray[np.int64]) -> Array:
    """F1 of each class; 0 where a class was neither there nor named."""
    hits = confusion.diagonal().astype(np.float64)
    named_or_there = confusion.sum(axis=0) + confusion.sum(axis=1)
    return np.where(named_or_there > 0, 2 * hits / np.maximum(named_or_there, 1), 0.0)


def _divided(numerator: Array, denominator: Array) -> Array:
    quotient: Array = np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator > 0)
    return quotient
