"""Simulated traffic of a city with road works, through SUMO (the extra `sim`).

A day is a process and a part file of its own, put in place by a rename: a kill loses the days under way and a rerun
goes on behind them. Simulated time counts from the beginning of the warm-up.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import polars as pl

from infra.sumo_tools import in_parallel, run
from infra.sumo_works_scenario import SLOT_S, Trip, Works, WorksScenario, announced, trips, works

BLOCKER_FROM_END_M = 30.0  # too near the junction for the queue behind it to fill the other lane again
CRAWL_MPS = {1: 3.0, 2: 4.0}  # past works, by the number of lanes of the street; of two lanes one is closed as well
DRAIN_S = 600  # simulated behind the last hour, so that those who entered in its last slots also leave
TIMES_FILE, STREETS_FILE = "city_travel_times.parquet", "city_streets.csv"
VEHICLE_TYPES = """
<vType id="car" length="4.5" tau="1.2" sigma="0.5" speedFactor="normc(1.0,0.08,0.75,1.25)"/>
<vType id="probe" length="4.5" tau="1.2" sigma="0.5" speedFactor="1.0">
  <param key="has.rerouting.device" value="false"/></vType>
<vType id="blocker" length="4.5"/>
"""


def write_network(scenario: WorksScenario, folder: Path) -> Path:
    """Signalised junctions and streets, compiled by netconvert."""
    city = scenario.city
    nodes = [f'<node id="{name}" x="{x}" y="{y}" type="traffic_light"/>' for name, (x, y) in city.places.items()]
    edges = [
        f'<edge id="{one.name}" from="{one.source}" to="{one.target}" numLanes="{one.num_lanes}" '
        f'speed="{one.speed_mps}" length="{one.length_m}" priority="{one.num_lanes}"/>'
        for one in city.streets.values()
    ]
    options = []
    for name, rows in {"node": nodes, "edge": edges}.items():
        path = folder / f"city.{name}.xml"
        path.write_text(f"<{name}s>\n" + "\n".join(rows) + f"\n</{name}s>\n")
        options += [f"--{name}-files", str(path)]
    network = folder / "city.net.xml"
    quiet = ["--no-internal-links", "--no-turnarounds", "--no-warnings", "--xml-validation", "never"]
    run("netconvert", *options, *quiet, "--tls.cycle.time", "70", "--output-file", str(network))
    return network


def _blocker(scenario: WorksScenario, one: Works) -> str:
    """A vehicle that stands on the closed lane until the works are over."""
    street, begin_s = scenario.city.streets[one.street], one.start_s - scenario.begin_s
    at_m = street.length_m - BLOCKER_FROM_END_M
    return (
        f'<vehicle id="works-{one.street}" type="blocker" depart="{begin_s}" departLane="{one.lane}" '
        f'departPos="{at_m:.1f}" departSpeed="0" insertionChecks="none"><route edges="{one.street}"/>'
        f'<stop lane="{one.street}_{one.lane}" endPos="{at_m:.1f}" until="{one.end_s - scenario.begin_s}"/></vehicle>'
    )


def _vehicle(trip: Trip, begin_s: float) -> str:
    kind = "f" if trip.is_floating else "v"
    return (
        f'<vehicle id="{kind}{trip.number}" type="car" depart="{trip.depart_s - begin_s:.1f}" departLane="best" '
        f'departPos="random_free" departSpeed="max"><route edges="{" ".join(trip.streets)}"/></vehicle>'
    )


def write_traffic(scenario: WorksScenario, day: int, folder: Path) -> Path:
    """The route file of one day: its trips, and a standing vehicle for each closed lane."""
    begin_s, city = scenario.begin_s, scenario.city
    rows = [(trip.depart_s - begin_s, _vehicle(trip, begin_s)) for trip in trips(scenario, day)]
    closed = [one for one in works(scenario, day) if city.streets[one.street].num_lanes > 1]
    rows += [(one.start_s - begin_s, _blocker(scenario, one)) for one in closed]
    path = folder / "traffic.rou.xml"
    path.write_text("\n".join(["<routes>", VEHICLE_TYPES, *(text for _, text in sorted(rows)), "</routes>"]))
    return path


def write_crawls(scenario: WorksScenario, day: int, folder: Path) -> Path:
    """Speed signs for works past works."""
    rows, begin_s = [], scenario.begin_s
    for one in works(scenario, day):
        street = scenario.city.streets[one.street]
        lanes = " ".join(f"{one.street}_{lane}" for lane in range(street.num_lanes))
        rows.append(
            f'<variableSpeedSign id="sign-{one.street}" lanes="{lanes}">'
            f'<step time="{max(0.0, one.start_s - begin_s)}" speed="{CRAWL_MPS[street.num_lanes]}"/>'
            f'<step time="{one.end_s - begin_s}" speed="{street.speed_mps}"/></variableSpeedSign>'
        )
    path = folder / "crawls.add.xml"
    path.write_text("<additional>\n" + "\n".join(rows) + "\n</additional>\n")
    return path


def sumo_options(scenario: WorksScenario, day: int, folder: Path) -> list[str]:
    """What every run of a day is started with, whether to make data or to drive routes."""
    return [
        "--net-file", str(write_network(scenario, folder)),
        "--route-files", str(write_traffic(scenario, day, folder)),
        "--additional-files", str(write_crawls(scenario, day, folder)),
        "--seed", str(scenario.seed * 1000 + day), "--step-length", "1",
        "--collision.action", "none", "--time-to-teleport", "150",
        "--device.rerouting.probability", str(scenario.rerouting_share), "--device.rerouting.period", "180",
        "--no-step-log", "--no-warnings", "--xml-validation", "never",
    ]  # fmt: skip


def _drives(path: Path) -> Iterator[tuple[bool, list[str], list[float]]]:
    """Of each vehicle: whether it is a floating car, its streets, and when it left each of them (negative: never)."""
    for _, element in ElementTree.iterparse(path):  # noqa: S314 - SUMO wrote it just now
        if element.tag == "vehicle" and not element.get("id", "").startswith("works"):
            route = element.findall(".//route")[-1]  # the last one of those that were replaced under way
            left_s = [float(text) for text in route.get("exitTimes", "").split()]
            yield element.get("id", "").startswith("f"), route.get("edges", "").split(), left_s
        if element.tag == "vehicle":
            element.clear()


def _passages(scenario: WorksScenario, path: Path) -> pl.DataFrame:
    """One row for each street that a vehicle drove from end to end: slots of entering and leaving, seconds between."""
    rows = [
        (street, int(entered_s + scenario.begin_s) // SLOT_S, int(left_s + scenario.begin_s) // SLOT_S,
         left_s - entered_s, is_floating)
        for is_floating, streets, times_s in _drives(path)
        for street, entered_s, left_s in zip(streets[1:], times_s[:-1], times_s[1:], strict=True)
        if left_s >= 0
    ]  # fmt: skip
    return pl.DataFrame(rows, schema=["edge", "entered", "left", "seconds", "floating"], orient="row")


def _table(scenario: WorksScenario, day: int, passages: pl.DataFrame) -> pl.DataFrame:
    """Day, slot, edge; what floating cars reported in the slot, what all who entered in it needed, announced works."""
    mean_s = pl.col("seconds").mean().round(1).cast(pl.Float32)
    reported = passages.filter("floating").group_by("edge", pl.col("left").alias("slot"))
    entered = passages.group_by("edge", pl.col("entered").alias("slot"))
    edges, slots = list(scenario.city.streets), scenario.slots
    grid = pl.DataFrame({
        "slot": np.repeat(np.array(slots), len(edges)),
        "edge": edges * len(slots),
        "works": announced(scenario, day, slots).ravel().round(2).astype(np.float32),
    })  # fmt: skip
    return (
        grid.join(reported.agg(mean_s.alias("reported_s")), on=["slot", "edge"], how="left")
        .join(entered.agg(mean_s.alias("time_s"), pl.len().alias("cars")), on=["slot", "edge"], how="left")
        .select(
            pl.lit(day).cast(pl.Int16).alias("day"), pl.col("slot").cast(pl.Int16), "edge",
            "reported_s", "time_s", pl.col("cars").fill_null(0).cast(pl.Int16), "works",
        )
    )  # fmt: skip


def part_path(scenario: WorksScenario, day: int, folder: Path) -> Path:
    """Where a finished day lies; the name changes with the scenario, so parts of another one are never mixed in."""
    return folder / "parts" / f"day-{day:03d}-{scenario.fingerprint()}.parquet"


def simulate_day(scenario: WorksScenario, day: int, folder: Path) -> Path:
    """Simulate one day unless its part is there. Returns the part."""
    part = part_path(scenario, day, folder)
    if part.exists():
        return part
    part.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=part.parent) as name:
        work = Path(name)
        last_s = scenario.hours[1] * 3600 - scenario.begin_s + DRAIN_S
        recorded = ["--vehroute-output", str(work / "drives.xml"), "--vehroute-output.exit-times"]
        run("sumo", *sumo_options(scenario, day, work), *recorded, "--end", str(last_s),
            "--vehroute-output.write-unfinished")  # fmt: skip
        finished = work / "part.parquet"
        _table(scenario, day, _passages(scenario, work / "drives.xml")).write_parquet(finished)
        finished.replace(part)
    return part


def generate(settings: Mapping[str, Any], folder: Path, num_processes: int = 1) -> Iterator[tuple[int, int]]:
    """Simulate all days, `num_processes` at a time; yields (done, all) after each. Its files lie in `folder`.

    `settings` are those of WorksScenario (a `kind` is not looked at).
    """
    scenario = scenario_of(settings)
    parts = in_parallel(lambda day: simulate_day(scenario, day, folder), list(scenario.days), num_processes)
    for done, _ in enumerate(parts, start=1):
        yield done, scenario.num_days
    _collect(scenario, folder)


def scenario_of(settings: Mapping[str, Any]) -> WorksScenario:
    """The scenario with these settings, as JSON has them."""
    given: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in settings.items()
    }
    return WorksScenario(**{name: value for name, value in given.items() if name != "kind"})


def _collect(scenario: WorksScenario, folder: Path) -> None:
    """All days in one file and the map beside it, each put in place whole."""
    whole = pl.concat([pl.read_parquet(part_path(scenario, day, folder)) for day in scenario.days])
    streets = pl.DataFrame([
        (one.name, one.source, one.target, one.length_m, one.speed_mps) for one in scenario.city.streets.values()
    ], schema=["edge", "source", "target", "length_m", "speed_mps"], orient="row")  # fmt: skip
    streets.write_csv(folder / f"{STREETS_FILE}.new")
    (folder / f"{STREETS_FILE}.new").replace(folder / STREETS_FILE)
    whole.write_parquet(folder / f"{TIMES_FILE}.new", compression="zstd", compression_level=19)
    (folder / f"{TIMES_FILE}.new").replace(folder / TIMES_FILE)
