"""Simulated towns with cars that report their position, through SUMO (the extra `sim`).

Each town is a process and a part file of its own, put in place by a rename: a kill loses the towns under way and a
rerun goes on behind them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq

from infra.sumo_city_scenario import MAJOR_KMH, MINOR_KMH, CityScenario, Floats, Town, scenario_of, town_of, trips_of
from infra.sumo_city_sensors import Sensors, read_sensors
from infra.sumo_tools import in_parallel, run

DRIVES, ROADS = "city_drives.parquet", "city_roads.parquet"
CAR_M = 5.0
LONGEST_STEP_M = 40.0  # in a second: further is a car that SUMO has moved out of a jam, not one that drove


def write_network(town: Town, folder: Path) -> Path:
    """Nodes and edges, compiled by netconvert; street s is driven as edges s*2 and s*2+1."""
    nodes = [
        f'<node id="{i}" x="{x:.2f}" y="{y:.2f}" type="{"traffic_light" if signal else "priority"}"/>'
        for i, ((x, y), signal) in enumerate(zip(town.junctions_m, town.has_signal, strict=True))
    ]
    edges = []
    for street, (pair, is_major) in enumerate(zip(town.streets, town.is_major, strict=True)):
        lanes, kmh, priority = (2, MAJOR_KMH, 3) if is_major else (1, MINOR_KMH, 1)
        edges += [
            f'<edge id="{street * 2 + way}" from="{a}" to="{b}" numLanes="{lanes}" speed="{kmh / 3.6:.3f}" '
            f'priority="{priority}"/>'
            for way, (a, b) in enumerate((pair, pair[::-1]))
        ]
    options = []
    for name, rows in {"node": nodes, "edge": edges}.items():
        path = folder / f"town.{name}.xml"
        path.write_text(f"<{name}s>\n" + "\n".join(rows) + f"\n</{name}s>\n")
        options += [f"--{name}-files", str(path)]
    network = folder / "town.net.xml"
    # Coordinates stay as drawn: the fixes and the road map must share them.
    quiet = ["--no-turnarounds.except-deadend", "--no-warnings", "--offset.disable-normalization"]
    run("netconvert", *options, *quiet, "--xml-validation", "never", "--output-file", str(network))
    return network


def _write_trips(scenario: CityScenario, number: int, town: Town, folder: Path) -> Path:
    """The trips of one town; SUMO finds their way as they set out. A car that reports is named r0, r1, …"""
    trips = trips_of(scenario, number, town)
    rows, num_reports = [], 0
    for car, depart_s in enumerate(trips.depart_s):
        name, device = f"c{car}", ""
        if trips.reports[car]:
            name, device = f"r{num_reports}", '<param key="has.fcd.device" value="true"/>'
            num_reports += 1
        rows.append(
            f'<trip id="{name}" type="car" depart="{depart_s}" from="{trips.start[car]}" to="{trips.end[car]}" '
            f'departLane="best" departSpeed="0" departPos="random">{device}</trip>'
        )
    kind = f'<vType id="car" length="{CAR_M}" sigma="0.5" speedFactor="normc(1.0,0.1,0.7,1.3)"/>'
    path = folder / "trips.rou.xml"
    path.write_text("\n".join(["<routes>", kind, *rows, "</routes>"]))
    return path


def _drives(scenario: CityScenario, number: int, seconds: pl.DataFrame) -> pl.DataFrame:
    """The first `drives_per_town` whole drives among the reporting cars, with what their sensors read."""
    random, sensors = scenario.stream(number, "sensors"), Sensors()
    frames: list[pl.DataFrame] = []
    by_car = seconds.sort("car", "time_s").partition_by("car", as_dict=True)
    for key in sorted(by_car):
        one = by_car[key].head(scenario.longest_drive_s)
        if len(frames) == scenario.drives_per_town:
            break
        heading = 90 - one["angle"].to_numpy().astype(float)
        true_m = _middles(one.select("x", "y").to_numpy().astype(float), heading)
        step_m = np.linalg.norm(np.diff(true_m, axis=0, prepend=true_m[:1]), axis=1)
        if len(one) < scenario.least_drive_s or step_m.max() > LONGEST_STEP_M:
            continue
        at = np.arange(0, len(one), scenario.cadence_s)
        driven_m = np.diff(step_m.cumsum()[at], prepend=0.0)
        read = read_sensors(random, sensors, scenario.cadence_s, true_m[at], heading[at], driven_m)
        frames.append(pl.DataFrame({
            "drive": np.full(len(at), number * 10_000 + len(frames)),
            "time_s": at,
            "fix_x_dm": read.fix_m[:, 0] * 10, "fix_y_dm": read.fix_m[:, 1] * 10,
            "course_deg": read.course_deg, "speed_dmps": read.speed_mps * 10, "turn_ddps": read.turn_dps * 10,
            "true_x_dm": true_m[at, 0] * 10, "true_y_dm": true_m[at, 1] * 10,
        }))  # fmt: skip
    return pl.concat(frames).with_columns(pl.col(pl.Float64).fill_nan(None).round(0)).select(pl.all().cast(pl.Int32))


def _middles(fronts_m: Floats, heading_deg: Floats) -> Floats:
    """The middles of the cars, where the receiver sits: SUMO tells where their front bumpers are."""
    angle = np.radians(heading_deg)
    return fronts_m - CAR_M / 2 * np.stack([np.cos(angle), np.sin(angle)], 1)


def _roads(number: int, town: Town) -> pl.DataFrame:
    """The middle line of every street."""
    ends = np.round(town.junctions_m[town.streets] * 10).astype(np.int32)  # [S, 2, 2]
    columns = {"x1_dm": ends[:, 0, 0], "y1_dm": ends[:, 0, 1], "x2_dm": ends[:, 1, 0], "y2_dm": ends[:, 1, 1]}
    num_lanes = np.where(town.is_major, 4, 2).astype(np.int32)
    return pl.DataFrame({"town": np.full(len(ends), number, np.int32), **columns, "num_lanes": num_lanes})


def simulate_town(scenario: CityScenario, number: int, work_folder: Path) -> Path:
    """Simulate one town unless its part is there. Returns the part: drives, fixes and true positions."""
    part = work_folder / f"town-{number:03d}-{scenario.fingerprint()}.parquet"
    if part.exists():
        return part
    work_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=work_folder) as name:
        folder, town = Path(name), town_of(scenario, number)
        seconds = folder / "seconds.parquet"
        run(
            "sumo", "--net-file", str(write_network(town, folder)),
            "--route-files", str(_write_trips(scenario, number, town, folder)),
            "--fcd-output", str(seconds), "--fcd-output.attributes", "x,y,angle", "--fcd-output.skip-empty",
            "--end", str(scenario.minutes * 60), "--seed", str(scenario.seed * 1000 + number),
            "--time-to-teleport", "240", "--lanechange.duration", "3", "--ignore-route-errors",
            "--no-step-log", "--no-warnings", "--xml-validation", "never",
        )  # fmt: skip
        finished = folder / "part.parquet"
        _drives(scenario, number, _read_seconds(seconds)).write_parquet(finished)
        finished.replace(part)
    return part


def _read_seconds(path: Path) -> pl.DataFrame:
    """SUMO's table under names of ours: time_s, car, x, y, angle (clockwise from north)."""
    names = {
        "timestep_time": "time_s",
        "vehicle_id": "car",
        "vehicle_x": "x",
        "vehicle_y": "y",
        "vehicle_angle": "angle",
    }
    return pl.read_parquet(path).rename(names)


