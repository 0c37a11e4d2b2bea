"""Draws what happens on the simulated freeway from one seed: demand, weather and incidents.

Pure and deterministic: every day draws from streams of its own (scenario seed, day, topic), so a day looks the same
whether it is generated alone, after a crash, or beside others. `infra.sumo` turns the result into traffic.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

SLOT_S = 300  # demand is redrawn every five minutes
TURNING_M = 250.0  # length of an acceleration or deceleration lane
RAMP_OFFSET_M = 400.0  # from the middle of an interchange to the nose of its ramps


@dataclass(frozen=True)
class FreewayScenario:
    """One direction of a freeway with `num_interchanges` diamonds, each an off-ramp followed by an on-ramp."""

    num_days: int = 28
    num_stations: int = 30
    seed: int = 20240304
    start: str = "2024-03-04"  # a Monday
    cadence_min: int = 5
    hours: tuple[int, int] = (0, 24)  # of each day; less than a whole day only for tests
    warm_up_min: int = 30  # simulated before the first hour, and thrown away
    length_km: float = 14.0
    num_lanes: int = 2
    num_interchanges: int = 5
    speed_limit_kmh: float = 110.0
    entry_peak_vph: float = 2800.0
    ramp_peak_vph: float = 725.0
    exit_share: float = 0.15
    truck_share: float = 0.10
    incidents_per_day: float = 1.5
    rain_chance: float = 0.25

    def __post_init__(self) -> None:
        first, last = self.hours
        if not 0 <= first < last <= 24:
            raise ValueError(f"hours: expected 0 <= first < last <= 24, got {self.hours}")
        if 60 % self.cadence_min or self.warm_up_min % self.cadence_min:
            raise ValueError(f"cadence_min: expected a divisor of 60 and of warm_up_min, got {self.cadence_min}")
        if min(self.num_days, self.num_stations, self.num_lanes, self.num_interchanges) < 1:
            raise ValueError("num_days, num_stations, num_lanes and num_interchanges: expected at least 1 each")
        if self.length_km < 2.5 * self.num_interchanges:
            raise ValueError(f"length_km: {self.num_interchanges} interchanges need {2.5 * self.num_interchanges} km")

    def date(self, day: int) -> datetime:
        """Midnight at which day `day` (0 is the first) begins."""
        return datetime.fromisoformat(self.start) + timedelta(days=day)

    def fingerprint(self) -> str:
        """Eight hex digits that change with every setting of a day, and not with the number of days."""
        return hashlib.sha256(json.dumps(asdict(replace(self, num_days=1))).encode()).hexdigest()[:8]

    def stream(self, day: int, topic: str) -> np.random.Generator:
        """The random numbers of one topic on one day, independent of all others."""
        return np.random.default_rng([self.seed, day, *topic.encode()])


@dataclass(frozen=True)
class Section:
    """A stretch of the mainline with constant lanes; `kind` is main, exit (deceleration) or entry (acceleration)."""

    name: str
    kind: str
    start_m: float
    end_m: float
    num_lanes: int


@dataclass(frozen=True)
class Incident:
    """Vehicles standing on `lanes_blocked` lanes from `lane` (0 is the right one) leftwards; seconds after midnight."""

    start_s: int
    end_s: int
    position_km: float
    lane: int
    lanes_blocked: int


@dataclass(frozen=True)
class Trips:
    """The vehicles of one day, by departure; entrance 0 and exit `num_interchanges` are the ends of the mainline."""

    depart_s: Floats  # [vehicles] seconds after midnight, negative in the warm-up
    entrance: NDArray[np.int64]
    exit: NDArray[np.int64]
    truck: NDArray[np.bool_]
    wet: NDArray[np.bool_]


def sections(scenario: FreewayScenario) -> list[Section]:
    """The mainline in driving direction."""
    spacing_m = scenario.length_km * 1000 / scenario.num_interchanges
    cuts: list[tuple[str, float]] = []
    for middle_m in spacing_m * (np.arange(scenario.num_interchanges) + 0.5):
        off_m, on_m = middle_m - RAMP_OFFSET_M, middle_m + RAMP_OFFSET_M
        cuts += [("main", off_m - TURNING_M), ("exit", off_m), ("main", on_m), ("entry", on_m + TURNING_M)]
    cuts.append(("main", scenario.length_km * 1000))
    starts = [0.0, *(end_m for _, end_m in cuts)]
    return [
        Section(f"m{index:02d}", kind, round(start_m, 2), round(end_m, 2), scenario.num_lanes + (kind != "main"))
        for index, ((kind, end_m), start_m) in enumerate(zip(cuts, starts, strict=False))
    ]


def station_positions_km(scenario: FreewayScenario) -> list[float]:
    """Evenly spaced, half a spacing away from both ends."""
    spacing_km = scenario.length_km / scenario.num_stations
    return [round(spacing_km * (index + 0.5), 3) for index in range(scenario.num_stations)]


def _bell(hour: Floats, middle: float, width: float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((hour - middle) / width) ** 2))


def daily_shape(hour: Floats, weekday: int) -> Floats:
    """Share of peak demand at each hour of the day; `weekday` 0 is Monday."""
    awake = 1 / (1 + np.exp(-(hour - 5.9) / 0.35)) / (1 + np.exp((hour - 20.3) / 0.9))
    if weekday >= 5:
        bells = 0.52 * _bell(hour, 12.0, 2.6) + (0.62 if weekday == 6 else 0.45) * _bell(hour, 17.6, 1.8)
        return np.asarray(0.05 + 0.22 * awake * (hour > 0) + bells)
    evening = 16.2 if weekday == 4 else 17.0
    bells = 0.46 * _bell(hour, 7.7, 0.85) + (0.49 if weekday == 4 else 0.44) * _bell(hour, evening, 1.0)
    return np.asarray(0.05 + 0.52 * awake + bells)


def _smooth_noise(random: np.random.Generator, num_slots: int, spread: float, memory: float = 0.88) -> Floats:
    """A factor around 1 that wanders: log-normal, autocorrelated from slot to slot."""
    level, levels = random.normal(0, spread), []
    for shock in random.normal(0, spread * np.sqrt(1 - memory**2), num_slots):
        level = memory * level + shock
        levels.append(level)
    return np.asarray(np.exp(levels))


def demand_vph(scenario: FreewayScenario, day: int) -> Floats:
    """Vehicles per hour that want in: [slots from the day before's last hours on, 1 + num_interchanges]."""
    random = scenario.stream(day, "demand")
    num_warm = -(-scenario.warm_up_min * 60 // SLOT_S)
    hour = (np.arange(-num_warm, 86_400 // SLOT_S) * SLOT_S + SLOT_S / 2) / 3600
    shape = daily_shape(hour, scenario.date(day).weekday()) * np.exp(random.normal(0, 0.03))
    # Mornings load the first ramps, evenings the last ones: the recurrent bottleneck moves with the time of day.
    along = np.linspace(-1, 1, scenario.num_interchanges) if scenario.num_interchanges > 1 else np.zeros(1)
    tide = np.tanh((hour - 12.5) / 2)
    columns = [scenario.entry_peak_vph * shape * _smooth_noise(random, len(hour), 0.06)]
    for place in along:
        level = scenario.ramp_peak_vph * np.exp(random.normal(0, 0.1)) * (1 + 0.18 * tide * place)
        columns.append(level * shape * _smooth_noise(random, len(hour), 0.16))
    return np.stack(columns, axis=1)


def rain_spell_s(scenario: FreewayScenario, day: int) -> tuple[float, float] | None:
    """Seconds after midnight between which it rains, or None on a dry day."""
    random = scenario.stream(day, "rain")
    if random.random() >= scenario.rain_chance:
        return None
    start_s = random.uniform(3, 18) * 3600
    return start_s, start_s + random.uniform(2, 8) * 3600


def incidents(scenario: FreewayScenario, day: int) -> list[Incident]:
    """The blockages of one day, more likely when traffic is dense; 10 to 45 minutes on one lane, 10 to 15 on more."""
    random = scenario.stream(day, "incidents")
    minute = np.arange(1440)
    chance = daily_shape(minute / 60, scenario.date(day).weekday()) ** 1.5
    usual = daily_shape(minute / 60, 0) ** 1.5
    num_incidents = random.poisson(scenario.incidents_per_day * chance.sum() / usual.sum())
    found = []
    for start_min in sorted(random.choice(minute, num_incidents, p=chance / chance.sum())):
        lanes_blocked = 2 if scenario.num_lanes > 1 and random.random() < 0.15 else 1
        lasts_s = int(60 * (random.uniform(10, 45) if lanes_blocked == 1 else random.uniform(10, 15)))
        position_km = round(random.uniform(0.05, 0.97) * scenario.length_km, 2)
        lane = 0 if lanes_blocked == 2 else int(random.integers(scenario.num_lanes))
        found.append(Incident(int(start_min) * 60, int(start_min) * 60 + lasts_s, position_km, lane, lanes_blocked))
    return found


def trips(scenario: FreewayScenario, day: int) -> Trips:
    """Every vehicle of the day: Poisson arrivals at the demanded rate, and at each exit the same chance of leaving."""
    random = scenario.stream(day, "trips")
    rate_vph = demand_vph(scenario, day)
    num_warm = len(rate_vph) - 86_400 // SLOT_S
    counts = random.poisson(rate_vph * SLOT_S / 3600)  # [slots, entrances]
    slot, entrance = np.repeat(np.indices(counts.shape).reshape(2, -1), counts.ravel(), axis=1)
    depart_s = np.round((slot - num_warm + random.random(len(slot))) * SLOT_S, 1)
    share = np.clip(scenario.exit_share * np.exp(random.normal(0, 0.1, scenario.num_interchanges)), 0, 1)
    leaves = random.random((len(slot), scenario.num_interchanges)) < share
    leaves &= np.arange(scenario.num_interchanges) >= entrance[:, None]  # ramp i enters after exit i - 1
    leaves = np.column_stack([leaves, np.ones(len(slot), bool)])
    spell = rain_spell_s(scenario, day)
    wet = (depart_s >= spell[0]) & (depart_s < spell[1]) if spell else np.zeros(len(slot), bool)
    weekend_ease = 0.3 if scenario.date(day).weekday() >= 5 else 1.0
    truck = random.random(len(slot)) < scenario.truck_share * weekend_ease
    order = np.argsort(depart_s, kind="stable")
    return Trips(depart_s[order], entrance[order], leaves.argmax(axis=1)[order], truck[order], wet[order])
