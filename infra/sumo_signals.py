"""Runs one closed-loop episode on the signalised grid and counts what it cost its drivers.

The cost is the mean time loss of every vehicle that wanted to enter: SUMO's time loss (against driving freely), plus
the wait outside for a free place. Vehicles still under way at the end count with what they lost so far, vehicles that
never came in with their whole wait, and nobody is teleported: blocking the streets, or the entrances, gains nothing.
"""

from __future__ import annotations

import functools
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.sumo_grid_scenario import JUNCTIONS, LINK_M, NEAR_M, SIZE, SPEED_MPS, GridScenario, place_name
from infra.sumo_junctions import OBSERVED, PHASES, STATES, YELLOW_S, Detectors, Floats, Signals
from infra.sumo_tools import run

ASK_EVERY_S = 2
CONVENTION = (
    "time loss and wait before entering of every vehicle that wanted to enter; under way at the end: what it lost so "
    "far, never entered: its whole wait; no teleports"
)
Policy = Callable[[Floats], NDArray[np.int64]]  # observation [J, F] -> phase [J]
VEHICLE = (
    '<vType id="car" length="4.5" minGap="2.5" tau="1.2" sigma="0.5" accel="2.4" decel="4.5" '
    'speedFactor="normc(1.0,0.1,0.7,1.3)"/>'
)


@dataclass(frozen=True)
class Episode:
    """mean_time_loss_s: over `num_vehicles`; num_left: not arrived when it ended at `end_s`."""

    mean_time_loss_s: float
    num_vehicles: int
    num_left: int
    end_s: float


@dataclass(frozen=True)
class Decisions:
    """What was seen and chosen wherever a junction was free to choose: observation [D, F], phase [D], second [D]."""

    observation: Floats
    phase: NDArray[np.int64]
    time_s: NDArray[np.int64]


@functools.cache
def network() -> Path:
    """The grid, compiled once per process."""
    folder = Path(tempfile.mkdtemp(prefix="roadworthy-grid-"))
    path = folder / "grid.net.xml"
    run(
        "netgenerate", "--grid", "--grid.number", str(SIZE), "--grid.length", str(LINK_M), "--grid.attach-length",
        str(LINK_M), "-L", "2", "--turn-lanes", "1", "--turn-lanes.length", str(NEAR_M), "--default.speed",
        str(SPEED_MPS), "--no-turnarounds", "--default-junction-type", "traffic_light", "--tls.yellow.time",
        str(YELLOW_S), "--no-warnings", "-o", str(path),
    )  # fmt: skip
    return path


