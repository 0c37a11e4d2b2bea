"""What serving a parcel costs: bytes, latency of one request, throughput of batches."""

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from models.artifact.predictor import Predictor
from models.data.batches import Samples
from models.data.card import Frozen

BATCH_SIZE = 64
_NUM_WARM_UPS = 5
_NUM_ROUNDS = 4


class Cost(Frozen):
    """`latency_*_ms`: one row through the predictor on one thread; `rows_per_second`: in batches of 64."""

    num_parameters: int = Field(ge=0)
    num_bytes: int = Field(ge=0, description="of model.onnx")
    latency_p50_ms: float
    latency_p99_ms: float
    rows_per_second: float


def measure(predictor: Predictor, samples: Samples, num_repetitions: int = 200, max_seconds: float = 0.8) -> Cost:
    """Measured on real samples; a slow model is measured fewer times, so it takes about `max_seconds`.

    p99 is the median of that of four rounds, so that one burst of other work on the machine does not decide it.
    """
    one = samples.take(np.zeros(1, np.int64)).inputs
    many = samples.take(np.arange(BATCH_SIZE) % len(samples)).inputs
    single_ms = _timed_ms(lambda: predictor.predict(one), num_repetitions, 0.7 * max_seconds)
    rounds = np.array_split(single_ms, min(_NUM_ROUNDS, len(single_ms)))
    batch_ms = _timed_ms(lambda: predictor.predict(many), num_repetitions // 4, 0.3 * max_seconds)
    return Cost(
        num_parameters=predictor.manifest.num_parameters,
        num_bytes=predictor.num_bytes,
        latency_p50_ms=round(float(np.quantile(single_ms, 0.5)), 4),
        latency_p99_ms=round(float(np.median([np.quantile(part, 0.99) for part in rounds])), 4),
        rows_per_second=round(BATCH_SIZE / float(np.median(batch_ms)) * 1e3, 1),
    )


def _timed_ms(call: Callable[[], Any], num_repetitions: int, max_seconds: float) -> NDArray[np.float64]:
    """Duration of each call after a few to warm up; at least three are timed."""
    for _ in range(_NUM_WARM_UPS):
        call()
    spent_ms: list[float] = []
    while len(spent_ms) < 3 or (len(spent_ms) < num_repetitions and sum(spent_ms) < 1e3 * max_seconds):
        began = time.perf_counter()
        call()
        spent_ms.append(1e3 * (time.perf_counter() - began))
    return np.array(spent_ms)
