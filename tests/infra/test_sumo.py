"""The simulated freeway: a real SUMO run of one early hour, small enough for a test."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from infra import sumo
from infra.sumo_scenario import FreewayScenario, demand_vph, incidents, sections, station_positions_km, trips

TINY = FreewayScenario(
    num_days=2, num_stations=4, seed=7, hours=(6, 7), warm_up_min=15, length_km=5, num_interchanges=2
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The work folder with one part a day, and the folder with the collected data set."""
    work, target = tmp_path_factory.mktemp("work"), tmp_path_factory.mktemp("target")
    assert set(sumo.generate(TINY, work, num_processes=2)) == {sumo.part_path(TINY, day, work) for day in range(2)}
    sumo.collect(TINY, work, target)
    return work, target


@pytest.mark.sim
def test_schema_cadence_and_complete_grid(made: tuple[Path, Path]) -> None:
    frame = pl.read_parquet(made[1] / "freeway.parquet")
    assert dict(frame.schema) == {
        "time": pl.Datetime("us"),
        "station": pl.String,
        "speed_kmh": pl.Float32,
        "flow_vph": pl.Float32,
        "occupancy_pct": pl.Float32,
    }
    slots = [datetime(2024, 3, day, 6) + timedelta(minutes=5 * slot) for day in (4, 5) for slot in range(12)]
    grid = [(slot, f"S{number:02d}") for slot in slots for number in range(1, 5)]
    assert frame.select("time", "station").rows() == grid
    assert frame.select("flow_vph", "occupancy_pct").null_count().row(0) == (0, 0)


@pytest.mark.sim
def test_values_are_traffic(made: tuple[Path, Path]) -> None:
    frame = pl.read_parquet(made[1] / "freeway.parquet")
    assert frame["speed_kmh"].drop_nulls().is_between(1, 140).all()
    assert frame["occupancy_pct"].is_between(0, 100).all()
    assert (frame["flow_vph"] % 12 == 0).all()
    assert frame["flow_vph"].is_between(100, 5000).all()
    assert (frame["speed_kmh"].is_null() == (frame["flow_vph"] == 0)).all()


@pytest.mark.sim
def test_flow_is_conserved_up_to_the_vehicles_on_the_way(made: tuple[Path, Path]) -> None:
    flow = pl.read_parquet(made[1] / "freeway.parquet").filter(pl.col("station") == "S01")["flow_vph"]
    entered = [trips(TINY, day) for day in range(2)]
    wanted = sum(int(((t.entrance == 0) & (t.depart_s >= 6 * 3600) & (t.depart_s < 7 * 3600)).sum()) for t in entered)
    assert flow.sum() / 12 == pytest.approx(wanted, rel=0.1)


@pytest.mark.sim
def test_same_seed_same_day_and_another_seed_another(made: tuple[Path, Path], tmp_path: Path) -> None:
    first = pl.read_parquet(sumo.part_path(TINY, 1, made[0]))
    assert pl.read_parquet(sumo.simulate_day(TINY, 1, tmp_path)).equals(first)
    assert not pl.read_parquet(sumo.simulate_day(replace(TINY, seed=8), 1, tmp_path)).equals(first)


@pytest.mark.sim
def test_a_finished_part_is_not_computed_again(made: tuple[Path, Path]) -> None:
    before = {part: part.stat().st_mtime_ns for part in sumo.generate(TINY, made[0])}
    assert before == {part: part.stat().st_mtime_ns for part in sumo.generate(TINY, made[0])}
    assert sorted(made[0].iterdir()) == sorted(before)  # nothing half-done is left lying about


def test_collect_names_the_missing_days(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="2 of 2 days missing"):
        sumo.collect(TINY, tmp_path, tmp_path)


def test_a_scenario_refuses_what_it_cannot_build() -> None:
    with pytest.raises(ValueError, match="hours"):
        replace(TINY, hours=(7, 6))
    with pytest.raises(ValueError, match="length_km"):
        replace(TINY, length_km=1)


def test_a_day_draws_the_same_alone_and_beside_others() -> None:
    assert np.array_equal(demand_vph(TINY, 1), demand_vph(replace(TINY, num_days=1), 1))
    assert TINY.fingerprint() == replace(TINY, num_days=9).fingerprint() != replace(TINY, seed=8).fingerprint()


def test_the_road_is_gapless_and_holds_all_stations_and_incidents() -> None:
    road = sections(FreewayScenario())
    assert (road[0].start_m, road[-1].end_m) == (0, 14_000)
    assert all(before.end_m == after.start_m for before, after in pairwise(road))
    assert all(0 < position_km < 14 for position_km in station_positions_km(FreewayScenario()))
    blocked = [one for day in range(28) for one in incidents(FreewayScenario(), day)]
    assert 14 < len(blocked) < 80
    assert all(600 <= one.end_s - one.start_s <= 2700 for one in blocked)


def test_nobody_leaves_before_entering() -> None:
    day = trips(FreewayScenario(), 0)
    assert (day.exit >= day.entrance).all()
    assert (np.diff(day.depart_s) >= 0).all()
