"""Chooses the alarm's threshold on validation runs.

Few false alarms first; of those thresholds the highest whose delay is within a few seconds of the least. The margin
costs little on validation, and other days have other false alarms.
"""

import numpy as np
from numpy.typing import NDArray

from models.artifact.alarms import FOUND_WITHIN_MIN, count_alarms
from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.data.snapshot import Snapshot

MAX_FALSE_PER_100_STATION_HOURS = 5.0
# Share of them that validation may use: other days have other false alarms. Of 212 station-hours it is 4 alarms, whose
# one-sided 95 % Poisson bound of 9.2 is still below the 10.6 allowed.
SAFETY = 0.4
TOLERANCE_MIN = 0.15  # of mean delay, given up for a higher threshold
NUM_THRESHOLDS = 150


def calibrate(
    manifest: Manifest,
    answers: NDArray[np.float32],
    samples: ExampleSamples,
    snapshot: Snapshot,  # noqa: ARG001
) -> Manifest:
    """The manifest with `threshold`; answers: (S, N) logits on validation.

    Delays are means over incidents, a missed one counted as ten minutes. Where no threshold has few enough false alarms
    it is the highest of all.
    """
    probability = probabilities(answers)
    delays: list[tuple[float, float]] = []  # threshold, mean delay
    for candidate in candidates(probability):
        alarms = count_alarms(probability, samples, float(candidate))
        if alarms.false_per_100_station_hours > SAFETY * MAX_FALSE_PER_100_STATION_HOURS:
            break  # lower thresholds only raise more
        delays.append((float(candidate), float(np.minimum(alarms.delays_min, FOUND_WITHIN_MIN).mean())))
    least = min((delay for _, delay in delays), default=np.inf)
    good = [threshold for threshold, delay in delays if delay <= least + TOLERANCE_MIN]
    return manifest.model_copy(update={"threshold": max(good, default=float(probability.max()))})


def probabilities(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """As they are on the wire."""
    return np.asarray(1 / (1 + np.exp(-logits.astype(np.float64))), np.float32)


def candidates(probability: NDArray[np.float32]) -> NDArray[np.float32]:
    """Thresholds from the highest down, closer together where probabilities are rare."""
    shares = np.geomspace(0.5, 1 / probability.size, NUM_THRESHOLDS)
    return np.unique(np.quantile(probability, 1 - shares))[::-1].astype(np.float32)
