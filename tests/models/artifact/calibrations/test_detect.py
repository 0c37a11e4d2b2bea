"""The alarm's threshold: few false alarms first, then the soonest detection."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.alarms import count_alarms
from models.artifact.calibrations.detect import calibrate, candidates, probabilities
from tests.models.artifact.watched import quiet, watched


@dataclass(frozen=True)
class Told:
    """What calibration tells a manifest."""

    threshold: float = 0.0

    def model_copy(self, update: dict[str, Any]) -> "Told":
        return Told(**update)


def threshold_of(probability: NDArray[np.float32]) -> float:
    logits = np.log(probability / (1 - probability))
    return calibrate(Told(), logits, watched(), SimpleNamespace()).threshold  # type: ignore[arg-type, return-value]


def test_the_soonest_alarm_without_a_false_one_wins() -> None:
    probability = quiet() + 0.001
    probability[20:22, 3] = 0.4  # seen at once, weakly
    probability[22:40, 3] = 0.95  # and clearly two minutes later
    probability[50, 0] = 0.3  # what is below is a false alarm, and one in six station-hours is too many
    threshold = threshold_of(probability)
    assert 0.3 < threshold <= 0.4
    alarms = count_alarms(probability, watched(), threshold)
    assert (alarms.delays_min.tolist(), alarms.num_false) == ([1.5], 0)


def test_where_every_threshold_has_false_alarms_the_highest_is_taken() -> None:
    probability = quiet() + 0.001
    probability[50, 0] = 0.9
    probability[30, 3] = 0.5
    assert threshold_of(probability) == np.float32(0.9)


def test_probabilities_and_candidates_keep_their_bounds() -> None:
    found = probabilities(np.array([-500.0, 0.0, 500.0], np.float32))
    assert found.tolist() == [0.0, 0.5, 1.0]
    tried = candidates(np.linspace(0, 1, 1000, dtype=np.float32))
    assert (np.diff(tried) < 0).all() and tried[0] > 0.99 and tried[-1] <= 0.501
