"""Windows of a series: T steps of the past, H of the target, gathered batch by batch."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.data.batches import Batch, Indices, thin_out
from models.data.series import Series


@dataclass(frozen=True)
class Windows:
    """Windows that begin at the steps `starts`; the series itself is never copied."""

    series: Series
    starts: Indices
    past_steps: int
    horizon_steps: int

    def __len__(self) -> int:
        return len(self.starts)

    def take(self, indices: Indices) -> Batch:
        """A batch: inputs x, mask [B, T, N, C] and clock [B, 2]; target and its mask [B, H, N]."""
        starts = self.starts[indices]
        values = self.series.values
        past = values[starts[:, None] + np.arange(self.past_steps)]  # [B, T, N, C]
        ahead = values[
            starts[:, None] + np.arange(self.past_steps, self.past_steps + self.horizon_steps), :, 0
        ]  # [B, H, N]
        seen, seen_ahead = ~np.isnan(past), ~np.isnan(ahead)
        inputs = {
            "x": np.where(seen, past, np.float32(0)),
            "mask": seen.astype(np.float32),
            "clock": self._clock[starts + self.past_steps - 1],
        }
        return Batch(inputs, np.where(seen_ahead, ahead, np.float32(0)), seen_ahead.astype(np.float32))

    def times(self, indices: Indices) -> NDArray[np.datetime64]:
        """Time of the last past step of each window."""
        return self.series.time[self.starts[indices] + self.past_steps - 1]

    @cached_property
    def _clock(self) -> NDArray[np.int64]:
        return clock(self.series.time, self.series.cadence_min)


def clock(time: NDArray[np.datetime64], cadence_min: float) -> NDArray[np.int64]:
    """Slot of the day and weekday (Monday 0) of each time: (S,) → (S, 2)."""
    days = time.astype("datetime64[D]")
    since_midnight_us = (time.astype("datetime64[us]") - days).astype(np.int64)
    slot = since_midnight_us // round(cadence_min * 60e6)
    weekday = (days.astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
    return np.stack([slot, weekday], axis=1)


def windows(
    series: Series, span: tuple[int, int], past_steps: int, horizon_steps: int, limit: int | None = None
) -> Windows:
    """Every window that lies entirely inside the step range `span` and has something observed in its target.

    `limit` keeps that many, evenly spread over the span.
    """
    start, stop = span
    starts = np.arange(start, stop - past_steps - horizon_steps + 1)
    observed = np.concatenate([[0], np.cumsum(~np.isnan(series.values[:, :, 0]).all(axis=1))])
    has_target = observed[starts + past_steps + horizon_steps] > observed[starts + past_steps]
    return Windows(series, thin_out(starts[has_target], limit), past_steps, horizon_steps)