def _write(frame: pl.DataFrame, target: Path) -> None:
    """Sorted whole numbers, each stored as the difference from the one before: a third of the size."""
    scratch = target.with_suffix(".tmp")
    encoding = dict.fromkeys(frame.columns, "DELTA_BINARY_PACKED")
    pq.write_table(
        frame.to_arrow(),
        scratch,
        compression="zstd",
        compression_level=19,
        use_dictionary=False,
        column_encoding=encoding,
    )
    scratch.replace(target)


def generate(scenario: Mapping[str, Any], folder: Path, num_processes: int) -> Iterator[tuple[int, int]]:
    """Simulate every town and write `city_drives.parquet` and `city_roads.parquet` into `folder`; yields progress.

    A part that is already there is not simulated again. Raises ValueError for an unknown setting and RuntimeError when
    SUMO is missing or fails.
    """
    city, parts = scenario_of(scenario), []
    towns = list(range(city.num_towns))
    for part in in_parallel(lambda town: simulate_town(city, town, folder), towns, num_processes):
        parts.append(part)
        yield len(parts), len(towns)
    _write(pl.concat([_roads(town, town_of(city, town)) for town in towns]), folder / ROADS)
    _write(pl.concat([pl.read_parquet(part) for part in sorted(parts)]), folder / DRIVES)
