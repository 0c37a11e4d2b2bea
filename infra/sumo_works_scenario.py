"""Draws a simulated city with road works from one seed: map, daily demand, works.

Pure and deterministic: every day draws from streams of its own (seed, day, topic), so that a day looks the same whether
it is generated alone, after a kill, or driven again by the closed-loop judge. `infra.sumo_works` makes traffic of it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import pairwise

import networkx as nx
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLOT_S = 300
COLD_S = 600  # at the beginning the streets are empty: thrown away
NUM_HABITS = 6  # tastes of drivers; each knows one path between two places
ARTERIAL_MPS, STREET_MPS = 13.89, 11.11
ARTERIAL_LANES, STREET_LANES = 2, 1


@dataclass(frozen=True)
class WorksScenario:
    """A grid of streets between arterials, a rush hour towards the centre, and works that close lanes for an hour."""

    seed: int = 1
    num_days: int = 20
    first_day: int = 0
    hours: tuple[float, float] = (6.5, 9.5)  # of each day
    warm_up_min: int = 20  # simulated before the first hour
    num_columns: int = 6
    num_rows: int = 5
    peak_vph: float = 8500.0
    works_per_day: float = 12.0
    floating_share: float = 0.1
    rerouting_share: float = 0.35

    def __post_init__(self) -> None:
        first, last = self.hours
        if not 0 <= first < last <= 24:
            raise ValueError(f"hours: expected 0 <= first < last <= 24, got {self.hours}")
        if not 4 <= self.num_columns <= 26 or not 4 <= self.num_rows <= 26:
            raise ValueError(f"num_columns, num_rows: expected 4 to 26, got {self.num_columns}, {self.num_rows}")
        if self.num_days < 1:
            raise ValueError(f"num_days: expected at least 1, got {self.num_days}")

    @property
    def begin_s(self) -> float:
        """Seconds after midnight at which the simulation of a day begins."""
        return self.hours[0] * 3600 - self.warm_up_min * 60

    @property
    def slots(self) -> range:
        """The five-minute slots of a day, counted from midnight, that are kept."""
        return range(int(self.begin_s + COLD_S) // SLOT_S, int(self.hours[1] * 3600) // SLOT_S)

    @property
    def days(self) -> range:
        """The days of this scenario; day 0 is a Monday."""
        return range(self.first_day, self.first_day + self.num_days)

    def stream(self, day: int, topic: str) -> np.random.Generator:
        """The random numbers of one topic on one day, independent of all others."""
        return np.random.default_rng([self.seed, day, *topic.encode()])

    def fingerprint(self) -> str:
        """Eight hex digits that change with every setting of a day, and not with which days there are."""
        same = replace(self, num_days=1, first_day=0)
        return hashlib.sha256(json.dumps(asdict(same)).encode()).hexdigest()[:8]

    @cached_property
    def city(self) -> City:
        """The map of this seed."""
        return draw_city(self)


@dataclass(frozen=True)
class Street:
    """One direction of one block."""

    name: str
    source: str
    target: str
    length_m: float
    speed_mps: float
    num_lanes: int


@dataclass(frozen=True)
class City:
    """Junctions with their places in metres, and streets, both by name."""

    places: dict[str, tuple[float, float]]
    streets: dict[str, Street]

    def graph(self, time_s: dict[str, float]) -> nx.DiGraph[str]:
        """Junctions and streets; each street with its name and its travel time `time_s`."""
        graph: nx.DiGraph[str] = nx.DiGraph()
        for name, street in self.streets.items():
            graph.add_edge(street.source, street.target, name=name, time_s=time_s[name])
        return graph

    def free_flow_s(self) -> dict[str, float]:
        """Length over speed limit of every street."""
        return {name: street.length_m / street.speed_mps for name, street in self.streets.items()}


@dataclass(frozen=True)
class Works:
    """A closed lane (or a crawl where there is only one) near the end of a street; seconds after midnight."""

    street: str
    start_s: int
    end_s: int
    lane: int


@dataclass(frozen=True)
class Trip:
    """A drive over these streets; a floating car reports when it leaves each of them."""

    number: int
    depart_s: float
    streets: tuple[str, ...]
    is_floating: bool


def draw_city(scenario: WorksScenario) -> City:
    """Spacing, jitter and arterials by seed; the names of junctions and streets are the same for every seed."""
    random = scenario.stream(0, "city")
    x = np.cumsum(random.uniform(330, 620, scenario.num_columns))
    y = np.cumsum(random.uniform(330, 620, scenario.num_rows))
    jitter = random.uniform(-35, 35, (scenario.num_columns, scenario.num_rows, 2))
    columns = set(random.choice(np.arange(1, scenario.num_columns - 1), 2, replace=False).tolist())
    rows = set(random.choice(np.arange(1, scenario.num_rows - 1), 2, replace=False).tolist())
    grid = [(i, j) for i in range(scenario.num_columns) for j in range(scenario.num_rows)]
    places = {
        _junction(i, j): (round(float(x[i] + jitter[i, j, 0]), 1), round(float(y[j] + jitter[i, j, 1]), 1))
        for i, j in grid
    }
    streets: dict[str, Street] = {}
    for i, j in grid:
        for k, m, is_main in ((i + 1, j, j in rows), (i, j + 1, i in columns)):
            if k < scenario.num_columns and m < scenario.num_rows:
                for source, target in ((_junction(i, j), _junction(k, m)), (_junction(k, m), _junction(i, j))):
                    streets[f"{source}-{target}"] = _street(source, target, places, is_main=is_main)
    return City(places, streets)


def _junction(column: int, row: int) -> str:
    return f"{chr(65 + column)}{row}"


def _street(source: str, target: str, places: dict[str, tuple[float, float]], *, is_main: bool) -> Street:
    length_m = float(np.hypot(*np.subtract(places[source], places[target])))
    speed, lanes = (ARTERIAL_MPS, ARTERIAL_LANES) if is_main else (STREET_MPS, STREET_LANES)
    return Street(f"{source}-{target}", source, target, round(length_m, 2), speed, lanes)


def weekday(day: int) -> int:
    """Day 0 is a Monday (0)."""
    return day % 7


def _bell(hour: Floats, middle: float, width: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((hour - middle) / width) ** 2))


def demand_vph(scenario: WorksScenario, day: int, hour: Floats) -> Floats:
    """Trips per hour that begin at each hour of the day: the morning's peak moves and swells from day to day."""
    random = scenario.stream(day, "demand")
    middle, width = random.normal(7.9, 0.2), random.uniform(0.5, 0.8)
    height = scenario.peak_vph * np.exp(random.normal(0, 0.08))
    if weekday(day) >= 5:
        return np.asarray(height * (0.12 + 0.2 * (hour > 7) + 0.4 * _bell(hour, 12.0, 2.6)))
    bells = 0.52 * _bell(hour, middle, width) + 0.5 * _bell(hour, 17.0, 1.0)
    awake = 0.43 / (1 + np.exp(-(hour - 6.2) / 0.25)) / (1 + np.exp((hour - 20) / 0.8))
    return np.asarray(height * (0.05 + awake + bells))


