"""Regression is measured over known targets only, and by quarters of them."""

import numpy as np
import pytest

from models.data.card import TensorSpec
from models.data.examples import Examples, ExampleSamples
from models.judging.measures.regress import measure

X, TARGET = TensorSpec(name="x", shape=(1,)), TensorSpec(name="seconds", shape=(1,), unit="s", labels=("seconds",))


class _Manifest:
    output = TARGET


def samples(target: list[float]) -> ExampleSamples:
    column = np.array(target, np.float32)[:, None]
    facts = {"hour": np.arange(len(target)) % 2, "id": np.arange(len(target))}
    examples = Examples({"x": column}, column, np.arange(len(target)) // 2, facts, (X,), TARGET)
    return ExampleSamples(examples, np.arange(len(target)))


def test_figures_and_slices() -> None:
    found = samples([10, 20, 30, 40, np.nan, 50, 60, 70, 80])
    answers = np.array([[12], [20], [30], [40], [999], [50], [60], [70], [76]], np.float32)
    findings = measure(answers, found, _Manifest())  # type: ignore[arg-type]
    figures = {metric.name: (metric.value, metric.unit) for metric in findings.metrics}
    assert findings.judged_name == "MAE" and findings.unit == "s"
    assert findings.errors.mean == figures["mae"][0] == pytest.approx(6 / 8)
    assert figures["rmse"] == (pytest.approx(np.sqrt(20 / 8)), "s")
    assert figures["r2"] == (pytest.approx(1 - 20 / 4200), "")
    quarters = [(part.error, part.num_values) for part in findings.slices if part.kind == "target"]
    assert quarters == [(1.0, 2), (0.0, 2), (0.0, 2), (2.0, 2)]
    assert {part.kind for part in findings.slices} == {"target", "hour", "id"}
    hours = {part.name: part.num_values for part in findings.slices if part.kind == "hour"}
    assert hours == {"0": 4, "1": 4}, "the unknown target counts nowhere"


def test_a_target_that_never_varies_has_no_explained_share() -> None:
    findings = measure(np.full((4, 1), 6, np.float32), samples([5, 5, 5, 5]), _Manifest())  # type: ignore[arg-type]
    assert {metric.name for metric in findings.metrics} == {"mae", "rmse", "wape"}
    assert [(part.name, part.error) for part in findings.slices if part.kind == "target"] == [("5 and more", 1.0)]
