"""A signal policy is measured by how often it would choose otherwise, apart where the teacher changed the phase."""

import numpy as np
import pytest

from models.data.card import TensorSpec
from models.data.examples import Examples, ExampleSamples
from models.judging.measures.control import measure

PHASES = ("north_south", "east_west")
SPEC = TensorSpec(name="observation", shape=(3,), labels=("queue", "shows_north_south", "shows_east_west"))
TARGET = TensorSpec(name="phase", shape=(), labels=PHASES)


def samples(target: list[float], shown: list[int], busy: list[int]) -> ExampleSamples:
    observation = np.concatenate([np.zeros((len(shown), 1)), np.eye(2)[shown]], axis=1).astype(np.float32)
    examples = Examples(
        {"observation": observation}, np.array(target, np.float32), np.arange(len(target)) // 2,
        {"is_busy": np.array(busy)}, (SPEC,), TARGET,
    )  # fmt: skip
    return ExampleSamples(examples, np.arange(len(target)))


class _Manifest:
    output = TensorSpec(name="phase", shape=(2,), labels=PHASES)


def test_errors_changes_and_slices() -> None:
    found = samples([0, 1, 1, np.nan], shown=[0, 0, 1, 0], busy=[0, 1, 1, 1])
    logits = np.array([[2, 1], [2, 1], [1, 2], [1, 2]], np.float32)  # wrong at the one change, the last is unknown
    findings = measure(logits, found, _Manifest())  # type: ignore[arg-type]
    figures = {metric.name: metric.value for metric in findings.metrics}
    assert figures["error_rate"] == pytest.approx(1 / 3)
    assert figures["error_rate_at_changes"] == 1.0
    assert figures["changes_share"] == pytest.approx(1 / 3)
    assert findings.errors.mean == pytest.approx(1 / 3)
    by_name = {part.name: (part.error, part.num_values) for part in findings.slices}
    assert by_name["east_west"] == (0.5, 2)
    assert by_name["moderate"] == (0.0, 1)
