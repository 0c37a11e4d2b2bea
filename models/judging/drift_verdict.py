"""What the hours of one product say together: errors first, then inputs and forecasts.

The budget of false alarms is shared out evenly over the three checks.
"""

from dataclasses import dataclass

import numpy as np

from models.judging.drift import Check, DriftReport, decided, share_of
from models.judging.drift_hours import ERROR, LEVEL, Hours
from models.judging.drift_seasonal import WINDOW_HOURS, Seasonal, check


@dataclass(frozen=True)
class Reference:
    """What is usual of the readings, of the forecasts of the live model, and of its errors."""

    inputs: Seasonal
    forecasts: Seasonal
    error: Seasonal


@dataclass(frozen=True)
class Live:
    """The hours that were captured; None where there is none: nothing answered by the live version, no truth yet."""

    inputs: Hours
    forecasts: Hours | None = None
    error: Hours | None = None


def judge_hours(reference: Reference, live: Live, alarms_per_year: float, num_hours: int = WINDOW_HOURS) -> DriftReport:
    """The report on the last `num_hours` of what was captured."""
    share = share_of(alarms_per_year)
    found: list[Check | None] = [check(reference.inputs, live.inputs, "inputs", share, num_hours)]
    if live.forecasts is not None:
        found.append(check(reference.forecasts, live.forecasts, "forecasts", share, num_hours))
    if live.error is not None:
        found.append(check(reference.error, live.error, "error", share, num_hours))
    checks = tuple(one for one in found if one is not None)
    facts = {
        "seasonality": reference.inputs.seasonality,
        "hours": _num_seen(live.inputs, num_hours),
        "reference_hours": int(reference.inputs.hours.is_seen.sum()),
        "alarms_per_year": alarms_per_year,
    }
    if found[0] is None:
        return DriftReport.model_validate({"status": "too few requests", "reasons": (), **facts})
    if all(np.isinf(one.threshold) for one in checks):
        return DriftReport.model_validate({"status": "reference too short", "reasons": (), **facts})
    status, reasons = decided(checks)
    figures = error_figures(reference, live, num_hours)
    return DriftReport.model_validate(
        {"status": status, "reasons": reasons, "checks": checks, "figures": figures, **facts}
    )


def error_figures(reference: Reference, live: Live, num_hours: int = WINDOW_HOURS) -> dict[str, float]:
    """Live and usual mean error over the hours whose truth is known, and their ratio; empty where none is."""
    if live.error is None:
        return {}
    window = live.error.between(live.error.first + len(live.error) - num_hours, live.error.first + len(live.error))
    place = next(i for i, one in enumerate(window.features) if one.what == ERROR)
    usual, _ = reference.error.usual(window.hour)
    known = np.isfinite(window.values[:, place]) & np.isfinite(usual[:, place])
    if not known.any():
        return {}
    mean, expected = float(window.values[known, place].mean()), float(usual[known, place].mean())
    return {"error_live": mean, "error_usual": expected, "error_ratio": mean / max(expected, 1e-12)}


def mean_level(hours: Hours) -> dict[str, float]:
    """Mean level of each channel over all places, for a tracker."""
    channels = {one.channel for one in hours.features if one.what == LEVEL}
    columns = {name: [i for i, one in enumerate(hours.features) if (one.what, one.channel) == (LEVEL, name)]
               for name in channels}  # fmt: skip
    means = {name: hours.values[:, column] for name, column in columns.items()}
    return {f"level_{name}": float(np.nanmean(one)) for name, one in means.items() if np.isfinite(one).any()}


def _num_seen(hours: Hours, num_hours: int) -> int:
    return int(hours.between(hours.first + len(hours) - num_hours, hours.first + len(hours)).is_seen.sum())
