"""The measure of travel times: cars count, ways are driven, jams are told apart."""

import numpy as np
import pytest

from models.artifact.manifest import Manifest
from models.data.card import RoadNetwork, TensorSpec
from models.data.examples import Examples, ExampleSamples
from models.judging.measures.route import measure

ROADS = RoadNetwork(
    edges=("ab", "bc", "cd", "da"), sources=tuple("abcd"), targets=tuple("bcda"),
    length_m=(100.0,) * 4, speed_mps=(10.0,) * 4,
)  # fmt: skip
OUT = TensorSpec(name="travel_time", shape=(2, 4), unit="s", labels=ROADS.edges)


def manifest(network: RoadNetwork | None = ROADS) -> Manifest:
    return Manifest.model_construct(task="route", cadence_min=5.0, output=OUT, network=network)


def samples(target: np.ndarray, cars: np.ndarray | None = None) -> ExampleSamples:
    facts = {} if cars is None else {"cars": cars.astype(np.float32)}
    groups = np.arange(len(target)) // 2
    return ExampleSamples(
        Examples({}, target.astype(np.float32), groups, facts, (), OUT, ROADS), np.arange(len(target))
    )


def test_perfect_answers_have_no_error() -> None:
    target = np.full((4, 2, 4), 12.0)
    found = measure(target.astype(np.float32), samples(target), manifest())
    assert found.errors.mean == 0
    assert {metric.name: metric.value for metric in found.metrics}["way_error"] == 0


def test_an_edge_counts_by_its_cars_and_an_unknown_one_not_at_all() -> None:
    target, cars = np.full((2, 2, 4), 10.0), np.zeros((2, 2, 4))
    cars[:, :, 0], cars[:, :, 1], cars[:, :, 2] = 3, 1, 5
    target[:, :, 2] = np.nan
    answers = np.full((2, 2, 4), 10.0, np.float32)
    answers[:, :, 0], answers[:, :, 1], answers[:, :, 3] = 12, 6, 99
    found = measure(answers, samples(target, cars), manifest())
    assert found.errors.mean == pytest.approx((3 * 2 + 1 * 4) / 4)
    metrics = {metric.name: metric.value for metric in found.metrics}
    assert metrics["bias"] == pytest.approx((3 * 2 - 4) / 4)
    assert found.errors.groups.tolist() == [0, 0]


def test_slices_tell_jams_and_time_ahead_apart() -> None:
    target = np.full((2, 2, 4), 12.0)
    target[:, :, 0] = 50.0  # five times free flow
    answers = np.full((2, 2, 4), 12.0, np.float32)
    answers[:, 1] += 2
    errors = {(part.kind, part.name): part.error for part in measure(answers, samples(target), manifest()).slices}
    assert errors["ahead", "0 to 5 min"] == pytest.approx(38 / 4)
    assert errors["edge", "2 times and more"] == pytest.approx((38 + 36) / 2)
    assert errors["edge", "below 2 times free flow"] == pytest.approx(1.0)


def test_ways_are_wrong_by_the_share_that_all_edges_are_wrong_by() -> None:
    target = np.full((3, 2, 4), 20.0)
    found = measure((target * 1.1).astype(np.float32), samples(target), manifest())
    assert {metric.name: metric.value for metric in found.metrics}["way_error"] == pytest.approx(0.1, abs=1e-6)


def test_without_a_network_there_are_edges_only() -> None:
    target = np.full((2, 2, 4), 20.0)
    found = measure(target.astype(np.float32), samples(target), manifest(None))
    assert "way_error" not in {metric.name for metric in found.metrics}
