"""Times of a predictor that takes as long as it says."""

import time
from typing import Any, cast

import numpy as np

from models.artifact.predictor import Predictor
from models.data.batches import Batch
from models.judging.latency import side_by_side


class Working:
    """Keeps the processor busy for a while."""

    def __init__(self, work_ms: float) -> None:
        self.work_ms = work_ms

    def predict(self, inputs: dict[str, Any]) -> None:
        end = time.thread_time() + self.work_ms / 1e3
        while time.thread_time() < end:
            pass


class Few:
    """Three samples."""

    def __len__(self) -> int:
        return 3

    def take(self, indices: Any) -> Batch:
        assert indices.max() < 3
        return Batch({"x": np.zeros(len(indices))}, np.zeros(0), np.zeros(0, np.float32))


def test_the_slower_one_is_found_slower_and_rows_count_by_the_processor() -> None:
    both = {name: cast(Predictor, Working(ms)) for name, ms in (("quick", 0.5), ("slow", 2.0))}
    found = side_by_side(both, Few(), 10, num_rounds=2, num_calls=5, max_seconds=0.1)
    assert found["quick"].p50_ms < found["slow"].p50_ms
    assert found["quick"].p50_ms <= found["quick"].p99_ms
    assert 4000 < found["slow"].rows_per_second <= 5000
