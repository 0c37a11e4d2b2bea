"""Chooses the alarm's threshold on validation runs.

Few false alarms first; among those thresholds the one that finds incidents soonest, a miss counted as ten minutes.
"""

import numpy as np
from numpy.typing import NDArray

from models.artifact.alarms import FOUND_WITHIN_MIN, count_alarms
from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.data.snapshot import Snapshot

MAX_FALSE_PER_100_STATION_HOURS = 5.0
SAFETY = 0.6  # share of them that validation may use: other days have other false alarms
NUM_THRESHOLDS = 150


def calibrate(
    manifest: Manifest,
    answers: NDArray[np.float32],
    samples: ExampleSamples,
    snapshot: Snapshot,  # noqa: ARG001
) -> Manifest:
    """The manifest with `threshold`; answers: (S, N) logits on validation.

    Least mean delay, a missed incident counted as ten minutes, among thresholds with few enough false alarms; the
    highest of all where none has.
    """
    probability = probabilities(answers)
    best, threshold = np.inf, float(probability.max())
    for candidate in candidates(probability):
        alarms = count_alarms(probability, samples, float(candidate))
        if alarms.false_per_100_station_hours > SAFETY * MAX_FALSE_PER_100_STATION_HOURS:
            break  # lower thresholds only raise more
        delay_min = float(np.minimum(alarms.delays_min, FOUND_WITHIN_MIN).mean())
        if delay_min < best:
            best, threshold = delay_min, float(candidate)
    return manifest.model_copy(update={"threshold": threshold})


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """As they are on the wire."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)


def candidates(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thresholds from the highest down, closer together where probabilities are rare."""
    shares = np.geomspace(0.5, 1 / probability.size, NUM_THRESHOLDS)
    return np.unique(np.quantile(probability, 1 - shares))[::-1].astype(np.float32)
