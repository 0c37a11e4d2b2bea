"""Draws the traffic of the signalised grid from a seed: who goes where, when, by what way."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 4  # junctions along each side of the grid
LINK_M, NEAR_M = 220, 80  # between two junctions; the part before the stop line that has a lane for left turns
SPEED_MPS = 13.89
# Vehicles an hour over all sixteen entrances. At `busy` the fixed-time plan's critical flow ratio is near one half.
LEVELS: Mapping[str, float] = {"moderate": 4500.0, "busy": 6750.0}
REGIME_MIN = 10  # minutes between two drawn patterns of demand; in between it changes linearly
WITHIN_A_SIDE = 0.15  # weight of trips that leave on the side where they came in
Place = tuple[int, int]
JUNCTIONS: tuple[Place, ...] = tuple((x, y) for x in range(SIZE) for y in range(SIZE))
SIDES: tuple[Place, ...] = ((0, 1), (1, 0), (0, -1), (-1, 0))  # approaches in the order of SUMO's links: N, E, S, W
RIGHT, STRAIGHT, LEFT = 0, 1, 2


def place_name(place: Place) -> str:
    """As netgenerate names it: `B2` for a junction, `left0`, `top3` for an entrance."""
    x, y = place
    if x < 0 or x >= SIZE:
        return f"{'left' if x < 0 else 'right'}{y}"
    if y < 0 or y >= SIZE:
        return f"{'bottom' if y < 0 else 'top'}{x}"
    return f"{'ABCDEFGH'[x]}{y}"


def street(source: Place, target: Place) -> str:
    """The street between two neighbours, up to where the lane for left turns begins."""
    return place_name(source) + place_name(target)


def near_street(source: Place, junction: Place) -> str:
    """Its last metres before the stop line of `junction`."""
    return f"{street(source, junction)}.{LINK_M - NEAR_M}.00"


def neighbour(junction: Place, side: int) -> Place:
    """The place on that side of a junction."""
    return junction[0] + SIDES[side][0], junction[1] + SIDES[side][1]


@dataclass(frozen=True)
class Trip:
    """Vehicle `number` wants to enter at `depart_s` and visits these places, entrance and exit included."""

    number: int
    depart_s: float
    places: tuple[Place, ...]

    @property
    def streets(self) -> Iterator[str]:
        for source, target in zip(self.places, self.places[1:], strict=False):
            yield street(source, target)
            if target in JUNCTIONS:
                yield near_street(source, target)

    @property
    def turns(self) -> Iterator[tuple[int, int, int]]:
        """(junction, side it comes from, RIGHT, STRAIGHT or LEFT) at each junction."""
        for before, here, after in zip(self.places, self.places[1:], self.places[2:], strict=False):
            came = SIDES.index((before[0] - here[0], before[1] - here[1]))
            goes = SIDES.index((after[0] - here[0], after[1] - here[1]))
            yield JUNCTIONS.index(here), came, {1: LEFT, 2: STRAIGHT, 3: RIGHT}[(goes - came) % 4]


@dataclass(frozen=True)
class GridScenario:
    """Traffic of one seed. level: of `LEVELS`; demand lasts `minutes`, then the streets may empty for `drain_min`."""

    seed: int
    level: str = "moderate"
    minutes: int = 30
    drain_min: int = 20

    @cached_property
    def trips(self) -> tuple[Trip, ...]:
        """In the order of their departures; everything comes from the seed."""
        random = np.random.default_rng([self.seed, 4])
        rates, patterns = self._regimes(random)
        trips: list[Trip] = []
        for second in range(self.minutes * 60):
            at = second / (self.minutes * 60) * (len(rates) - 1)
            before, share = int(at), at - int(at)
            rate = (1 - share) * rates[before] + share * rates[before + 1]
            pattern = ((1 - share) * patterns[before] + share * patterns[before + 1]).ravel()
            for moment in np.sort(random.random(random.poisson(rate))):
                source, target = divmod(int(random.choice(len(pattern), p=pattern / pattern.sum())), len(ENTRANCES))
                path = _path(ENTRANCES[source], ENTRANCES[target], random)
                trips.append(Trip(len(trips), round(second + float(moment), 1), path))
        return tuple(trips)

    def _regimes(self, random: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Vehicles a second and shares [from, to] at the beginning, at the end and every ten minutes between."""
        num, num_ends = max(2, self.minutes // REGIME_MIN) + 1, len(ENTRANCES)
        side = np.repeat(np.arange(4), SIZE)
        own = np.exp(random.normal(0, 0.3, (2, num_ends)))
        tides = np.exp(random.normal(0, 0.6, (num, 4, 4)))
        patterns = own[0][:, None] * own[1] * tides[:, side[:, None], side]
        patterns *= np.where(side[:, None] == side, WITHIN_A_SIDE, 1.0) * (1 - np.eye(num_ends))
        patterns /= patterns.sum(axis=(1, 2), keepdims=True)
        waves = np.exp(random.normal(0, 0.15, num))
        return LEVELS[self.level] / 3600 * waves / waves.mean(), patterns

    def turning_counts(self) -> NDArray[np.float64]:
        """Vehicles by junction, side they come from, and turn: [16, 4, 3]."""
        counts = np.zeros((len(JUNCTIONS), 4, 3))
        for trip in self.trips:
            for turn in trip.turns:
                counts[turn] += 1
        return counts


def scenario_of(values: Mapping[str, Any]) -> GridScenario:
    """From JSON values; other keys are left alone."""
    return GridScenario(**{key: values[key] for key in ("seed", "level", "minutes", "drain_min") if key in values})


ENTRANCES: tuple[Place, ...] = tuple(
    place
    for places in (
        [(-1, i) for i in range(SIZE)],
        [(SIZE, i) for i in range(SIZE)],
        [(i, -1) for i in range(SIZE)],
        [(i, SIZE) for i in range(SIZE)],
    )
    for place in places
)


def _path(source: Place, target: Place, random: np.random.Generator) -> tuple[Place, ...]:
    """A shortest way with at most two turns inside the grid, drawn again while it would turn round on the spot."""
    first, last = _inside(source), _inside(target)
    across, along = last[0] - first[0], last[1] - first[1]
    while True:
        split = int(random.choice([0, abs(across), int(random.integers(0, abs(across) + 1))]))
        step_x, step_y = int(np.sign(across)), int(np.sign(along))
        moves = [(step_x, 0)] * split + [(0, step_y)] * abs(along) + [(step_x, 0)] * (abs(across) - split)
        places = [source, first]
        for dx, dy in moves:
            places.append((places[-1][0] + dx, places[-1][1] + dy))
        places.append(target)
        if all(a != c for a, c in zip(places, places[2:], strict=False)):
            return tuple(places)


def _inside(place: Place) -> Place:
    return min(max(place[0], 0), SIZE - 1), min(max(place[1], 0), SIZE - 1)
