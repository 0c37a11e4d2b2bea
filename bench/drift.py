"""False alarms in stationary years, and hours until injected shifts are found: the monitor's own checks, hour by hour.

The traffic is `bench.drift_traffic`, the reference its first four weeks, the model a ridge regression on four past
readings and the profile. Every hour the last 24 are judged, as `roadworthy monitor` does; after an alarm the next one
is possible a day later, as after a retraining. Run: `python -m bench.drift --years 10 --json`.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.drift_traffic import FIRST_DAY, SENSORS, SLOTS, Days, draw, series, simulate
from models.data.series import Series
from models.judging.drift import ALARMS_PER_YEAR, share_of
from models.judging.drift_hours import ERROR, FORECAST, Feature, Hours, reading_hours, value_hours
from models.judging.drift_seasonal import WINDOW_HOURS, Seasonal, rolled
from models.judging.drift_verdict import Live, Reference, judge_hours

REFERENCE_DAYS, YEAR_DAYS, TRAIN_DAYS = 28, 364, 22
LAGS, AHEAD = 4, 4
STATED_H = {"closed lane": 48, "dead sensor": 6, "stuck sensor": 12, "doubled demand": 30}
COOL_H = 24


@dataclass(frozen=True)
class Ridge:
    """Speeds an hour ahead from the last hour and the hour of the week's profile, a regression for each sensor."""

    profile: NDArray[np.float64]  # (672, N)
    weights: NDArray[np.float64]  # (N, LAGS + 2)

    @classmethod
    def fit(cls, speeds: NDArray[np.float64]) -> "Ridge":
        """From (S, N) speeds that begin on a Monday."""
        profile = np.stack([speeds[one::672].mean(axis=0) for one in range(672)])
        model = cls(profile, np.zeros((speeds.shape[1], LAGS + 2)))
        inputs, target = model.inputs(speeds)[:, :-AHEAD], speeds[LAGS - 1 + AHEAD :].T
        gram = inputs.transpose(0, 2, 1) @ inputs + 10 * np.eye(LAGS + 2)
        return cls(profile, np.linalg.solve(gram, inputs.transpose(0, 2, 1) @ target[..., None])[..., 0])

    def inputs(self, speeds: NDArray[np.float64]) -> NDArray[np.float64]:
        """(N, W, LAGS + 2)."""
        num = len(speeds) - LAGS + 1
        past = np.stack([speeds[lag : lag + num] for lag in range(LAGS)], axis=-1)  # [W, N, LAGS]
        ahead = self.profile[(np.arange(num) + LAGS - 1 + AHEAD) % 672][..., None]
        return np.concatenate([past, ahead, np.ones_like(ahead)], axis=-1).transpose(1, 0, 2)

    def forecast(self, speeds: NDArray[np.float64]) -> NDArray[np.float64]:
        """(S, N) of the readings at those steps, made an hour before; NaN for the first."""
        made = np.einsum("nwl,nl->wn", self.inputs(speeds), self.weights)[:-AHEAD]
        return np.concatenate([np.full((LAGS - 1 + AHEAD, speeds.shape[1]), np.nan), made])


def tables(whole: Series, model: Ridge) -> Live:
    """What the monitor would have captured of it: readings, forecasts and errors by hour."""
    speeds = np.nan_to_num(whole.values[:, :, 1].astype(np.float64))
    made = model.forecast(speeds)
    missed = np.nan_to_num(np.abs(made - whole.values[:, :, 1]))
    known = np.isfinite(made - whole.values[:, :, 1]).sum(axis=1, keepdims=True)
    error = np.where(known > 0, missed.sum(axis=1, keepdims=True) / np.maximum(known, 1), np.nan)
    places = [Feature(FORECAST, node, "speed_kmh") for node in whole.nodes]
    return Live(
        reading_hours(whole), value_hours(whole.time, made, places), value_hours(whole.time, error, [Feature(ERROR)])
    )


