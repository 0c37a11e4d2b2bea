"""The simulated city with works: what is drawn, and a real SUMO run of a short morning."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import polars as pl
import pytest

from infra import sumo_works
from infra.sumo_drive import Question, Reports, Seen, drive, questions
from infra.sumo_works_scenario import WorksScenario, announced, demand_vph, habits, trips, works

SETTINGS = {"kind": "works", "seed": 3, "num_days": 1, "hours": [7.0, 7.5], "num_columns": 4, "num_rows": 4,
            "peak_vph": 2500.0}  # fmt: skip
TINY = sumo_works.scenario_of(SETTINGS)


def test_every_place_can_be_reached_and_streets_are_as_long_as_they_lie() -> None:
    city = WorksScenario(seed=5).city
    assert len(city.streets) == 98
    assert nx.is_strongly_connected(city.graph(city.free_flow_s()))
    for street in city.streets.values():
        beeline_m = np.hypot(*np.subtract(city.places[street.source], city.places[street.target]))
        assert street.length_m == pytest.approx(beeline_m, abs=0.01) and 200 < street.length_m < 800


def test_another_seed_is_another_map_with_the_same_names() -> None:
    one, other = WorksScenario(seed=1).city, WorksScenario(seed=2).city
    assert list(one.streets) == list(other.streets) and one.places != other.places


def test_a_day_draws_the_same_alone_and_beside_others() -> None:
    hour = np.arange(6, 10, 0.5)
    assert np.array_equal(demand_vph(TINY, 1, hour), demand_vph(replace(TINY, num_days=9), 1, hour))
    assert works(TINY, 4) == works(replace(TINY, num_days=9), 4) != works(TINY, 5)
    assert TINY.fingerprint() == replace(TINY, num_days=9).fingerprint() != replace(TINY, seed=8).fingerprint()


def test_trips_follow_streets_that_lead_on() -> None:
    streets, known = TINY.city.streets, list(trips(TINY, 0))
    assert len(known) > 300
    assert [trip.depart_s for trip in known] == sorted(trip.depart_s for trip in known)
    for trip in known[:50]:
        ends = [streets[name] for name in trip.streets]
        assert all(a.target == b.source for a, b in pairwise(ends))
    assert 0.04 < np.mean([trip.is_floating for trip in known]) < 0.2
    assert len(habits(TINY)) == 6


def test_works_are_announced_roughly_for_when_they_are() -> None:
    scenario = WorksScenario(seed=1)
    slots, names = range(0, 288), list(scenario.city.streets)
    share = announced(scenario, 3, slots)
    for one in works(scenario, 3):
        announced_s = share[:, names.index(one.street)].sum() * 300
        assert announced_s == pytest.approx(one.end_s - one.start_s, abs=2400)
    assert share.sum() > 0 and share.max() <= 1


@pytest.mark.parametrize("wrong", [{"hours": (7, 6)}, {"num_columns": 3}, {"num_days": 0}])
def test_a_scenario_refuses_what_it_cannot_build(wrong: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        replace(TINY, **wrong)


def test_floating_cars_report_streets_that_they_drove_from_end_to_end() -> None:
    reports = Reports({"a": 0, "b": 1, "c": 2}, begin_s=3000.0)
    for now_s, street in ((10, "a"), (20, "a"), (40, "b"), (90, "c")):
        reports.at(now_s, {"f1": street}, ())
    reports.at(320, {}, ("f1",))
    means = reports.means(range(10, 12))
    assert np.isnan(means[:, 0]).all(), "the first street was entered in the middle"
    assert means[0, 1] == 50 and np.isnan(means[0, 2]) and means[1, 2] == 230


def test_questions_lead_over_works_and_are_the_same_for_everybody() -> None:
    scenario = WorksScenario(seed=1)
    asked = questions(scenario, 3, 92, 5)
    assert asked == questions(scenario, 3, 92, 5) and len(asked) == 5
    assert all(92 * 300 <= one.depart_s <= 93 * 300 and one.source != one.target for one in asked)
    assert questions(replace(scenario, works_per_day=0.0), 3, 92, 5) == ()


@pytest.mark.sim
def test_a_short_morning_becomes_a_data_set(tmp_path: Path) -> None:
    assert list(sumo_works.generate(SETTINGS, tmp_path)) == [(1, 1)]
    frame = pl.read_parquet(tmp_path / sumo_works.TIMES_FILE)
    streets = TINY.city.streets
    assert frame.height == len(TINY.slots) * len(streets)
    assert frame["slot"].unique().sort().to_list() == list(range(82, 90))
    free = pl.DataFrame({"edge": list(streets), "free_s": list(TINY.city.free_flow_s().values())})
    ratio = frame.join(free, on="edge").filter(pl.col("cars") >= 3).select(pl.col("time_s") / pl.col("free_s"))
    assert 1.0 < ratio.to_series().median() < 3.0
    assert 0.1 < frame["reported_s"].is_null().mean() < 0.95
    before = (tmp_path / sumo_works.TIMES_FILE).read_bytes()
    assert list(sumo_works.generate(SETTINGS, tmp_path)) == [(1, 1)]  # nothing is simulated again
    assert (tmp_path / sumo_works.TIMES_FILE).read_bytes() == before


@pytest.mark.sim
def test_what_planners_see_is_what_the_data_set_says_and_their_cars_arrive(tmp_path: Path) -> None:
    scenario, seen = replace(TINY, works_per_day=6.0), []
    graph = scenario.city.graph(scenario.city.free_flow_s())

    def shortest(state: Seen, asked: list[Question]) -> list[list[str]]:
        seen.append(state)
        paths = [nx.dijkstra_path(graph, one.source, one.target, weight="time_s") for one in asked]
        return [[f"{a}-{b}" for a, b in pairwise(path)] for path in paths]

    driven = drive(scenario, 0, {"one": shortest, "same": shortest}, 2, 2, per_slot=1)
    assert driven and all(one.has_arrived and 20 < one.travel_time_s < 1200 for one in driven)
    assert {one.planner for one in driven} == {"one", "same"}
    frame = pl.read_parquet(sumo_works.simulate_day(scenario, 0, tmp_path)).sort("slot")
    names = list(scenario.city.streets)
    state = seen[0]
    slot = int(state.clock[0])
    rows = frame.filter(pl.col("slot") == slot).to_dict(as_series=False)
    reported = dict(zip(rows["edge"], rows["reported_s"], strict=True))
    for column, name in enumerate(names):
        if reported[name] is not None:
            assert state.reported_s[-1, column] == pytest.approx(reported[name], abs=2.1)
