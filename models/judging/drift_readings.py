"""From captured windows back to a series, and from later readings truth for forecasts.

A request says which slot of the week its last reading is from; the week is the one nearest to when it was answered,
so a clock that is hours off (another time zone) changes nothing. Windows overlap: the same reading comes in many
requests and is counted once. Readings that contradict each other count as their mean, but are nobody's truth.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.data.series import Series
from models.judging.drift_hours import ERROR, FORECAST, Feature, Hours, value_hours

MAX_ALIKE = 8  # windows that end at the same reading; more say nothing new
WEEK_MIN = 7 * 24 * 60
SAME = 1e-3  # of a reading, or of 1: rounding on the way
MONDAY = np.datetime64("1970-01-05T00:00", "m")


def last_step(clock: NDArray[np.int64], answered: np.datetime64, cadence_min: float) -> NDArray[np.datetime64]:
    """Time of the last past step (B,) datetime64[us] of windows with `clock` (B, 2) that were answered then."""
    minute_of_week = clock[:, 1] * 24 * 60 + np.round(clock[:, 0] * cadence_min).astype(np.int64)
    since = int((answered.astype("datetime64[m]") - MONDAY).astype(np.int64))
    offset = (minute_of_week - since + WEEK_MIN // 2) % WEEK_MIN - WEEK_MIN // 2
    time: NDArray[np.datetime64] = (MONDAY + (since + offset).astype("timedelta64[m]")).astype("datetime64[us]")
    return time


@dataclass
class Windows:
    """Captured windows of one contract. `forecasts` are those of the live version alone, at its judged step."""

    manifest: Manifest
    windows: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    forecasts: dict[int, list[NDArray[np.float32]]] = field(default_factory=dict)
    num_windows: int = 0

    @property
    def cadence_us(self) -> int:
        return round(self.manifest.cadence_min * 60e6)

    def add(self, time: NDArray[np.datetime64], x: NDArray[np.float32], forecast: NDArray[np.float32] | None) -> None:
        """Windows x (B, T, N, C), NaN where missing, with forecasts (B, H, N) where the live version made them."""
        self.num_windows += len(x)
        for row, at_us in enumerate(time.astype(np.int64)):
            alike = self.windows.setdefault(int(at_us) // self.cadence_us, [])
            if len(alike) < MAX_ALIKE:
                alike.append(x[row])
            if forecast is not None:
                made = self.forecasts.setdefault(int(at_us) // self.cadence_us, [])
                if len(made) < MAX_ALIKE:
                    made.append(forecast[row, self.manifest.judged_step - 1])

    def until_now(self, num_hours: int) -> "Windows":
        """Without what lies after the latest `num_hours` that are half as full as the fullest ones.

        A window of another week that somebody tried out would else be taken for the newest hour.
        """
        steps = np.array(sorted(self.windows), np.int64)
        span = round(num_hours * 60 / self.manifest.cadence_min)
        held = np.arange(1, len(steps) + 1) - np.searchsorted(steps, steps - span, side="right")
        end = int(steps[held >= held.max() / 2][-1])
        windows = {step: alike for step, alike in self.windows.items() if step <= end}
        forecasts = {step: made for step, made in self.forecasts.items() if step <= end}
        return Windows(self.manifest, windows, forecasts, self.num_windows)

    def asked(self) -> NDArray[np.bool_]:
        """(S,) the steps of `series` that lay in any window."""
        first, last = min(self.windows) - self.manifest.past_steps + 1, max(self.windows)
        found = np.zeros(last - first + 1, np.bool_)
        for step in self.windows:
            found[step - self.manifest.past_steps + 1 - first : step + 1 - first] = True
        return found

    def series(self) -> tuple[Series, NDArray[np.bool_]]:
        """The readings, and where they contradict each other (S, N, C). Raises ValueError without any window."""
        plan = self.manifest
        first, last = min(self.windows) - plan.past_steps + 1, max(self.windows)
        shape = (last - first + 1, len(plan.nodes), len(plan.channels))
        total, num = np.zeros(shape), np.zeros(shape)
        low, high = np.full(shape, np.inf), np.full(shape, -np.inf)
        for step, alike in self.windows.items():
            there = slice(step - plan.past_steps + 1 - first, step + 1 - first)
            for x in alike:
                known = np.isfinite(x)
                total[there] += np.where(known, x, 0.0)
                num[there] += known
                low[there] = np.fmin(low[there], np.where(known, x, np.inf))
                high[there] = np.fmax(high[there], np.where(known, x, -np.inf))
        values = np.divide(total, num, out=np.full(shape, np.nan), where=num > 0).astype(np.float32)
        contradict = (num > 1) & (high - low > SAME * np.maximum(1.0, np.abs(high)))
        steps = np.arange(first, last + 1) * self.cadence_us
        time = steps.astype("datetime64[us]")
        return Series(time, values, plan.nodes, plan.channels, plan.units, plan.cadence_min), contradict

    def tables(self, told: dict[tuple[int, int], float] | None = None) -> tuple[Hours | None, Hours | None]:
        """Forecasts and errors by hour of the time that they were made for; None where there are none.

        told: truth from elsewhere by (step, node); steps count from 1970 in the data's own cadence
        """
        if not self.forecasts:
            return None, None
        series, contradict = self.series()
        truth = np.where(contradict[:, :, 0], np.nan, series.values[:, :, 0].astype(np.float64))
        first = int(series.time[0].astype(np.int64)) // self.cadence_us
        times, made, errors = [], [], []
        for step, alike in sorted(self.forecasts.items()):
            target = step + self.manifest.judged_step
            actual = truth[target - first] if 0 <= target - first < len(truth) else np.full(truth.shape[1], np.nan)
            actual = np.array([(told or {}).get((target, node), value) for node, value in enumerate(actual)])
            for forecast in alike:
                times.append(target * self.cadence_us)
                made.append(forecast.astype(np.float64))
                errors.append(mean_error(forecast, actual))
        time, channel = np.array(times).astype("datetime64[us]"), self.manifest.channels[0]
        places = [Feature(FORECAST, node, channel) for node in self.manifest.nodes]
        error = np.array(errors)
        known = np.isfinite(error)
        table = value_hours(time[known], error[known, None], [Feature(ERROR)]) if known.any() else None
        return value_hours(time, np.stack(made), places), table


def mean_error(forecast: NDArray[np.float32], actual: NDArray[np.float64]) -> float:
    """Mean absolute error over what is known; NaN where nothing is."""
    known = np.isfinite(actual)
    return float(np.abs(forecast[known] - actual[known]).mean()) if known.any() else float("nan")
