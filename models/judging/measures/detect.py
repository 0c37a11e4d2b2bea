"""Measures incident detection: log loss decides, alarms are shown beside it.

Incidents found, minutes until then and false alarms are few whole numbers, too coarse to tell two candidates apart; the
log loss is a proper score of every minute and station, and can be compared pairwise over whole runs.
"""

import numpy as np
from numpy.typing import NDArray

from models.artifact.alarms import FOUND_WITHIN_MIN, Alarms, count_alarms
from models.artifact.calibrations.detect import probabilities
from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.judging.bootstrap import Errors
from models.judging.findings import Findings
from models.judging.record import Metric, Slice

CONVENTION = "per station-hour"
AT_THRESHOLD = "at the validation threshold"
UNIT = "nats"
EARLY_MIN = 3.0


def measure(answers: NDArray[np.float32], samples: ExampleSamples, manifest: Manifest) -> Findings:
    """Log loss summed over an hour of one station; alarms counted as `models.artifact.alarms` says.

    answers: (S, N) logits. Samples lie a minute apart.
    """
    target, known = samples.all_targets()
    loss = log_loss(answers, target) * known  # [S, N]
    errors = Errors(loss.sum(axis=1), known.sum(axis=1).astype(np.float64) / 60, samples.groups, "blocks")
    metrics = [Metric(name="log_loss", value=errors.mean, convention=CONVENTION, unit=UNIT)]
    metrics.append(
        Metric(name="average_precision", value=average_precision(answers[known > 0], target[known > 0]),
               convention="pooled", unit="")
    )  # fmt: skip
    if manifest.threshold is not None:
        metrics += _at_threshold(count_alarms(probabilities(answers), samples, manifest.threshold), manifest.threshold)
    return Findings(errors, "log loss", CONVENTION, UNIT, metrics, _slices(loss, known, samples))


def log_loss(logits: NDArray[np.float32], target: NDArray[np.float32]) -> NDArray[np.float64]:
    """Of each entry, in nats."""
    wide = logits.astype(np.float64)
    return np.asarray(np.logaddexp(0, wide) - wide * target)


def average_precision(score: NDArray[np.float32], actual: NDArray[np.float32]) -> float:
    """Area under precision over recall: the mean precision at every actual incident minute; 0 where there is none."""
    order = np.argsort(-score, kind="stable")
    hits = actual[order] > 0
    precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
    return float(precision[hits].mean()) if hits.any() else 0.0


def _at_threshold(alarms: Alarms, threshold: float) -> list[Metric]:
    found, num = alarms.found, len(alarms.delays_min)
    figures = {
        "num_incidents": (num, ""),
        "num_found": (len(found), ""),
        "recall": (len(found) / max(num, 1), ""),
        "mean_time_to_detect": (found.mean() if len(found) else np.nan, "min"),
        "median_time_to_detect": (np.median(found) if len(found) else np.nan, "min"),
        "mean_delay_with_misses": (np.minimum(alarms.delays_min, FOUND_WITHIN_MIN).mean() if num else np.nan, "min"),
        "false_alarms_per_100_station_hours": (alarms.false_per_100_station_hours, ""),
        "num_false_alarms": (alarms.num_false, ""),
        "station_hours": (alarms.station_hours, "h"),
        "threshold": (threshold, ""),
    }
    for lanes in np.unique(alarms.lanes_blocked):
        among = np.isfinite(alarms.delays_min[alarms.lanes_blocked == lanes])
        figures[f"recall_{lanes}_lane{'s' if lanes > 1 else ''}"] = (float(among.mean()), "")
    return [
        Metric(name=name, value=float(value), convention=AT_THRESHOLD, unit=unit)
        for name, (value, unit) in figures.items()
        if np.isfinite(value)
    ]


def _slices(loss: NDArray[np.float64], known: NDArray[np.float32], samples: ExampleSamples) -> list[Slice]:
    """By what goes on in the run: nothing yet or any more, an incident's first minutes, its later ones."""
    since = samples.fact("minute") - samples.fact("onset_min")
    active = (samples.fact("incident") >= 0) & (samples.fact("minute") <= samples.fact("cleared_min"))
    parts = {
        "no incident": ~active,
        f"first {EARLY_MIN:g} min of one": active & (since <= EARLY_MIN),
        "later in one": active & (since > EARLY_MIN),
    }
    return [
        Slice(
            kind="run",
            name=name,
            error=float(60 * loss[rows].sum() / known[rows].sum()),
            num_values=int(known[rows].sum()),
        )
        for name, rows in parts.items()
        if known[rows].sum() > 0
    ]
