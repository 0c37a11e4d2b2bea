"""Says when a shift is large enough to be believed, within a budget of false alarms.

Every check is an effect size: a mean difference in units of what is usual, a distance of distributions, a ratio of
errors. How large one may grow by chance is read off the reference itself: the largest of each day is its block maximum,
and from those the level is extrapolated that is passed as often as the budget allows (Gumbel, Statistics of Extremes,
1958; Coles, An Introduction to Statistical Modeling of Extreme Values, 2001, chapter 3). p-values are left out: with
many requests they find differences that matter to nobody.
"""

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.data.card import Frozen

ALARMS_PER_YEAR = 2.0
BLOCKS_PER_YEAR = 365.0
MIN_BLOCKS = 5  # block maxima below which nothing is extrapolated
# The spread of few block maxima is taken so many standard errors high: a short reference has not seen its worst day.
# Chosen on simulated years (`bench.drift`, seeds 1 to 12), checked on others.
UPPER_END = 4.2
NUM_CHECKS, SPENT = 3, 0.5  # half of the budget is for what a short reference does not know of its tail
MIN_EFFECT = 0.5  # of a standard deviation: Cohen's medium effect
NUM_SHOWN = 12
_WORDS = {"change": "change from reading to reading", "missing": "share of missing readings"}

Status = Literal["no retraining needed", "retraining needed", "too few requests", "reference too short"]


class Shift(Frozen):
    """One feature, and how far it is from what is usual.

    what: level, change, missing, forecast, error, distribution; effect: in standard deviations of the reference, a
    distance of distributions, or for errors live over usual; score: the effect against its own variation from day to
    day, which is what the threshold limits
    """

    what: str
    place: str
    channel: str
    effect: float
    score: float

    def said(self) -> str:
        """`level of flow_vph at s3 is 4.2 standard deviations above the usual`."""
        where = " ".join(part for part in (f"of {self.channel}" if self.channel else "",
                                           f"at {self.place}" if self.place else "") if part)  # fmt: skip
        subject = f"{_WORDS.get(self.what, self.what)} {where}".strip()
        if self.what == "error":
            return f"{subject} is {self.effect:.2f} times the usual"
        if self.what == "distribution":
            return f"{subject} is {self.effect:.2f} apart from the reference (Kolmogorov-Smirnov distance)"
        side = "above" if self.effect > 0 else "below"
        return f"{subject} is {abs(self.effect):.1f} standard deviations {side} the usual"


class Check(Frozen):
    """One kind of check over all its features: the largest score against its threshold; shifts: breached ones first."""

    name: Literal["error", "inputs", "forecasts"]
    score: float
    threshold: float
    min_effect: float
    num_features: int
    num_breached: int
    shifts: tuple[Shift, ...] = ()

    @property
    def is_breached(self) -> bool:
        return self.num_breached > 0


class DriftReport(Frozen):
    """What a monitoring of one product found. hours, reference_hours: that were covered; figures: error and volume."""

    status: Status
    reasons: tuple[str, ...]
    checks: tuple[Check, ...] = ()
    seasonality: str = ""
    hours: int = 0
    reference_hours: int = 0
    alarms_per_year: float = ALARMS_PER_YEAR
    figures: dict[str, float] = Field(default_factory=dict)

    def threshold(self, name: str) -> float | None:
        """Of a check that was made."""
        return next((one.threshold for one in self.checks if one.name == name), None)


def return_level(
    maxima: NDArray[np.float64], alarms_per_year: float, blocks_per_year: float = BLOCKS_PER_YEAR
) -> float:
    """The level that block maxima like these pass `alarms_per_year` times a year; infinite for too few of them.

    A Gumbel distribution by its moments; its spread is taken at the upper end of what so few blocks leave open
    (`UPPER_END`), since a short reference has not seen its worst day.
    """
    known = maxima[np.isfinite(maxima)]
    if len(known) < MIN_BLOCKS:
        return math.inf
    spread = float(known.std(ddof=1)) * (1 + UPPER_END * 1.05 / math.sqrt(len(known)))
    scale = spread * math.sqrt(6) / math.pi
    location = float(known.mean()) - float(np.euler_gamma) * scale
    share = min(alarms_per_year / blocks_per_year, 0.5)
    level = location - scale * math.log(-math.log1p(-share))
    return max(level, float(known.max()))


def share_of(alarms_per_year: float) -> float:
    """The part of the budget that one of the checks may spend: by the union bound all stay within it together."""
    return alarms_per_year * SPENT / NUM_CHECKS


def decided(checks: tuple[Check, ...]) -> tuple[Status, tuple[str, ...]]:
    """The status and its reasons: what got worse first, what drifted second."""
    breached = sorted((one for one in checks if one.is_breached), key=lambda one: one.name != "error")
    reasons = tuple(reason(one) for one in breached)
    return ("retraining needed" if reasons else "no retraining needed"), reasons


def reason(check: Check) -> str:
    """One breached check in words."""
    worst = check.shifts[0]
    verb = "worse" if check.name == "error" else f"{check.name} drifted"
    more = f", and {check.num_breached - 1} more" if check.num_breached > 1 else ""
    return f"{verb}: {worst.said()}{more} (score {check.score:.1f}, threshold {check.threshold:.1f})"


def checked(
    name: Literal["error", "inputs", "forecasts"], shifts: list[Shift], threshold: float, min_effect: float
) -> Check:
    """The check over these features; one is breached that passes both the threshold and the least effect."""
    ordered = sorted(shifts, key=lambda one: -_signed(name, one.score))
    breached = [one for one in ordered if _signed(name, one.score) > threshold and _is_large(one, min_effect)]
    others = [one for one in ordered if one not in breached]
    return Check(
        name=name, score=_signed(name, ordered[0].score) if ordered else 0.0, threshold=threshold,
        min_effect=min_effect, num_features=len(ordered), num_breached=len(breached),
        shifts=tuple([*breached, *others][:NUM_SHOWN]),
    )  # fmt: skip


def _signed(name: str, score: float) -> float:
    """Errors alarm when they grow; everything else when it moves."""
    return score if name == "error" else abs(score)


def _is_large(shift: Shift, min_effect: float) -> bool:
    return shift.effect >= min_effect if shift.what == "error" else abs(shift.effect) >= min_effect
