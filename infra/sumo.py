"""Simulated freeway traffic, microscopic and seeded, through SUMO (the extra `sim`).

Real loop data with shockwaves cannot be shipped freely, so the freeway data set is made here. Each day is a process
and a part file of its own, put in place by a rename: a kill loses the days under way and a rerun goes on behind them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from infra.sumo_scenario import (
    FreewayScenario,
    Incident,
    Section,
    incidents,
    sections,
    station_positions_km,
    trips,
)
from infra.sumo_tools import in_parallel, run

RAMP_M = 500.0
RAMP_SPEED_KMH = 80.0
LENGTH_OF_CAR_M = 4.5
# Time headways above SUMO's default of 1 s give the capacity of a real lane, about 1 900 vehicles an hour.
VEHICLE_TYPES = """
<vType id="car" length="4.5" tau="1.25" sigma="0.5" accel="2.2" decel="4.5" speedFactor="normc(1.02,0.07,0.75,1.3)"/>
<vType id="car-wet" length="4.5" tau="1.4" sigma="0.55" accel="2.0" decel="4" speedFactor="normc(0.9,0.07,0.65,1.2)"/>
<vType id="truck" vClass="truck" length="14" maxSpeed="25" tau="1.6" sigma="0.5" accel="1.0" decel="4"
  speedFactor="normc(0.95,0.05,0.8,1.05)"/>
<vType id="truck-wet" vClass="truck" length="14" maxSpeed="22.5" tau="1.8" sigma="0.55" accel="0.9" decel="3.6"
  speedFactor="normc(0.9,0.05,0.75,1.0)"/>
