"""A seasonal reference by hour of the week, and how far recent hours are from it.

A reference of six weeks or more knows each hour of the week; a shorter one pools: workdays apart from weekends from two
weeks on, else all days by the hour of the day. Each hour is held against the other days of the reference alone
(leave one out), so its own residuals are those of days that it has not seen, and calibrate the threshold: for the hours
of the day that are covered now, the same mean over a day slides over the reference, and the largest of each of its days
is a block maximum (`drift.return_level`). So hours without requests widen the threshold by themselves. Residuals are
cut at eight standard deviations, lest one jam of the reference hide all that follow.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.judging.drift import MIN_EFFECT, Check, Shift, checked, return_level
from models.judging.drift_hours import CHANGE, ERROR, HOURS_PER_WEEK, Array, Hours

WEEK, DAY_TYPE, DAY = "hour of week", "hour of day, workdays apart from weekends", "hour of day"
MIN_WEEKS, MIN_WEEKS_BY_TYPE = 6, 2
MIN_OTHERS = 3  # hours of the same season that a mean is taken over
MAX_WEEKS = 26  # the newest of a longer reference
CUT = 8.0
LEAST_SD = 0.5  # of a season's, as a share of the feature's own over all seasons
LEAST_VARIATION = 0.1  # of a mean over the window from day to day, in standard deviations
LOGGED = {CHANGE, ERROR}
MIN_HOURS, WINDOW_HOURS = 2, 24
MIN_ERROR_RATIO = 1.1


class Calibration(NamedTuple):
    """sd: (F,) variation of a window's mean from day to day; threshold: of the largest score."""

    sd: Array
    threshold: float


