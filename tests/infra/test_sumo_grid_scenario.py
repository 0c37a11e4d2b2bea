"""The signalised grid's traffic: drawn from the seed alone, on streets that exist."""

from itertools import pairwise

import numpy as np

from infra.sumo_grid_scenario import ENTRANCES, JUNCTIONS, LEVELS, GridScenario, near_street, place_name, scenario_of

SHORT = GridScenario(3, "moderate", minutes=4)


def test_the_seed_alone_draws_the_trips() -> None:
    assert GridScenario(3, "moderate", minutes=4).trips == SHORT.trips
    assert GridScenario(4, "moderate", minutes=4).trips != SHORT.trips


def test_trips_go_from_entrance_to_entrance_over_neighbours_and_never_turn_round() -> None:
    for trip in SHORT.trips:
        assert trip.places[0] in ENTRANCES
        assert trip.places[-1] in ENTRANCES
        assert all(place in JUNCTIONS for place in trip.places[1:-1])
        assert all(abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1 for a, b in pairwise(trip.places))
        assert all(a != c for a, c in zip(trip.places, trip.places[2:], strict=False))
    assert [trip.depart_s for trip in SHORT.trips] == sorted(trip.depart_s for trip in SHORT.trips)


def test_as_many_vehicles_as_the_level_says() -> None:
    for level, vehicles_per_hour in LEVELS.items():
        trips = GridScenario(1, level, minutes=6).trips
        assert np.isclose(len(trips), vehicles_per_hour / 10, rtol=0.2)


def test_turning_counts_are_those_of_the_trips() -> None:
    counts = SHORT.turning_counts()
    assert counts.shape == (16, 4, 3)
    assert counts.sum() == sum(len(trip.places) - 2 for trip in SHORT.trips)


def test_names_are_netgenerates() -> None:
    assert [place_name(place) for place in ((0, 0), (3, 1), (-1, 2), (4, 0), (2, -1), (1, 4))] == [
        "A0", "D1", "left2", "right0", "bottom2", "top1"
    ]  # fmt: skip
    assert near_street((1, 0), (0, 0)) == "B0A0.140.00"


def test_a_scenario_is_read_from_json_values() -> None:
    assert scenario_of({"seed": 5, "level": "busy", "kind": "grid"}) == GridScenario(5, "busy")