<vType id="blocker" length="4.5"/>
"""


def _locate(road: list[Section], position_km: float, margin_m: float) -> tuple[Section, float]:
    """The section at `position_km`, and the metres from its start, at least `margin_m` off its ends."""
    position_m = position_km * 1000
    section = next(part for part in road if part.start_m <= position_m <= part.end_m)
    length_m = section.end_m - section.start_m
    return section, round(min(max(position_m - section.start_m, margin_m), length_m - margin_m), 1)


def _ramps(road: list[Section], kind: str) -> list[int]:
    return [index for index, section in enumerate(road) if section.kind == kind]


def write_network(scenario: FreewayScenario, folder: Path) -> Path:
    """Nodes, edges and lane-to-lane connections, compiled by netconvert."""
    road, speed, ramp_speed = sections(scenario), scenario.speed_limit_kmh / 3.6, RAMP_SPEED_KMH / 3.6
    nodes = [f'<node id="n{i}" x="{s.start_m}" y="0"/>' for i, s in enumerate(road)]
    nodes.append(f'<node id="n{len(road)}" x="{road[-1].end_m}" y="0"/>')
    edges, joins = [], []
    for i, section in enumerate(road):
        merging = '<lane index="0" acceleration="1"/>' if section.kind == "entry" else ""
        length_m = section.end_m - section.start_m
        edges.append(
            f'<edge id="{section.name}" from="n{i}" to="n{i + 1}" numLanes="{section.num_lanes}" speed="{speed:.3f}" '
            f'length="{length_m:.2f}" priority="9">{merging}</edge>'
        )
    for before, after in pairwise(road):
        shift_from, shift_to = before.kind != "main", after.kind != "main"
        lanes = [(lane + shift_from, lane + shift_to) for lane in range(scenario.num_lanes)]
        lanes += [(0, 0)] if after.kind == "exit" else []
        joins += [(before.name, after.name, *pair) for pair in lanes]
    for ramp, i in enumerate(_ramps(road, "exit")):
        nodes.append(f'<node id="x{ramp}" x="{road[i].end_m + RAMP_M}" y="-120"/>')
        edges.append(f'<edge id="off{ramp}" from="n{i + 1}" to="x{ramp}" numLanes="1" speed="{ramp_speed:.3f}"/>')
        joins.append((road[i].name, f"off{ramp}", 0, 0))
    for ramp, i in enumerate(_ramps(road, "entry")):
        nodes.append(f'<node id="e{ramp}" x="{road[i].start_m - RAMP_M}" y="-120"/>')
        edges.append(f'<edge id="on{ramp}" from="e{ramp}" to="n{i}" numLanes="1" speed="{ramp_speed:.3f}"/>')
        joins.append((f"on{ramp}", road[i].name, 0, 0))
    connections = [f'<connection from="{a}" to="{b}" fromLane="{m}" toLane="{n}"/>' for a, b, m, n in joins]
    options = []
    for name, rows in {"node": nodes, "edge": edges, "connection": connections}.items():
        path = folder / f"freeway.{name}.xml"
        path.write_text(f"<{name}s>\n" + "\n".join(rows) + f"\n</{name}s>\n")
        options += [f"--{name}-files", str(path)]
    network = folder / "freeway.net.xml"
    quiet = ["--no-internal-links", "--no-turnarounds", "--no-warnings", "--xml-validation", "never"]
    run("netconvert", *options, *quiet, "--output-file", str(network))
    return network


def _routes(scenario: FreewayScenario) -> dict[tuple[int, int], str]:
    """The edges from every entrance to every exit behind it; see `Trips` for their numbers."""
    road = sections(scenario)
    off, on = _ramps(road, "exit"), _ramps(road, "entry")
    starts = [(0, ""), *((i, f"on{ramp} ") for ramp, i in enumerate(on))]
    ends = [*((i, f" off{ramp}") for ramp, i in enumerate(off)), (len(road) - 1, "")]
    return {
        (a, b): first + " ".join(section.name for section in road[start : end + 1]) + last
        for a, (start, first) in enumerate(starts)
        for b, (end, last) in enumerate(ends)
        if start <= end
    }


def _blockers(scenario: FreewayScenario, incident: Incident, zero_s: float) -> list[tuple[float, str]]:
    """Vehicles that appear on the lane and stand there until the incident is cleared."""
    section, at_m = _locate(sections(scenario), incident.position_km, 30.0)
    rows = []
    for lane in range(incident.lane, incident.lane + incident.lanes_blocked):
        lane += section.num_lanes - scenario.num_lanes  # an extra lane lies on the right
        start_s = incident.start_s - zero_s
        rows.append((start_s, (
            f'<vehicle id="blocker-{incident.start_s}-{lane}" type="blocker" depart="{start_s}" departLane="{lane}" '
            f'departPos="{at_m}" departSpeed="0" insertionChecks="none"><route edges="{section.name}"/>'
            f'<stop lane="{section.name}_{lane}" endPos="{at_m}" until="{incident.end_s - zero_s}"/></vehicle>'
        )))  # fmt: skip
    return rows


def _write_traffic(scenario: FreewayScenario, day: int, blockages: list[Incident], zero_s: float, folder: Path) -> Path:
    """The route file of one day; simulated time counts from `zero_s`."""
    day_trips, last_s = trips(scenario, day), scenario.hours[1] * 3600
    rows = [row for incident in blockages for row in _blockers(scenario, incident, zero_s)]
    names = np.array(["car", "car-wet", "truck", "truck-wet"])[2 * day_trips.truck + day_trips.wet]
    for number, depart_s in enumerate(day_trips.depart_s):
        route = f"{day_trips.entrance[number]}-{day_trips.exit[number]}"
        rows.append((depart_s - zero_s, (
            f'<vehicle id="{number}" type="{names[number]}" route="{route}" depart="{depart_s - zero_s:.1f}" '
            'departLane="best" departSpeed="max"/>'
        )))  # fmt: skip
    rows = [row for row in sorted(rows) if 0 <= row[0] < last_s - zero_s]
    routes = [f'<route id="{a}-{b}" edges="{edges}"/>' for (a, b), edges in _routes(scenario).items()]
    path = folder / "traffic.rou.xml"
    path.write_text("\n".join(["<routes>", VEHICLE_TYPES, *routes, *(text for _, text in rows), "</routes>"]))
    return path


def _write_loops(scenario: FreewayScenario, folder: Path) -> Path:
    """One induction loop on every lane of every station, all into one file."""
    rows, road = [], sections(scenario)
    for number, position_km in enumerate(station_positions_km(scenario), start=1):
        section, at_m = _locate(road, position_km, 5.0)
        rows += [
            f'<inductionLoop id="S{number:02d}_{lane}" lane="{section.name}_{lane}" pos="{at_m}" '
            f'period="{scenario.cadence_min * 60}" file="loops.csv"/>'
            for lane in range(section.num_lanes)
        ]
    path = folder / "loops.add.xml"
    path.write_text("<additional>\n" + "\n".join(rows) + "\n</additional>\n")
    return path


def _read_loops(scenario: FreewayScenario, day: int, zero_s: float, path: Path) -> pl.DataFrame:
    """Lanes joined into stations: speed weighted by vehicles, flow summed, occupancy averaged."""
    midnight = scenario.date(day) + timedelta(seconds=zero_s)
    count, speed = pl.col("interval_nVehContrib"), pl.col("interval_speed")
    return (
        pl.read_csv(path, separator=";")
        .with_columns(
            (pl.lit(midnight) + pl.duration(seconds=pl.col("interval_begin"))).cast(pl.Datetime("us")).alias("time"),
            pl.col("interval_id").str.split("_").list.first().alias("station"),
        )
        .filter(pl.col("time") >= scenario.date(day) + timedelta(hours=scenario.hours[0]))
        .group_by("time", "station")
        .agg(
            pl.when(count.sum() > 0).then((count * speed).sum() / count.sum() * 3.6).round(1).alias("speed_kmh"),
            (count.sum() * (60 // scenario.cadence_min)).alias("flow_vph"),
            pl.col("interval_occupancy").mean().round(1).alias("occupancy_pct"),
        )
        .with_columns(pl.col("speed_kmh", "flow_vph", "occupancy_pct").cast(pl.Float32))
        .sort("time", "station")
    )


def part_path(scenario: FreewayScenario, day: int, work_folder: Path) -> Path:
    """Where a finished day lies; the name changes with the scenario, so parts of another one are never mixed in."""
    return work_folder / f"day-{day:03d}-{scenario.fingerprint()}.parquet"


def simulate_day(scenario: FreewayScenario, day: int, work_folder: Path) -> Path:
    """Simulate one day unless its part is there. Returns the part: time, station, speed, flow, occupancy."""
    part = part_path(scenario, day, work_folder)
    if part.exists():
        return part
    return put_in_place(partial(traffic, scenario, day, incidents(scenario, day)), part)


def put_in_place(make: Callable[[Path], pl.DataFrame], part: Path) -> Path:
    """Write what `make` returns, worked out in a folder that vanishes, as the file `part`: whole or not at all."""
    part.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=part.parent) as name:
        finished = Path(name) / "part.parquet"
        make(Path(name)).write_parquet(finished, compression="zstd", compression_level=19)
        finished.replace(part)
    return part


def traffic(scenario: FreewayScenario, day: int, blockages: list[Incident], folder: Path) -> pl.DataFrame:
    """Drive one day's trips past these blockages, in `folder`: time, station, speed, flow, occupancy."""
    zero_s = scenario.hours[0] * 3600 - scenario.warm_up_min * 60
    run(
        "sumo", "--net-file", str(write_network(scenario, folder)),
        "--route-files", str(_write_traffic(scenario, day, blockages, zero_s, folder)),
        "--additional-files", str(_write_loops(scenario, folder)),
        "--end", str(scenario.hours[1] * 3600 - zero_s), "--seed", str(scenario.seed + day),
        "--step-length", "1", "--extrapolate-departpos", "--collision.action", "none",
        "--time-to-teleport", "300", "--no-step-log", "--no-warnings", "--xml-validation", "never",
    )  # fmt: skip
    return _read_loops(scenario, day, zero_s, folder / "loops.csv")


