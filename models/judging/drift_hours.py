"""Readings as one row for each hour: level, change and missing share of nodes and channels.

`change` is the mean step from one reading to the next: a dead sensor that repeats its last value has none, whatever
that value is. Times are the data's own, naive; hours are counted from 1970-01-01T00:00.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.data.series import Series

LEVEL, CHANGE, MISSING, FORECAST, ERROR = "level", "change", "missing", "forecast", "error"
HOURS_PER_WEEK = 168

Array = NDArray[np.float64]


class Feature(NamedTuple):
    """What is followed, where, of which channel."""

    what: str
    place: str = ""
    channel: str = ""


@dataclass(frozen=True)
class Hours:
    """A table of hours without a gap. values: (K, F) float64, NaN where unknown; row k is the hour `first` + k."""

    first: int
    values: Array
    features: tuple[Feature, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def hour(self) -> NDArray[np.int64]:
        """(K,) hours from 1970 on."""
        return self.first + np.arange(len(self.values))

    @property
    def is_seen(self) -> NDArray[np.bool_]:
        """(K,) whether anything is known of the hour."""
        return np.asarray(~np.isnan(self.values).all(axis=1))

    def between(self, start: int, stop: int) -> "Hours":
        """The hours [start, stop) that there are."""
        low, high = max(start - self.first, 0), max(stop - self.first, 0)
        return Hours(self.first + low, self.values[low:high], self.features)


def hour_of(time: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Hours from 1970 on."""
    return time.astype("datetime64[h]").astype(np.int64)


def reading_hours(series: Series, asked: NDArray[np.bool_] | None = None) -> Hours:
    """Level, change and missing share by hour of a series on its grid.

    asked: (S,) where anybody could know a reading; elsewhere nothing is missing, it is unknown. None: everywhere
    """
    hour = hour_of(series.time)
    flat = series.values.reshape(len(hour), -1).astype(np.float64)  # [S, N * C]
    step = np.abs(np.diff(flat, axis=0, prepend=np.full((1, flat.shape[1]), np.nan)))
    missing = np.isnan(flat).astype(np.float64)
    if asked is not None:
        missing[~asked] = np.nan
    first, parts = int(hour[0]), [_means(hour, part) for part in (flat, step, missing)]
    named = [(node, channel) for node in series.nodes for channel in series.channels]
    features = [Feature(what, *one) for what in (LEVEL, CHANGE, MISSING) for one in named]
    return Hours(first, np.concatenate(parts, axis=1), tuple(features))


def value_hours(time: NDArray[np.datetime64], values: NDArray[np.floating], features: Sequence[Feature]) -> Hours:
    """Hourly means of values (S, F) at these times, in any order."""
    hour = hour_of(time)
    order = np.argsort(hour, kind="stable")
    return Hours(int(hour[order[0]]), _means(hour[order], values[order].astype(np.float64)), tuple(features))


def _means(hour: NDArray[np.int64], values: Array) -> Array:
    """Mean of each hour, hours ascending: (S, F) → (K, F); NaN where nothing is known."""
    row = hour - hour[0]
    known = ~np.isnan(values)
    sums, counts = (np.zeros((int(row[-1]) + 1, values.shape[1])) for _ in range(2))
    starts = np.flatnonzero(np.diff(row, prepend=-1))
    sums[row[starts]] = np.add.reduceat(np.where(known, values, 0.0), starts, axis=0)
    counts[row[starts]] = np.add.reduceat(known.astype(np.float64), starts, axis=0)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)