@dataclass(frozen=True)
class Seasonal:
    """What is usual: mean and sd (S, F) by season, over the reference's hours, and their residuals (K, F)."""

    hours: Hours
    seasonality: str
    floor: Array
    offset: Array
    sums: Array
    squares: Array
    counts: Array

    @classmethod
    def fit(cls, hours: Hours, held_out_from: int | None = None) -> "Seasonal":
        """The reference of these hours; errors from the hour `held_out_from` on were made on data not trained on.

        What a model fitted is flattered; the mean log ratio of held-out errors to all of them is taken out of them.
        """
        hours = hours.between(hours.first + len(hours) - MAX_WEEKS * HOURS_PER_WEEK, hours.first + len(hours))
        seasonality = _seasonality(hours)
        is_logged = np.array([one.what in LOGGED for one in hours.features])
        usual = _mean(np.abs(hours.values), axis=0)
        floor = np.where(is_logged, 0.02 * np.nan_to_num(usual) + 1e-6, np.nan)
        logged = _logged(hours.values, floor)
        season, width = _season(hours.hour, seasonality), len(hours.features)
        known = ~np.isnan(logged)
        sums, squares, counts = (np.zeros((HOURS_PER_WEEK, width)) for _ in range(3))
        for target, part in ((sums, logged), (squares, logged**2), (counts, np.ones_like(logged))):
            np.add.at(target, season, np.where(known, part, 0.0))
        fitted = cls(hours, seasonality, floor, np.zeros(width), sums, squares, counts)
        if held_out_from is None:
            return fitted
        return fitted._anchored(held_out_from)

    def _anchored(self, held_out_from: int) -> "Seasonal":
        """With errors before that hour lifted by what held-out ones are above them."""
        values, season = _logged(self.hours.values, self.floor), _season(self.hours.hour, self.seasonality)
        residual = values - np.divide(self.sums, self.counts, out=np.full_like(self.sums, np.nan),
                                      where=self.counts > 0)[season]  # fmt: skip
        is_held = self.hours.hour >= held_out_from
        lift = np.nan_to_num(_mean(residual[is_held], 0) - _mean(residual[~is_held], 0)).clip(min=0.0)
        lifted = np.where(is_held[:, None], values, values + lift)
        raw = np.where(np.isnan(self.floor), lifted, np.exp(lifted) - np.nan_to_num(self.floor))
        return Seasonal.fit(Hours(self.hours.first, raw, self.hours.features))

    @property
    def features(self) -> tuple[object, ...]:
        return self.hours.features

    @cached_property
    def residuals(self) -> Array:
        """(K, F) standard deviations that each hour of the reference is from the other days."""
        return self._residuals(self.hours, is_own=True)

    def scores(self, live: Hours) -> Array:
        """(K, F) standard deviations from the usual of each live hour; NaN where either is unknown."""
        return self._residuals(live, is_own=False)

    def usual(self, hour: NDArray[np.int64]) -> tuple[Array, Array]:
        """Mean and sd (K, F) at these hours, in the features' own units; of logged ones the sd is a factor."""
        season = _season(hour, self.seasonality)
        mean, sd = self._moments(self.sums[season], self.squares[season], self.counts[season])
        is_logged = ~np.isnan(self.floor)
        shown = np.where(is_logged, np.exp(np.where(is_logged, mean, 0.0)) - np.nan_to_num(self.floor), mean)
        return shown, sd

    def _residuals(self, hours: Hours, *, is_own: bool) -> Array:
        values, season = _logged(hours.values, self.floor), _season(hours.hour, self.seasonality)
        sums, squares, counts = self.sums[season], self.squares[season], self.counts[season]
        if is_own:
            known = ~np.isnan(values)
            own = np.where(known, values, 0.0)
            sums, squares, counts = sums - own, squares - own**2, counts - known
        mean, sd = self._moments(sums, squares, counts)
        return np.asarray(np.clip((values - mean) / sd, -CUT, CUT))

    def _moments(self, sums: Array, squares: Array, counts: Array) -> tuple[Array, Array]:
        enough = counts >= MIN_OTHERS
        num = np.where(enough, counts, 1.0)
        mean = np.where(enough, sums / num, np.nan)
        variance = np.clip(squares / num - (sums / num) ** 2, 0.0, None) * num / np.maximum(num - 1, 1.0)
        return mean, np.maximum(np.sqrt(variance), LEAST_SD * self._overall_sd)

    @cached_property
    def _overall_sd(self) -> Array:
        """(F,) within seasons, pooled; for what never varies the least that counts: a hundredth of it, or 0.05."""
        enough = self.counts >= MIN_OTHERS
        num = np.where(enough, self.counts, 0.0)
        within = np.where(enough, self.squares - self.sums**2 / np.maximum(self.counts, 1.0), 0.0).clip(min=0.0)
        pooled = np.sqrt(within.sum(axis=0) / np.maximum(num.sum(axis=0), 1.0))
        level = np.abs(self.sums.sum(axis=0)) / np.maximum(self.counts.sum(axis=0), 1.0)
        least = np.where(np.isnan(self.floor), 0.01 * level, 0.05)
        return np.asarray(np.maximum(np.maximum(pooled, least), [0.05 if _is_share(one) else 1e-9
                                                                 for one in self.hours.features]))  # fmt: skip

    def calibrate(
        self, covered: NDArray[np.bool_], alarms_per_year: float, *, num_hours: int = WINDOW_HOURS, one_sided: bool
    ) -> Calibration:
        """Variation and threshold of means over `num_hours` of which the hours of the day `covered` (24,) count."""
        weights = covered[self.hours.hour % 24].astype(np.float64)
        means = rolled(self.residuals, weights, num_hours)
        sd = self._shared(np.sqrt(_mean(means**2, axis=0)))
        scores = means / sd
        largest = _max(scores if one_sided else np.abs(scores), axis=1)
        day = self.hours.hour // 24
        maxima = [_max(largest[day == one], axis=0) for one in np.unique(day)[1:]]  # the first is never whole
        return Calibration(sd, return_level(np.array(maxima, np.float64), alarms_per_year))

    def _shared(self, sd: Array) -> Array:
        """Half of its own variance, half of its kind's: a jam that a place has not had yet, others had."""
        kinds = [(one.what, one.channel) for one in self.hours.features]
        of_kind = {kind: np.nanmean([sd[i] ** 2 for i, one in enumerate(kinds) if one == kind]) for kind in set(kinds)}
        both = np.sqrt((sd**2 + [of_kind[kind] for kind in kinds]) / 2)
        return np.asarray(np.maximum(np.where(np.isnan(both), LEAST_VARIATION, both), LEAST_VARIATION))