def reference_of(days: NDArray[np.float32]) -> tuple[Reference, Ridge]:
    """The reference that the monitor would have of these days."""
    whole = series(days)
    model = Ridge.fit(whole.values[: TRAIN_DAYS * SLOTS, :, 1].astype(np.float64))
    known = tables(whole, model)
    assert known.forecasts and known.error
    held_out_from = (FIRST_DAY + np.timedelta64(TRAIN_DAYS, "D")).astype("datetime64[h]").astype(int)
    error = Seasonal.fit(known.error, int(held_out_from))
    return Reference(Seasonal.fit(known.inputs), Seasonal.fit(known.forecasts), error), model


def breaches(reference: Reference, live: Live, alarms_per_year: float) -> NDArray[np.str_]:
    """For each hour what `judge_hours` says of the 24 that end with it: "", or a check that is breached."""
    said = np.full(len(live.inputs), "", dtype="U9")
    every_hour = np.ones(24, np.bool_)
    for name, seasonal, table in (("inputs", reference.inputs, live.inputs),
                                  ("forecasts", reference.forecasts, live.forecasts),
                                  ("error", reference.error, live.error)):  # fmt: skip
        assert table is not None
        is_error = name == "error"
        known = seasonal.calibrate(every_hour, share_of(alarms_per_year), one_sided=is_error)
        means = rolled(seasonal.scores(table), np.ones(len(table)), WINDOW_HOURS)
        least = _least_effect(seasonal, table, means) if is_error else np.abs(means) >= 0.5
        scores = means / known.sd if is_error else np.abs(means) / known.sd
        is_breach = ((np.nan_to_num(scores) > known.threshold) & least).any(axis=1)
        said[np.flatnonzero(is_breach) + table.first - live.inputs.first] = name
    return said


def _least_effect(seasonal: Seasonal, table: Hours, means: NDArray[np.float64]) -> NDArray[np.bool_]:
    usual, _ = seasonal.usual(table.hour)
    ratio = rolled(np.log(table.values / usual), np.ones(len(table)), WINDOW_HOURS)
    return np.asarray((np.exp(ratio) >= 1.1) & np.isfinite(means))


def alarms(said: NDArray[np.str_]) -> list[int]:
    """The hours of alarms: a breach, and none within a day after an alarm."""
    found: list[int] = []
    for hour in np.flatnonzero(said != ""):
        if not found or hour - found[-1] >= COOL_H:
            found.append(int(hour))
    return found


def one_year(seed: int, alarms_per_year: float, num_injections: int) -> dict[str, Any]:
    """Alarms of a stationary year, and of every kind of shift the hours until each was found."""
    days = draw(REFERENCE_DAYS + YEAR_DAYS, seed)
    readings = simulate(days)
    reference, model = reference_of(readings[:REFERENCE_DAYS])
    live = tables(series(readings[REFERENCE_DAYS:], REFERENCE_DAYS), model)
    said = breaches(reference, live, alarms_per_year)
    _same_as_monitor(reference, live, said, alarms_per_year, seed)
    random = np.random.default_rng(seed + 1000)
    delays = {kind: [hours_to_find(kind, days, readings, reference, model, random, alarms_per_year)
                     for _ in range(num_injections)] for kind in STATED_H}  # fmt: skip
    return {"seed": seed, "alarms": len(alarms(said)), "by": [str(said[one]) for one in alarms(said)], "delays": delays}