def works(scenario: WorksScenario, day: int) -> tuple[Works, ...]:
    """The works of one day: on arterials mostly, 20 to 70 minutes each, never two on one street."""
    random = scenario.stream(day, "works")
    streets = list(scenario.city.streets.values())
    weights = np.array([1.0 if street.num_lanes > 1 else 0.25 for street in streets])
    number = min(int(random.poisson(scenario.works_per_day)), len(streets))
    first_s, last_s = (hour * 3600 for hour in scenario.hours)
    found = []
    for index in random.choice(len(streets), number, replace=False, p=weights / weights.sum()):
        start_s = int(random.uniform(first_s - 1200, last_s - 1200))
        lane = int(random.integers(streets[index].num_lanes))
        found.append(Works(streets[index].name, start_s, start_s + int(60 * random.uniform(20, 70)), lane))
    return tuple(sorted(found, key=lambda one: one.start_s))


def announced(scenario: WorksScenario, day: int, slots: range) -> Floats:
    """Share of each slot in which works are announced on each street, [slots, streets], 0 to 1.

    What the operator is told beforehand is off by 4 minutes at the beginning and 7 at the end (standard deviations).
    """
    random, streets = scenario.stream(day, "announced"), {name: i for i, name in enumerate(scenario.city.streets)}
    starts_s, share = np.array(slots) * SLOT_S, np.zeros((len(slots), len(streets)))
    for one in works(scenario, day):
        first_s, last_s = one.start_s + random.normal(0, 240), one.end_s + random.normal(0, 420)
        covered_s = np.minimum(starts_s + SLOT_S, last_s) - np.maximum(starts_s, first_s)
        share[:, streets[one.street]] += np.clip(covered_s / SLOT_S, 0, 1)
    return share


def habits(scenario: WorksScenario) -> list[dict[str, dict[str, list[str]]]]:
    """NUM_HABITS maps origin -> destination -> junctions: shortest paths as drivers with different tastes see them."""
    random, free_s = scenario.stream(0, "habits"), scenario.city.free_flow_s()
    found = []
    for _ in range(NUM_HABITS):
        taste = np.exp(random.normal(0, 0.25, len(free_s)))
        seen_s = {name: (time_s + 12) * factor for (name, time_s), factor in zip(free_s.items(), taste, strict=True)}
        found.append(dict(nx.all_pairs_dijkstra_path(scenario.city.graph(seen_s), weight="time_s")))
    return found


def trips(scenario: WorksScenario, day: int) -> Iterator[Trip]:
    """Every trip of the day by departure: from the outskirts rather than the centre, to the centre rather than out."""
    random, known, places = scenario.stream(day, "trips"), habits(scenario), scenario.city.places
    names, middle = list(places), np.mean(list(places.values()), axis=0)
    pull = np.exp(-np.hypot(*(np.array(list(places.values())) - middle).T) / 700) + 0.12
    starts = np.arange(scenario.begin_s, scenario.hours[1] * 3600, SLOT_S)
    number = 0
    for start_s, rate in zip(starts, demand_vph(scenario, day, (starts + SLOT_S / 2) / 3600), strict=True):
        count = int(random.poisson(rate * SLOT_S / 3600))
        ends = random.choice(len(names), count, p=pull / pull.sum())
        origins = random.choice(len(names), count, p=(1.3 - pull) / (1.3 - pull).sum())
        for depart_s, origin, end in zip(np.sort(random.uniform(0, SLOT_S, count)), origins, ends, strict=True):
            taste, is_floating = int(random.integers(NUM_HABITS)), bool(random.random() < scenario.floating_share)
            if origin != end:
                path = known[taste][names[origin]][names[end]]
                streets = tuple(f"{a}-{b}" for a, b in pairwise(path))
                yield Trip(number, round(float(start_s + depart_s), 1), streets, is_floating)
                number += 1
