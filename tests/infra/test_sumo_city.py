"""Simulated towns: what is drawn, what the sensors make of a way, and one real SUMO run."""

import os
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from infra import sumo_city
from infra.sumo_city_scenario import CityScenario, scenario_of, town_of, trips_of
from infra.sumo_city_sensors import Sensors, read_sensors


def test_a_town_hangs_together_and_is_drawn_from_the_seed():
    scenario = CityScenario(seed=3)
    town = town_of(scenario, 0)
    assert np.bincount(town.streets.ravel(), minlength=81).min() >= 2, "no dead ends"
    assert len(town.streets) < 144 and town.has_signal.any() and town.is_major.any()
    same, other = town_of(replace(scenario, num_towns=1), 0), town_of(replace(scenario, seed=4), 0)
    np.testing.assert_array_equal(town.junctions_m, same.junctions_m)
    assert not np.array_equal(town.junctions_m, other.junctions_m)
    trips = trips_of(scenario, 0, town)
    assert trips.reports.sum() == int(1.4 * scenario.drives_per_town) and (np.diff(trips.depart_s) >= 0).all()


def test_a_scenario_refuses_what_it_cannot_build():
    with pytest.raises(ValueError, match="seed: expected a whole number"):
        scenario_of({"kind": "city", "seed": -1})
    with pytest.raises(ValueError, match="unknown settings"):
        scenario_of({"kind": "city", "size": 3})
    with pytest.raises(ValueError, match="a whole drive"):
        CityScenario(minutes=5)


def test_sensors_err_as_they_say():
    num = 4_000
    true_m = np.stack([np.arange(num) * 20.0, np.zeros(num)], 1)
    random = np.random.default_rng(0)
    read = read_sensors(random, Sensors(), 2.0, true_m, np.zeros(num), np.full(num, 20.0))
    missing = np.isnan(read.fix_m[:, 0])
    edges = np.flatnonzero(np.diff(np.concatenate([[False], missing, [False]])))
    lengths_s = (edges[1::2] - edges[::2]) * 2
    assert 0 < missing.mean() < 0.12 and lengths_s.max() <= 30
    assert np.array_equal(missing, np.isnan(read.course_deg)) and not np.isnan(read.speed_mps).any()
    error = (read.fix_m - true_m)[~missing]
    assert 11 < np.median(np.abs(error)) / 0.6745 < 18, "lasting error and noise"
    assert np.corrcoef(error[:-1, 0], error[1:, 0])[0, 1] > 0.8, "it lasts"
    assert abs(read.speed_mps.mean() - 10) < 0.7 and abs(read.turn_dps.mean()) < 1


@pytest.mark.sim
def test_a_town_is_simulated_once_and_always_the_same(tmp_path):
    small = {"kind": "city", "seed": 5, "num_towns": 1, "blocks": 5, "minutes": 14, "drives_per_town": 6}
    first, second = tmp_path / "first", tmp_path / "second"
    assert list(sumo_city.generate(small, first, 1)) == [(1, 1)]
    drives = pl.read_parquet(first / sumo_city.DRIVES)
    assert drives["drive"].n_unique() == 6 and drives["fix_x_dm"].null_count() < 0.4 * len(drives)
    step_m = drives.select(
        ((pl.col("true_x_dm").diff() ** 2 + pl.col("true_y_dm").diff() ** 2).sqrt() / 10).over("drive")
    ).to_series()
    assert 4 < step_m.mean() < 28 and step_m.max() < 40
    (part,) = first.glob("town-*.parquet")
    made = os.stat(part).st_mtime_ns
    list(sumo_city.generate(small, first, 1))
    assert os.stat(part).st_mtime_ns == made, "not simulated again"
    list(sumo_city.generate(small, second, 1))
    for name in (sumo_city.DRIVES, sumo_city.ROADS):
        assert (first / name).read_bytes() == (second / name).read_bytes()
