"""Rush hours with incidents: what is drawn, and one real SUMO run."""

import os
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

from infra import sumo_incidents
from infra.sumo_incidents import LAST_ONSET_MIN, QUIET_EVERY, IncidentsScenario, draw
from infra.sumo_scenario import station_positions_km


def test_incidents_follow_each_other_between_the_stations_and_some_runs_have_none() -> None:
    scenario = IncidentsScenario(seed=3)
    stations_km = station_positions_km(scenario.freeway(0))
    for run in range(scenario.num_runs):
        found = draw(scenario, run)
        zero_s = scenario.freeway(run).hours[0] * 3600
        assert bool(found) == (run % QUIET_EVERY != QUIET_EVERY - 1)
        assert all(stations_km[0] < one.position_km < stations_km[-1] for one in found)
        assert all(900 <= one.start_s - zero_s < 60 * LAST_ONSET_MIN for one in found)
        assert all(before.end_s + 900 <= after.start_s for before, after in pairwise(found))
        assert all(one.lane + one.lanes_blocked <= 2 for one in found)
    assert 20 <= sum(len(draw(scenario, run)) for run in range(scenario.num_runs)) <= 36


def test_everything_is_drawn_from_the_seed() -> None:
    scenario = IncidentsScenario(seed=3)
    assert draw(scenario, 0) == draw(replace(scenario, num_runs=1), 0) != draw(replace(scenario, seed=4), 0)
    assert scenario.freeway(0) == scenario.freeway(0) != replace(scenario, seed=4).freeway(0)


def test_a_scenario_refuses_what_it_cannot_build() -> None:
    with pytest.raises(ValueError, match="seed"):
        IncidentsScenario(seed=-1)
    with pytest.raises(ValueError, match="length_km"):
        IncidentsScenario(length_km=2)


@pytest.mark.sim
def test_one_run_is_simulated_once_and_its_incident_stops_traffic(tmp_path: Path) -> None:
    scenario = {"kind": "incidents", "seed": 20261122, "num_runs": 1}
    assert list(sumo_incidents.generate(scenario, tmp_path, 1)) == [(1, 1)]
    frame = pl.read_parquet(tmp_path / sumo_incidents.TRAFFIC)
    assert frame.select("run", "station", "minute").rows() == [
        (0, f"S{number:02d}", minute) for number in range(1, 11) for minute in range(120)
    ]
    first = pl.read_parquet(tmp_path / sumo_incidents.INCIDENTS).row(0, named=True)
    behind = frame.filter(station=f"S{first['segment'] + 1:02d}")
    before = behind.filter(pl.col("minute") < first["onset_min"] - 1)["speed_kmh"].mean()
    during = behind.filter(pl.col("minute").is_between(first["onset_min"], first["cleared_min"]))["speed_kmh"].min()
    assert before > 60 > 40 > during
    (part,) = (tmp_path / "parts").iterdir()
    began = os.stat(part).st_mtime_ns
    list(sumo_incidents.generate(scenario, tmp_path, 1))
    assert os.stat(part).st_mtime_ns == began
