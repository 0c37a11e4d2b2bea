"""A freeway by the cell transmission model (Daganzo, Transportation Research B 28, 1994), many days side by side.

Twelve kilometres, three lanes, an on-ramp that makes the jams, rain, incidents, demand that differs from day to day.
Every day begins with an empty road at midnight, so all days are one array [D, cells] and a year takes seconds. This
is a macroscopic model of our own in numpy and not SUMO: no single vehicles, no lane changes, the capacity drop and the
speed-flow slope are put in by hand. Detectors count with the noise of counting and measure speed with 1.5 km/h. Beside
a closed lane two pass 1 500 vehicles an hour each (Dudek and Richards, Transportation Research Record 869, 1982).
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from models.data.series import Series

CELLS, CELL_KM, STEP_S, LANES = 24, 0.5, 15.0, 3
FREE_KMH, WAVE_KMH, JAM_PER_KM = 100.0, 20.0, 130.0 * LANES
CAPACITY = JAM_PER_KM * FREE_KMH * WAVE_KMH / (FREE_KMH + WAVE_KMH)  # veh/h
BESIDE_A_CLOSED_LANE = 2 * 1500 / CAPACITY
RAMP, SLOTS = 14, 96
STEPS_PER_SLOT = round(900 / STEP_S)
SENSORS = tuple(range(1, CELLS, 2))
FIRST_DAY = np.datetime64("2024-01-01")  # a Monday

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Days:
    """What makes days differ: demand (D, 96) veh/h, capacity and free speed factors (D, 96), incidents, noise.

    incident: (D, 4) cell, first slot, last slot, share of the capacity that is left
    closed_from, doubled_from: (D,) slot from which a lane is closed or demand is doubled; 96: not that day
    """

    demand: Array
    capacity: Array
    free: Array
    incident: Array
    closed_from: NDArray[np.int64]
    doubled_from: NDArray[np.int64]
    noise: NDArray[np.float64]  # (D, 96, N, 2) standard normal

    def of(self, rows: NDArray[np.int64]) -> "Days":
        """These days, in this order."""
        return Days(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def shifted(
        self, closed_from: NDArray[np.int64] | None = None, doubled_from: NDArray[np.int64] | None = None
    ) -> "Days":
        """The same days with a lane closed or demand doubled."""
        return replace(
            self,
            closed_from=self.closed_from if closed_from is None else closed_from,
            doubled_from=self.doubled_from if doubled_from is None else doubled_from,
        )


def draw(num_days: int, seed: int) -> Days:
    """Stationary days: the same week again and again, with what changes from one to the next drawn anew."""
    random = np.random.default_rng(seed)
    slot, weekday = np.arange(SLOTS), np.arange(num_days) % 7
    shapes = np.stack([_profile(slot, kind) for kind in (0, 0, 0, 0, 1, 2, 3)])
    level = np.zeros(num_days)
    for day in range(1, num_days):
        level[day] = 0.3 * level[day - 1] + random.normal(0, 0.04)
    within = np.zeros((num_days, SLOTS))
    for one in range(1, SLOTS):
        within[:, one] = 0.8 * within[:, one - 1] + random.normal(0, 0.03, num_days)
    rains = random.random(num_days) < 0.25
    begins, lasts = random.integers(0, 80, num_days), random.integers(8, 33, num_days)
    is_wet = rains[:, None] & (slot >= begins[:, None]) & (slot < (begins + lasts)[:, None])
    happens = random.random(num_days) < 1 / 7
    first = random.integers(24, 80, num_days)
    incident = np.stack([random.integers(4, CELLS - 2, num_days), np.where(happens, first, SLOTS),
                         first + random.integers(2, 6, num_days), np.full(num_days, 0.5)], axis=1)  # fmt: skip
    never = np.full(num_days, SLOTS)
    return Days(
        1.14 * shapes[weekday] * np.exp(level[:, None] + within),
        np.where(is_wet, 0.92, 1.0), np.where(is_wet, 0.94, 1.0),
        incident.astype(np.float64), never, never, random.standard_normal((num_days, SLOTS, len(SENSORS), 2)),
    )  # fmt: skip


def _profile(slot: NDArray[np.int64], kind: int) -> Array:
    """Demand of a workday, a Friday, a Saturday, a Sunday: veh/h on the main road."""

    def bump(at: float, width: float) -> Array:
        return np.asarray(np.exp(-(((slot - 4 * at) / (4 * width)) ** 2)))

    night = 350 + 1500 / (1 + np.exp(-(slot - 24) / 3.0)) * (1 / (1 + np.exp((slot - 84) / 4.0)))
    morning, evening, midday = ((2700, 2500, 500), (2300, 2750, 900), (300, 900, 1900), (150, 1500, 1700))[kind]
    return np.asarray(night + morning * bump(7.8, 1.3) + evening * bump(17.0, 1.7) + midday * bump(13, 3))


def simulate(days: Days) -> NDArray[np.float32]:
    """What the detectors saw: (D, 96, N, 2), flow in veh/h and speed in km/h by 15 minutes."""
    num_days = len(days.demand)
    density, queue = np.full((num_days, CELLS), 5.0), np.zeros(num_days)
    seen = np.zeros((num_days, SLOTS, len(SENSORS), 2))
    for slot in range(SLOTS):
        flow, speed = np.zeros((num_days, len(SENSORS))), np.zeros((num_days, len(SENSORS)))
        demand = days.demand[:, slot] * np.where(slot >= days.doubled_from, 2.0, 1.0)
        capacity, free = _road(days, slot)
        for _ in range(STEPS_PER_SLOT):
            density, queue, through = _step(density, queue, demand, capacity, free)
            at = through[:, list(SENSORS)]
            flow += at
            speed += at / np.maximum(density[:, list(SENSORS)], 1.0)
        seen[:, slot, :, 0], seen[:, slot, :, 1] = flow / STEPS_PER_SLOT, speed / STEPS_PER_SLOT
    slope = 1 - 0.12 * (seen[..., 0] / CAPACITY).clip(0, 1)  # vehicles slow down before they jam
    speed = np.minimum(seen[..., 1], FREE_KMH) * slope
    noisy = np.stack([seen[..., 0] + 2 * np.sqrt(np.maximum(seen[..., 0], 1)) * days.noise[..., 0],
                      speed + 1.5 * days.noise[..., 1]], axis=-1)  # fmt: skip
    return np.maximum(noisy, 0).astype(np.float32)


def _road(days: Days, slot: int) -> tuple[Array, Array]:
    """Capacity (D, cells) in veh/h and free speed (D, 1) at a slot."""
    capacity = np.repeat(CAPACITY * days.capacity[:, slot, None], CELLS, axis=1)
    cell, first, last, left = days.incident.T
    rows = np.flatnonzero((slot >= first) & (slot <= last))
    capacity[rows, cell[rows].astype(np.int64)] *= left[rows]
    capacity[slot >= days.closed_from, CELLS // 2] *= BESIDE_A_CLOSED_LANE
    return capacity, FREE_KMH * days.free[:, slot, None]


def _step(density: Array, queue: Array, demand: Array, capacity: Array, free: Array) -> tuple[Array, Array, Array]:
    """Fifteen seconds: what can be sent and what can be received decide, cell by cell. Returns the flow out of each."""
    hours = STEP_S / 3600
    jammed = density > CAPACITY / FREE_KMH
    sends = np.minimum(density * free, np.where(jammed, 0.95, 1.0) * capacity)  # a queue discharges 5 % less
    takes = np.minimum(capacity, WAVE_KMH * (JAM_PER_KM - density))
    ramp = np.minimum(0.3 * demand, 0.5 * takes[:, RAMP])
    takes[:, RAMP] -= ramp
    out = np.concatenate([np.minimum(sends[:, :-1], takes[:, 1:]), sends[:, -1:]], axis=1)
    enters = np.minimum(demand + queue / hours, takes[:, 0])
    inflow = np.concatenate([enters[:, None], out[:, :-1]], axis=1)
    inflow[:, RAMP] += ramp
    return np.maximum(density + hours / CELL_KM * (inflow - out), 0.0), queue + hours * (demand - enters), out


def series(readings: NDArray[np.float32], first_day: int = 0) -> Series:
    """The readings (D, 96, N, 2) of days on end as a series of a snapshot."""
    values = readings.reshape(-1, *readings.shape[2:])
    start = (FIRST_DAY + np.timedelta64(first_day, "D")).astype("datetime64[us]")
    time = start + np.arange(len(values)) * np.timedelta64(15, "m")
    nodes = tuple(f"km{cell * CELL_KM:g}" for cell in SENSORS)
    return Series(time, values, nodes, ("flow_vph", "speed_kmh"), ("veh/h", "km/h"), 15.0)
