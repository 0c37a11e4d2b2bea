"""The measure of positions: distances by hand, in and out of outages."""

import numpy as np
import pytest

from models.data.card import TensorSpec
from models.data.examples import Examples, ExampleSamples
from models.judging.measures.localise import measure


class Manifest:
    output = TensorSpec(name="position", shape=(2,), unit="m")


def test_distances_in_and_out_of_outages():
    target = np.array([[0, 0], [10, 0], [np.nan, np.nan], [0, 5]], np.float32)
    facts = {"outage_s": np.array([0, 8, 0, 26], np.float32), "town": np.array([1, 1, 1, 2])}
    groups = np.array([7, 7, 8, 9])
    examples = Examples({}, target, groups, facts, (), Manifest.output)
    found = measure(
        np.array([[3, 4], [10, 12], [9, 9], [0, 5]], np.float32), ExampleSamples(examples, np.arange(4)), Manifest()
    )
    value = {metric.name: metric.value for metric in found.metrics}
    assert found.errors.sums.tolist() == [5, 12, 0, 0] and found.errors.counts.tolist() == [1, 1, 0, 1]
    assert found.errors.mean == value["mean_distance"] == pytest.approx(17 / 3)
    assert value["rmse"] == pytest.approx(np.sqrt((25 + 144) / 3))
    assert value["rmse_outage"] == pytest.approx(np.sqrt(144 / 2)) and value["rmse_seen"] == 5
    slices = {(one.kind, one.name): (one.error, one.num_values) for one in found.slices}
    assert slices[("outage", "none")] == (5, 1) and slices[("outage", "6 to 12 s")] == (12, 1)
    assert slices[("outage", "over 20 s")] == (0, 1) and slices[("town", "1")] == (8.5, 2)
    assert ("outage", "up to 6 s") not in slices
