"""Times several parcels side by side: what else the machine does falls on all alike."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.predictor import Predictor
from models.data.batches import Samples

_NUM_WARM_UPS, _MIN_CALLS = 5, 5


@dataclass(frozen=True)
class Timing:
    """Of one batch size through the served predictor, on one thread.

    p50_ms: median of the least disturbed round; p99_ms: median of the rounds' own, so that one burst does not decide
    rows_per_second: by the processor's time, as on a core that nobody else uses
    """

    p50_ms: float
    p99_ms: float
    rows_per_second: float


def side_by_side(
    predictors: Mapping[str, Predictor],
    samples: Samples,
    batch_size: int,
    num_rounds: int = 8,
    num_calls: int = 100,
    max_seconds: float = 1.0,
) -> dict[str, Timing]:
    """Every predictor is called `num_calls` times in each of the rounds, one predictor after the other.

    max_seconds: about how long one predictor is timed in all; a slow one is called fewer times, at least 5 in a round
    """
    inputs = samples.take(np.arange(batch_size, dtype=np.int64) % len(samples)).inputs
    spent: dict[str, list[NDArray[np.float64]]] = {name: [] for name in predictors}  # [calls, wall and core]
    for _ in range(num_rounds):
        for name, predictor in predictors.items():
            spent[name].append(_timed_ms(predictor, inputs, num_calls, max_seconds / num_rounds))
    return {name: _timing(rounds, batch_size) for name, rounds in spent.items()}


def _timing(rounds: list[NDArray[np.float64]], batch_size: int) -> Timing:
    p50_ms = min(float(np.quantile(one[:, 0], 0.5)) for one in rounds)
    p99_ms = float(np.median([np.quantile(one[:, 0], 0.99) for one in rounds]))
    core_ms = float(np.median(np.concatenate(rounds)[:, 1]))
    return Timing(round(p50_ms, 4), round(p99_ms, 4), round(batch_size / core_ms * 1e3, 1))


def _timed_ms(
    predictor: Predictor, inputs: Mapping[str, NDArray[Any]], num_calls: int, max_seconds: float
) -> NDArray[np.float64]:
    """Milliseconds of each call: [calls, 2], by the clock and by the processor."""
    for _ in range(_NUM_WARM_UPS):
        predictor.predict(inputs)
    spent: list[tuple[float, float]] = []
    end = time.perf_counter() + max_seconds
    while len(spent) < _MIN_CALLS or (len(spent) < num_calls and time.perf_counter() < end):
        began, core_began = time.perf_counter(), time.thread_time()
        predictor.predict(inputs)
        spent.append((time.perf_counter() - began, time.thread_time() - core_began))
    return 1e3 * np.array(spent)