def check(
    seasonal: Seasonal,
    live: Hours,
    name: Literal["error", "inputs", "forecasts"],
    alarms_per_year: float,
    num_hours: int = WINDOW_HOURS,
) -> Check | None:
    """The last `num_hours` of `live` against the reference; None where fewer than `MIN_HOURS` are covered."""
    window = live.between(live.first + len(live) - num_hours, live.first + len(live))
    seen = window.is_seen
    if seen.sum() < MIN_HOURS:
        return None
    covered = np.bincount(window.hour[seen] % 24, minlength=24) > 0
    calibration = seasonal.calibrate(covered, alarms_per_year, num_hours=num_hours, one_sided=name == "error")
    scores = seasonal.scores(window)
    means = np.where((~np.isnan(scores)).sum(axis=0) >= seen.sum() / 2, _mean(scores, axis=0), np.nan)
    is_error = name == "error"
    ratio = np.exp(np.nan_to_num(_log_ratio(seasonal, window))) if is_error else means
    shifts = [
        Shift(what=one.what, place=one.place, channel=one.channel, effect=float(ratio[i]),
              score=float(means[i] / calibration.sd[i]))
        for i, one in enumerate(window.features) if np.isfinite(means[i])
    ]  # fmt: skip
    return checked(name, shifts, calibration.threshold, MIN_ERROR_RATIO if is_error else MIN_EFFECT)


def rolled(values: Array, weights: Array, num_hours: int) -> Array:
    """Mean over the `num_hours` that end with each hour, counting hours with weight: (K, F) → (K, F).

    NaN before the first whole window, and where less than half of what counts is known.
    """
    known = ~np.isnan(values) & (weights[:, None] > 0)
    sums = _running(np.where(known, values, 0.0) * weights[:, None], num_hours)
    counts = _running(known * weights[:, None], num_hours)
    wanted = _running(weights[:, None], num_hours)
    is_enough = (counts > 0) & (counts >= wanted / 2)
    means = np.divide(sums, counts, out=np.full_like(sums, np.nan), where=is_enough)
    means[: num_hours - 1] = np.nan
    return means


def _log_ratio(seasonal: Seasonal, window: Hours) -> Array:
    """Mean of the logged error less the usual: (F,)."""
    values = _logged(window.values, seasonal.floor)
    season = _season(window.hour, seasonal.seasonality)
    mean = np.divide(seasonal.sums, seasonal.counts, out=np.full_like(seasonal.sums, np.nan),
                     where=seasonal.counts > 0)[season]  # fmt: skip
    return _mean(values - mean, axis=0)


def _running(values: Array, num_hours: int) -> Array:
    total = np.cumsum(np.concatenate([np.zeros((num_hours, values.shape[1])), values]), axis=0)
    return np.asarray(total[num_hours:] - total[:-num_hours])


def _seasonality(hours: Hours) -> str:
    weeks = len(hours) / HOURS_PER_WEEK
    return WEEK if weeks >= MIN_WEEKS else DAY_TYPE if weeks >= MIN_WEEKS_BY_TYPE else DAY


def _season(hour: NDArray[np.int64], seasonality: str) -> NDArray[np.int64]:
    """Row of the seasonal tables of each hour."""
    of_day, weekday = hour % 24, (hour // 24 + 3) % 7  # 1970-01-01 was a Thursday
    if seasonality == DAY:
        return np.asarray(of_day)
    return np.asarray(of_day + 24 * (weekday if seasonality == WEEK else weekday >= 5))


def _logged(values: Array, floor: Array) -> Array:
    """Features with a floor as logarithms, the others as they are."""
    is_logged = ~np.isnan(floor)
    return np.where(is_logged, np.log(np.maximum(np.where(is_logged, values, 1.0), 0.0) + np.nan_to_num(floor)), values)


def _is_share(feature: object) -> bool:
    return getattr(feature, "what", "") == "missing"


def _mean(values: Array, axis: int) -> Array:
    known = ~np.isnan(values)
    num = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.asarray(np.where(num > 0, total / np.maximum(num, 1), np.nan))


def _max(values: Array, axis: int) -> Array:
    largest = np.where(np.isnan(values), -np.inf, values).max(axis=axis)
    return np.asarray(np.where(np.isneginf(largest), np.nan, largest))
