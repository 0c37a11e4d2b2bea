"""Draws simulated towns from one seed: crooked streets, signals and who drives where.

Pure and deterministic: every town draws from streams of its own (scenario seed, town, topic), so a town looks the same
whether it is generated alone, after a crash, or beside others. `infra.sumo_city` turns the result into traffic.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MINOR_KMH, MAJOR_KMH = 30.0, 50.0


@dataclass(frozen=True)
class CityScenario:
    """Towns of their own, each a crooked grid of two-way streets with signals; some of the cars report."""

    seed: int = 1
    num_towns: int = 12
    blocks: int = 8  # streets in each direction, less one
    spacing_m: float = 170.0
    crookedness: float = 0.16  # standard deviation of a junction's place, as a share of the spacing
    closed_share: float = 0.14  # streets of the grid that do not exist
    minutes: int = 35
    warm_up_minutes: int = 5
    vehicles_per_hour: int = 2_400
    drives_per_town: int = 120  # reporting cars kept of each town
    least_drive_s: int = 90
    longest_drive_s: int = 300
    cadence_s: int = 2  # between the fixes

    def __post_init__(self) -> None:
        least = {"seed": 0, "num_towns": 1, "blocks": 4, "drives_per_town": 1, "cadence_s": 1, "least_drive_s": 1}
        for name, low in least.items():
            if not isinstance(getattr(self, name), int) or getattr(self, name) < low:
                raise ValueError(
                    f"city scenario: {name}: expected a whole number from {low}, got {getattr(self, name)}"
                )
        if self.minutes * 60 <= self.warm_up_minutes * 60 + self.longest_drive_s:
            raise ValueError(f"city scenario: minutes: expected time for a whole drive, got {self.minutes}")

    def stream(self, town: int, topic: str) -> np.random.Generator:
        """The random numbers of one town and topic."""
        return np.random.default_rng([self.seed, town, int.from_bytes(topic.encode()[:8], "big")])

    def fingerprint(self) -> str:
        """Short hash of every setting, for the names of parts."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]


def scenario_of(settings: Mapping[str, Any]) -> CityScenario:
    """The scenario of a data set's `SCENARIO`, whose `kind` is left out. Raises ValueError for an unknown setting."""
    known = {field.name for field in fields(CityScenario)}
    given = {name: value for name, value in settings.items() if name != "kind"}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"city scenario: unknown settings {unknown}; known: {', '.join(sorted(known))}")
    return CityScenario(**given)


@dataclass(frozen=True)
class Town:
    """Junctions and the streets between them; a street is driven in both directions."""

    junctions_m: Floats  # [J, 2], x east and y north
    streets: NDArray[np.int64]  # [S, 2], the junctions at both ends
    is_major: NDArray[np.bool_]  # [S], two lanes in each direction and 50 km/h instead of one and 30
    has_signal: NDArray[np.bool_]  # [J]


def town_of(scenario: CityScenario, town: int) -> Town:
    """The streets of one town: a grid pushed out of shape, turned, with streets taken out but nothing cut off."""
    random, side = scenario.stream(town, "streets"), scenario.blocks + 1
    column, row = np.meshgrid(np.arange(side), np.arange(side), indexing="ij")
    places = np.stack([column.ravel(), row.ravel()], 1) * scenario.spacing_m
    places = places + random.normal(0, scenario.crookedness * scenario.spacing_m, places.shape)
    angle = random.uniform(0, np.pi / 2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    number = (column * side + row).astype(np.int64)
    across = np.stack([number[:-1].ravel(), number[1:].ravel()], 1)
    upward = np.stack([number[:, :-1].ravel(), number[:, 1:].ravel()], 1)
    streets = np.concatenate([across, upward])
    is_major = (_line(streets, side) % 3) == random.integers(3)
    streets, is_major = _thin_out(streets, is_major, side * side, scenario.closed_share, random)
    degree = np.bincount(streets.ravel(), minlength=side * side)
    touches_major = np.bincount(streets[is_major].ravel(), minlength=side * side) > 0
    has_signal = (degree >= 3) & touches_major & (random.random(side * side) < 0.8)
    return Town(places @ turn.T, streets, is_major, has_signal)


def _line(streets: NDArray[np.int64], side: int) -> NDArray[np.int64]:
    """Which line of the grid each street belongs to."""
    column, row = streets[:, 0] // side, streets[:, 0] % side
    is_across = streets[:, 1] // side != column
    return np.asarray(np.where(is_across, row, column))


def _thin_out(
    streets: NDArray[np.int64],
    is_major: NDArray[np.bool_],
    num_junctions: int,
    share: float,
    random: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Take out minor streets at random as long as both ends keep two others and the town stays in one piece."""
    keep = np.ones(len(streets), bool)
    for street in random.permutation(np.flatnonzero(~is_major)):
        if keep.sum() <= (1 - share) * len(streets):
            break
        keep[street] = False
        degree = np.bincount(streets[keep].ravel(), minlength=num_junctions)
        if degree[streets[street]].min() < 2 or not _is_connected(streets[keep], num_junctions):
            keep[street] = True
    return streets[keep], is_major[keep]


def _is_connected(streets: NDArray[np.int64], num_junctions: int) -> bool:
    """Whether every junction can be reached from the first."""
    reached = np.zeros(num_junctions, bool)
    reached[0] = True
    while True:
        touched = reached[streets].any(1)
        further = reached.copy()
        further[streets[touched].ravel()] = True
        if (further == reached).all():
            return bool(reached.all())
        reached = further


@dataclass(frozen=True)
class Trips:
    """Cars in order of departure: a street and a direction to start in, and one to end in."""

    depart_s: Floats
    start: NDArray[np.int64]  # street * 2 + direction
    end: NDArray[np.int64]
    reports: NDArray[np.bool_]


def trips_of(scenario: CityScenario, town: int, streets: Town) -> Trips:
    """Poisson departures between streets that lie at least three blocks apart, major ones three times as likely."""
    random = scenario.stream(town, "trips")
    until_s = scenario.minutes * 60.0
    num_cars = random.poisson(scenario.vehicles_per_hour * until_s / 3600)
    middle = streets.junctions_m[streets.streets].mean(1)
    weight = np.where(streets.is_major, 3.0, 1.0)
    start = random.choice(len(weight), num_cars, p=weight / weight.sum())
    end = random.choice(len(weight), num_cars, p=weight / weight.sum())
    is_far = np.linalg.norm(middle[start] - middle[end], axis=1) >= 3 * scenario.spacing_m
    depart_s = np.sort(random.uniform(0, until_s, num_cars))[is_far]
    directions = random.integers(0, 2, (2, num_cars))
    start, end = (start * 2 + directions[0])[is_far], (end * 2 + directions[1])[is_far]
    in_time = (depart_s >= scenario.warm_up_minutes * 60) & (depart_s < until_s - scenario.longest_drive_s)
    reports = np.zeros(len(depart_s), bool)
    candidates = np.flatnonzero(in_time)
    wanted = min(len(candidates), int(scenario.drives_per_town * 1.4))  # some turn out too short
    reports[random.choice(candidates, wanted, replace=False)] = True
    return Trips(np.round(depart_s, 1), start, end, reports)
