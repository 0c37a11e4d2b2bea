"""Says what a junction of the grid can show and what its detectors see.

A movement is a side and whether it turns left, M = 8 of them: N, N left, E, E left, S, S left, W, W left. A phase gives
green to some of them, K = 8: both opposite sides with left turns giving way, their left turns alone, or one side with
everything. The observation is what lane-area cameras on the approaches can count, and what the controller did itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.sumo_grid_scenario import JUNCTIONS, near_street, neighbour, street

YELLOW_S, MIN_GREEN_S = 3, 5
Floats = NDArray[np.float32]
SIDE_NAMES = ("north", "east", "south", "west")
MOVEMENTS = tuple(f"{side}{turn}" for side in SIDE_NAMES for turn in ("", "_left"))
_WHOLE, _YIELDING, _LEFT = "GGGG", "GGGg", "rrrG"  # right, straight, straight, left


def _green(**sides: str) -> str:
    return "".join(sides.get(side, "rrrr") for side in SIDE_NAMES)


PHASES: dict[str, str] = {
    "north_south": _green(north=_YIELDING, south=_YIELDING),
    "north_south_left": _green(north=_LEFT, south=_LEFT),
    "east_west": _green(east=_YIELDING, west=_YIELDING),
    "east_west_left": _green(east=_LEFT, west=_LEFT),
    **{side: _green(**{side: _WHOLE}) for side in ("north", "south", "east", "west")},
}
STATES = tuple(PHASES.values())
SERVED = np.array([[state[4 * (m // 2) + (3 if m % 2 else 1)] == "G" for m in range(8)] for state in STATES])  # [K, M]

OBSERVED: tuple[str, ...] = (
    *(f"queue_{name}" for name in MOVEMENTS),  # standing vehicles on the last 80 m, by movement
    *(f"moving_{name}" for name in MOVEMENTS),  # and those that roll there
    *(f"far_moving_{side}" for side in SIDE_NAMES),  # behind them, where nobody has chosen a lane yet
    *(f"far_queue_{side}" for side in SIDE_NAMES),
    *(f"exit_queue_{side}" for side in SIDE_NAMES),  # standing where vehicles leave to
    *(f"released_{side}" for side in SIDE_NAMES),  # about to be sent here by the next junction on that side
    *(f"since_served_{name}" for name in MOVEMENTS),  # seconds since its last green
    *(f"waited_{name}" for name in MOVEMENTS),  # vehicle-seconds that its queue has stood since then
    *(f"shows_{name}" for name in PHASES),  # 1 for the phase shown
    "elapsed_s",  # green shown so far
)


def yellow(before: str, after: str) -> str:
    """The lights between two phases: yellow for whoever loses green, no new green yet."""
    return "".join("y" if a in "Gg" and b == "r" else a if a in "Gg" else "r" for a, b in zip(before, after))  # noqa: B905


class Detectors:
    """Counts vehicles of all junctions at once through libsumo."""

    def __init__(self, libsumo: Any) -> None:
        self.libsumo = libsumo
        ways = [[neighbour(place, side) for side in range(4)] for place in JUNCTIONS]
        pairs = list(zip(JUNCTIONS, ways, strict=True))
        far = [[street(source, place) for source in sources] for place, sources in pairs]
        exits = [[street(place, target) for target in targets] for place, targets in pairs]
        self.streets = sorted({name for row in far + exits for name in row})
        index = {name: i for i, name in enumerate(self.streets)}
        self.far = np.array([[index[name] for name in row] for row in far])
        self.exits = np.array([[index[name] for name in row] for row in exits])
        self.lanes = [
            f"{near_street(source, place)}_{lane}"
            for place, sources in pairs for source in sources for lane in range(3)
        ]  # fmt: skip
        number = {place: i for i, place in enumerate(JUNCTIONS)}
        self.upstream = np.array([[number.get(place, -1) for place in row] for row in ways])  # [J, 4]

    def count(self) -> tuple[Floats, Floats, Floats]:
        """Vehicles and standing ones [J, M, 2] near the stop lines, [J, 4, 2] behind them, [J, 4, 2] on the exits."""
        edge, lane = self.libsumo.edge, self.libsumo.lane
        edge_all, edge_halting = edge.getLastStepVehicleNumber, edge.getLastStepHaltingNumber
        lane_all, lane_halting = lane.getLastStepVehicleNumber, lane.getLastStepHaltingNumber
        streets = np.array([(edge_all(name), edge_halting(name)) for name in self.streets], np.float32)
        lanes = np.array([(lane_all(name), lane_halting(name)) for name in self.lanes], np.float32)
        by_lane = lanes.reshape(len(JUNCTIONS), 4, 3, 2)
        near = np.stack([by_lane[:, :, :2].sum(axis=2), by_lane[:, :, 2]], axis=2).reshape(len(JUNCTIONS), 8, 2)
        return near, streets[self.far], streets[self.exits]

    def released(self, near: Floats, green: NDArray[np.bool_]) -> Floats:
        """Vehicles that the junction on each side is about to send here [J, 4]: those it has green for, by direction.

        They come straight from its far side, or turn in from its two others; lanes for two ways count in part.
        """
        through = near[:, 0::2, 0] * green[:, 0::2]  # [J, 4] by the side they stand on
        turning = near[:, 1::2, 0] * green[:, 1::2]
        sent = np.zeros((len(JUNCTIONS), 4), np.float32)
        for side in range(4):  # the neighbour on `side` is left towards its opposite side
            there = self.upstream[:, side]
            left, right = (side + 1) % 4, (side - 1) % 4  # sides there from which one turns left, or right, to here
            flow = 0.75 * through[there, side] + turning[there, left] + 0.1 * through[there, right]
            sent[:, side] = np.where(there >= 0, flow, 0.0)
        return sent


@dataclass
class Signals:
    """The lights of all junctions: what is shown, since when, what was asked for; yellow and least green are kept."""

    shown: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(JUNCTIONS), np.int64))
    wanted: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(JUNCTIONS), np.int64))
    green_s: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(JUNCTIONS), np.int64))
    yellow_s: NDArray[np.int64] = field(default_factory=lambda: np.zeros(len(JUNCTIONS), np.int64))

    @property
    def free(self) -> NDArray[np.bool_]:
        """[J]: whether the junction may change now."""
        free: NDArray[np.bool_] = (self.yellow_s == 0) & (self.green_s >= MIN_GREEN_S)
        return free

    @property
    def green(self) -> NDArray[np.bool_]:
        """[J, M]: which movements have the right of way now."""
        green: NDArray[np.bool_] = SERVED[self.shown] & (self.yellow_s == 0)[:, None]
        return green

    def tick(self) -> list[tuple[int, str]]:
        """One second passes; returns the lights that change by it: (junction, state)."""
        self.green_s += 1
        turning = np.flatnonzero(self.yellow_s == 1)
        self.yellow_s = np.maximum(self.yellow_s - 1, 0)
        self.shown[turning], self.green_s[turning] = self.wanted[turning], 0
        return [(int(one), STATES[self.shown[one]]) for one in turning]

    def ask(self, wanted: NDArray[np.int64]) -> list[tuple[int, str]]:
        """Where a junction may change and should, yellow begins; returns (junction, state)."""
        changing = np.flatnonzero(self.free & (wanted != self.shown))
        self.wanted[changing], self.yellow_s[changing] = wanted[changing], YELLOW_S
        return [(int(one), yellow(STATES[self.shown[one]], STATES[self.wanted[one]])) for one in changing]