def hours_to_find(
    kind: str, days: Days, readings: NDArray[np.float32], reference: Reference, model: Ridge,
    random: np.random.Generator, alarms_per_year: float,
) -> float | None:  # fmt: skip
    """A shift at a random hour of a random day: hours until the alarm; None where not within three days."""
    day, hour = int(random.integers(REFERENCE_DAYS + 2, len(readings) - 3)), int(random.integers(0, 24))
    rows = np.arange(day - 2, day + 3)
    seen = readings[rows].copy()
    after = np.array([SLOTS, SLOTS, 4 * hour, 0, 0])
    if kind == "closed lane":
        seen = simulate(days.of(rows).shifted(closed_from=after))
    elif kind == "doubled demand":
        seen = simulate(days.of(rows).shifted(doubled_from=after))
    else:
        flat, sensor = seen.reshape(-1, len(SENSORS), 2), int(random.integers(0, len(SENSORS)))
        start = 2 * SLOTS + 4 * hour
        flat[start:, sensor] = np.nan if kind == "dead sensor" else flat[start - 1, sensor]
    said = breaches(reference, tables(series(seen, int(rows[0])), model), alarms_per_year)
    found = [one - 48 - hour + 1 for one in np.flatnonzero(said != "") if one >= 48 + hour]
    return float(found[0]) if found else None


def _same_as_monitor(
    reference: Reference, live: Live, said: NDArray[np.str_], alarms_per_year: float, seed: int
) -> None:
    """The sliding form here and what the monitor computes agree, at twenty hours."""
    first = live.inputs.first
    hours = np.random.default_rng(seed).integers(48, len(said), 20)
    for stop in (int(first + one + 1) for one in hours):
        parts = [
            table.between(stop - WINDOW_HOURS, stop) for table in (live.inputs, live.forecasts, live.error) if table
        ]
        report = judge_hours(reference, Live(*parts), alarms_per_year)
        assert (report.status == "retraining needed") == bool(said[stop - first - 1]), (stop, report)


def summary(years: list[dict[str, Any]], alarms_per_year: float, seconds: float) -> dict[str, Any]:
    """The figures of all years together."""
    shifts = {}
    for kind, stated_h in STATED_H.items():
        found = [one for year in years for one in year["delays"][kind]]
        known = np.array([one for one in found if one is not None])
        shifts[kind] = {
            "injected": len(found), "found": len(known), "stated_h": stated_h,
            "within_stated": int((known <= stated_h).sum()),
            "median_h": float(np.median(known)) if len(known) else None,
            "p95_h": float(np.quantile(known, 0.95)) if len(known) else None,
            "max_h": float(known.max()) if len(known) else None,
        }  # fmt: skip
    counts = [year["alarms"] for year in years]
    return {
        "years": len(years), "budget": alarms_per_year, "alarms": counts,
        "alarms_per_year": round(float(np.mean(counts)), 3), "by": sorted(one for year in years for one in year["by"]),
        "shifts": shifts, "seconds": round(seconds, 1),
    }  # fmt: skip


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=5)
    parser.add_argument("--injections", type=int, default=20, help="of each kind, in each year")
    parser.add_argument("--alarms-per-year", type=float, default=ALARMS_PER_YEAR)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.perf_counter()
    seeds = range(options.seed, options.seed + options.years)
    years = [one_year(seed, options.alarms_per_year, options.injections) for seed in seeds]
    record = summary(years, options.alarms_per_year, time.perf_counter() - began)
    if options.json:
        sys.stdout.write(json.dumps(record, indent=2) + "\n")
        return
    print(f"{record['years']} stationary years, budget {record['budget']:g} a year: alarms {record['alarms']}, "
          f"mean {record['alarms_per_year']:g}; by {', '.join(record['by']) or 'none'}")  # fmt: skip
    print(f"{'shift':<16}{'found':>10}{'stated h':>10}{'within':>9}{'median h':>10}{'p95 h':>8}{'max h':>8}")
    for kind, one in record["shifts"].items():
        print(f"{kind:<16}{one['found']:>5}/{one['injected']:<4}{one['stated_h']:>10}{one['within_stated']:>9}"
              f"{one['median_h'] or 0:>10.0f}{one['p95_h'] or 0:>8.0f}{one['max_h'] or 0:>8.0f}")  # fmt: skip


if __name__ == "__main__":
    main()
