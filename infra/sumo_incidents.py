"""Simulated rush hours on a short freeway, every minute, with and without incidents.

Every run is two hours of a weekday's rush, morning and evening in turn. In every third run the second merge jams by
itself, so slow traffic alone is no evidence. Incidents are drawn where and when traffic is moderate to dense: loops
cannot see a car that stands on an empty road.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from infra.sumo import put_in_place, traffic
from infra.sumo_scenario import FreewayScenario, Incident, station_positions_km
from infra.sumo_tools import in_parallel

TRAFFIC, INCIDENTS = "incident_traffic.parquet", "incident_list.parquet"
MORNING, EVENING = (7, 9), (16, 18)
FIRST_ONSET_MIN = (15.0, 30.0)
LAST_ONSET_MIN = 105.0  # of the 120 minutes of a run
LASTS_MIN = {1: (6.0, 14.0), 2: (4.0, 7.0)}  # by blocked lanes
RECOVERY_MIN = (15.0, 25.0)  # from the clearing of one incident to the onset of the next
QUIET_EVERY = 4  # the last of so many runs has no incident
TWO_LANES_SHARE = 0.15
DEMAND = (0.65, 0.95)  # a factor for the whole run: moderate to dense
JAMMED_EVERY = 3  # the last of so many runs is so dense that the second merge jams by itself
JAMMED_DEMAND = (0.88, 0.98)
RAMP_PEAK_VPH = {False: 750.0, True: 900.0}  # by whether it is such a run


@dataclass(frozen=True)
class IncidentsScenario:
    """`num_runs` runs of two hours of a weekday's rush on `num_stations` stations of a road of `length_km`."""

    seed: int = 1
    num_runs: int = 12
    num_stations: int = 10
    length_km: float = 5.0

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise ValueError(f"seed: expected 0 or more, got {self.seed}")
        if min(self.num_runs, self.num_stations - 1) < 1 or self.length_km < 5:
            raise ValueError("expected num_runs of at least 1, num_stations of 2 and length_km of 5")

    def freeway(self, run: int) -> FreewayScenario:
        """The road and its demand; weekdays only, morning and evening in turn."""
        jammed = run % JAMMED_EVERY == JAMMED_EVERY - 1
        factor = np.random.default_rng([self.seed, run]).uniform(*(JAMMED_DEMAND if jammed else DEMAND))
        return FreewayScenario(
            num_days=1,
            num_stations=self.num_stations,
            seed=self.seed,
            cadence_min=1,
            hours=EVENING if run % 2 else MORNING,
            warm_up_min=15,
            length_km=self.length_km,
            num_interchanges=2,
            entry_peak_vph=round(2900 * factor, 1),
            ramp_peak_vph=round(RAMP_PEAK_VPH[jammed] * factor, 1),
            incidents_per_day=0.0,
        )


def day_of(run: int) -> int:
    """The weekday, counted from a Monday, on which this run takes place."""
    return run // 5 * 7 + run % 5


def draw(scenario: IncidentsScenario, run: int) -> list[Incident]:
    """The incidents of one run, one after the other, between the first and the last station."""
    if run % QUIET_EVERY == QUIET_EVERY - 1:
        return []
    freeway = scenario.freeway(run)
    random = freeway.stream(day_of(run), "runs")
    stations_km = station_positions_km(freeway)
    found, minute = [], random.uniform(*FIRST_ONSET_MIN)
    while minute < LAST_ONSET_MIN:
        num_lanes = 2 if random.random() < TWO_LANES_SHARE else 1
        lasts_min = random.uniform(*LASTS_MIN[num_lanes])
        start_s = int(freeway.hours[0] * 3600 + minute * 60)
        position_km = round(random.uniform(stations_km[0] + 0.03, stations_km[-1] - 0.03), 2)
        lane = 0 if num_lanes == 2 else int(random.integers(freeway.num_lanes))
        found.append(Incident(start_s, start_s + int(lasts_min * 60), position_km, lane, num_lanes))
        minute += lasts_min + random.uniform(*RECOVERY_MIN)
    return found


def _simulate(scenario: IncidentsScenario, work: Path, run: int) -> Path:
    part = work / f"run-{run:03d}.parquet"
    if not part.exists():
        put_in_place(partial(traffic, scenario.freeway(run), day_of(run), draw(scenario, run)), part)
    return part


def generate(scenario: Mapping[str, Any], folder: Path, num_processes: int) -> Iterator[tuple[int, int]]:
    """Simulate all runs into `folder`, parts first; yields (done, total) after each. A rerun goes on behind a kill.

    Writes `incident_traffic.parquet` (run, minute, station, speed_kmh, flow_vph, occupancy_pct) and
    `incident_list.parquet` (run, incident, onset_min, cleared_min, segment, position_km, lanes_blocked).
    """
    wanted = IncidentsScenario(**{name: value for name, value in scenario.items() if name != "kind"})
    work = folder / "parts"
    runs = list(range(wanted.num_runs))
    for done, _ in enumerate(in_parallel(partial(_simulate, wanted, work), runs, num_processes), start=1):
        yield done, wanted.num_runs
    put_in_place(partial(_collected, wanted, work), folder / TRAFFIC)
    put_in_place(partial(_listed, wanted), folder / INCIDENTS)


def _collected(scenario: IncidentsScenario, work: Path, _: Path) -> pl.DataFrame:
    """All runs in one frame; minutes count from the start of the run."""
    parts = []
    for run in range(scenario.num_runs):
        since = pl.col("time") - pl.col("time").min()
        parts.append(
            pl.read_parquet(work / f"run-{run:03d}.parquet").select(
                pl.lit(run, pl.Int32).alias("run"),
                since.dt.total_minutes().cast(pl.Int32).alias("minute"),
                pl.col("station", "speed_kmh", "flow_vph", "occupancy_pct"),
            )
        )
    return pl.concat(parts).sort("run", "station", "minute")


def _listed(scenario: IncidentsScenario, _: Path) -> pl.DataFrame:
    """Every incident of every run; `segment` is the number of the station before it, from 0."""
    rows: list[tuple[float, ...]] = []
    for run in range(scenario.num_runs):
        freeway = scenario.freeway(run)
        stations_km, zero_s = np.array(station_positions_km(freeway)), freeway.hours[0] * 3600
        for one in draw(scenario, run):
            segment = int(np.searchsorted(stations_km, one.position_km)) - 1
            minutes = (one.start_s - zero_s) / 60, (one.end_s - zero_s) / 60
            rows.append((run, len(rows), *minutes, segment, one.position_km, one.lanes_blocked))
    names = ("run", "incident", "onset_min", "cleared_min", "segment", "position_km", "lanes_blocked")
    kinds = (pl.Int32, pl.Int32, pl.Float32, pl.Float32, pl.Int32, pl.Float32, pl.Int32)
    return pl.DataFrame(rows, schema=dict(zip(names, kinds, strict=True)), orient="row")