def generate(scenario: FreewayScenario, work_folder: Path, num_processes: int = 1) -> Iterator[Path]:
    """Simulate all days, `num_processes` at a time, and yield each part as soon as it is in place."""
    yield from in_parallel(
        partial(simulate_day, scenario, work_folder=work_folder), list(range(scenario.num_days)), num_processes
    )


def collect(scenario: FreewayScenario, work_folder: Path, target_folder: Path) -> Path:
    """Join all parts into `freeway.parquet`, beside `freeway_stations.csv` and `freeway_incidents.csv`.

    Raises FileNotFoundError when a day has not been generated.
    """
    parts = [part_path(scenario, day, work_folder) for day in range(scenario.num_days)]
    missing = [part.name for part in parts if not part.exists()]
    if missing:
        raise FileNotFoundError(f"{work_folder}: {len(missing)} of {len(parts)} days missing, run generate: {missing}")
    target_folder.mkdir(parents=True, exist_ok=True)
    road, positions_km = sections(scenario), station_positions_km(scenario)
    pl.DataFrame({
        "station": [f"S{number:02d}" for number in range(1, scenario.num_stations + 1)],
        "position_km": positions_km,
        "num_lanes": [_locate(road, position_km, 5.0)[0].num_lanes for position_km in positions_km],
    }).write_csv(target_folder / "freeway_stations.csv")  # fmt: skip
    rows = [
        (scenario.date(day) + timedelta(seconds=one.start_s), scenario.date(day) + timedelta(seconds=one.end_s),
         one.position_km, one.lanes_blocked)
        for day in range(scenario.num_days) for one in incidents(scenario, day)
    ]  # fmt: skip
    schema = {"start": pl.Datetime, "end": pl.Datetime, "position_km": pl.Float64, "lanes_blocked": pl.Int64}
    listed = pl.DataFrame(rows, schema=schema, orient="row")
    listed.write_csv(target_folder / "freeway_incidents.csv", datetime_format="%Y-%m-%dT%H:%M:%S")
    target = target_folder / "freeway.parquet"
    kinds = [pa.timestamp("us"), pa.string(), pa.float32(), pa.float32(), pa.float32()]
    names = ["time", "station", "speed_kmh", "flow_vph", "occupancy_pct"]
    whole = pl.concat([pl.read_parquet(part) for part in parts]).select(names).to_arrow()
    table = whole.cast(pa.schema(zip(names, kinds, strict=True)))
    pq.write_table(table, target, compression="zstd", compression_level=19)
    return target