def episode(
    scenario: GridScenario, programs: str = "", policy: Policy | None = None, seen: list[Any] | None = None
) -> Episode:
    """Drive the scenario under SUMO's own `programs` (XML of an additional file) or under a `policy`.

    The policy is asked every 2 s for all junctions at once; 3 s of yellow and 5 s of least green are kept for it.
    seen: is given every (second, observation [J, F], phase asked for [J], free [J])
    """
    import libsumo

    folder = Path(tempfile.mkdtemp(prefix="roadworthy-episode-"))
    try:
        libsumo.start(["sumo", *_options(scenario, programs, folder)])
        try:
            _let_run(libsumo, scenario) if policy is None else _control(libsumo, scenario, policy, seen)
            end_s = float(libsumo.simulation.getTime())
        finally:
            libsumo.close()
        return _cost(scenario, (folder / "trips.xml").read_text(), end_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _options(scenario: GridScenario, programs: str, folder: Path) -> list[str]:
    trips = (
        f'<vehicle id="{trip.number}" type="car" depart="{trip.depart_s}" departLane="best" departSpeed="max">'
        f'<route edges="{" ".join(trip.streets)}"/></vehicle>'
        for trip in scenario.trips
    )
    traffic, lights = folder / "traffic.rou.xml", folder / "lights.add.xml"
    traffic.write_text("\n".join(["<routes>", VEHICLE, *trips, "</routes>"]))
    lights.write_text(f"<additional>\n{programs}\n</additional>\n")
    return [
        "--net-file", str(network()), "--route-files", str(traffic), "--additional-files", str(lights),
        "--seed", str(scenario.seed), "--step-length", "1", "--time-to-teleport", "-1", "--collision.action", "none",
        "--tripinfo-output", str(folder / "trips.xml"), "--tripinfo-output.write-unfinished",
        "--no-step-log", "--no-warnings", "--xml-validation", "never", "--duration-log.disable",
    ]  # fmt: skip


def _seconds(libsumo: Any, scenario: GridScenario) -> Any:
    """Second after second until the streets are empty, or the time to empty them is over."""
    for second in range(1, (scenario.minutes + scenario.drain_min) * 60 + 1):
        libsumo.simulationStep()
        if second % 30 == 0 and second > scenario.minutes * 60 and libsumo.simulation.getMinExpectedNumber() == 0:
            return
        yield second


def _let_run(libsumo: Any, scenario: GridScenario) -> None:
    for _ in _seconds(libsumo, scenario):
        pass


def _control(libsumo: Any, scenario: GridScenario, policy: Policy, seen: list[Any] | None) -> None:
    detectors, signals = Detectors(libsumo), Signals()
    names, show = [place_name(place) for place in JUNCTIONS], libsumo.trafficlight.setRedYellowGreenState
    for name in names:
        show(name, STATES[0])
    since, waited = np.zeros((len(names), 8), np.float32), np.zeros((len(names), 8), np.float32)
    for second in _seconds(libsumo, scenario):
        for one, state in signals.tick():
            show(names[one], state)
        if second % ASK_EVERY_S:
            continue
        observation = observe(detectors, signals, since, waited)
        wanted = policy(observation)
        if seen is not None:
            seen.append((second, observation, wanted, signals.free))
        for one, state in signals.ask(wanted):
            show(names[one], state)


def observe(detectors: Detectors, signals: Signals, since: Floats, waited: Floats) -> Floats:
    """[J, F] in the order of `OBSERVED`; brings the two clocks of each movement [J, M] up to date in place."""
    near, far, exits = detectors.count()
    green, standing = signals.green, near[..., 1]
    since[:] = np.where(green, 0, since + ASK_EVERY_S)
    waited[:] = np.where(green, 0, waited + standing * ASK_EVERY_S)
    parts = [
        standing, near[..., 0] - standing, far[..., 0] - far[..., 1], far[..., 1], exits[..., 1],
        detectors.released(near, green), since, waited, np.eye(len(PHASES), dtype=np.float32)[signals.shown],
        signals.green_s[:, None] * (signals.yellow_s == 0)[:, None],
    ]  # fmt: skip
    observation = np.concatenate(parts, axis=1).astype(np.float32)
    assert observation.shape[1] == len(OBSERVED)
    return observation


def _cost(scenario: GridScenario, trips: str, end_s: float) -> Episode:
    """Mean time loss from SUMO's own record of the trips."""
    lost = {trip.number: max(end_s - trip.depart_s, 0.0) for trip in scenario.trips}  # unless it entered
    num_left = len(lost)
    for line in re.findall(r"<tripinfo [^>]*>", trips):
        values = dict(re.findall(r'(\w+)="([^"]*)"', line))
        if float(values["depart"]) >= 0:
            lost[int(values["id"])] = max(float(values["timeLoss"]), 0.0) + max(float(values["departDelay"]), 0.0)
        num_left -= float(values["arrival"]) >= 0
    return Episode(float(np.mean(list(lost.values()))), len(lost), num_left, end_s)


def recorded(seen: list[Any]) -> Decisions:
    """The moments at which a junction was free to choose."""
    rows = [(obs[free], wanted[free], np.full(int(free.sum()), second)) for second, obs, wanted, free in seen]
    observation, phase, time_s = (np.concatenate(part) for part in zip(*rows, strict=True))
    return Decisions(observation, phase, time_s)
