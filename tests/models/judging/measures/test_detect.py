"""Detection is judged by log loss, and shown by what an operator meets."""

from types import SimpleNamespace

import numpy as np
import pytest

from models.judging.measures.detect import average_precision, log_loss, measure
from tests.models.artifact.watched import NUM_MINUTES, NUM_STATIONS, quiet, watched


def test_a_fair_coin_costs_the_same_everywhere() -> None:
    found = measure(quiet(), watched(), SimpleNamespace(threshold=None))  # type: ignore[arg-type]
    assert (found.judged_name, found.unit) == ("log loss", "nats")
    assert found.errors.mean == pytest.approx(60 * np.log(2))
    assert {metric.name for metric in found.metrics} == {"log_loss", "average_precision"}
    assert [(part.name, part.num_values) for part in found.slices] == [
        ("no incident", 40 * NUM_STATIONS),
        ("first 3 min of one", 3 * NUM_STATIONS),
        ("later in one", 17 * NUM_STATIONS),
    ]


def test_an_operator_s_figures_at_the_threshold() -> None:
    logits = quiet() - 5
    logits[21:, 3] = 4
    found = measure(logits, watched(), SimpleNamespace(threshold=0.5))  # type: ignore[arg-type]
    figures = {metric.name: metric.value for metric in found.metrics}
    assert (figures["num_incidents"], figures["num_found"], figures["recall"]) == (1, 1, 1)
    assert figures["mean_time_to_detect"] == figures["median_time_to_detect"] == 2.5
    assert figures["num_false_alarms"] == 0 and figures["recall_1_lane"] == 1
    assert figures["station_hours"] == pytest.approx(NUM_MINUTES * NUM_STATIONS / 60)
    missed = measure(quiet() - 5, watched(), SimpleNamespace(threshold=0.5))  # type: ignore[arg-type]
    names = {metric.name: metric.value for metric in missed.metrics}
    assert names["recall"] == 0 and names["mean_delay_with_misses"] == 10 and "mean_time_to_detect" not in names


def test_log_loss_and_average_precision_by_hand() -> None:
    assert log_loss(np.array([0.0, 800.0, -800.0], np.float32), np.array([1.0, 1.0, 1.0], np.float32)) == pytest.approx(
        [np.log(2), 0, 800]
    )
    score, actual = np.array([4, 3, 2, 1], np.float32), np.array([1, 0, 1, 0], np.float32)
    assert average_precision(score, actual) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(score, np.zeros(4, np.float32)) == 0
