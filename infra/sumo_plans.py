"""Sets up what policies are held against: Webster, actuated, delay-based, max-pressure.

All keep 3 s of yellow and 5 s of least green. The first three run SUMO's own programs in a fixed order of phases; which
order and which constants served each of them best was tried on training seeds 1 and 2 at both levels of demand, and the
best is what stands here: a straw man is easily beaten. Max-pressure chooses among the same eight phases as a policy,
from the same observation, and was tuned alike.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infra.sumo_grid_scenario import JUNCTIONS, LEFT, RIGHT, STRAIGHT, GridScenario, place_name
from infra.sumo_junctions import MIN_GREEN_S, STATES, YELLOW_S, yellow
from infra.sumo_rules import max_pressure

TUNING_SEEDS = (1, 2, 3)  # whose demand the fixed-time plan is made for
TWO_PHASES = (0, 2)  # left turns give way; with phases of their own every one of the three was worse by half or more
SATURATION_VPH, YIELDING_VPH = 2 * 1700.0, 1000.0  # two lanes straight on; left turns that give way
START_LOSS_S, CYCLE_S = 1.0, (20.0, 120.0)
MAX_GREEN_S = 50
ACTUATED = '<param key="max-gap" value="2.0"/>'
DELAY_BASED = '<param key="detectorRange" value="60"/>'
CONTROLLERS = ("webster", "actuated", "delay_based", "max_pressure")


def controller(name: str, level: str) -> dict[str, Any]:
    """What `infra.sumo_signals.episode` is given for a controller of `CONTROLLERS`. Raises KeyError for another."""
    if name == "max_pressure":
        return {"policy": max_pressure}
    if name == "webster":
        return {"programs": program("static", webster_greens_s(level))}
    return {"programs": program(name, params={"actuated": ACTUATED, "delay_based": DELAY_BASED}[name])}


def program(
    kind: str,
    greens_s: NDArray[np.float64] | None = None,
    params: str = "",
    phases: Sequence[int] = TWO_PHASES,
    max_green_s: int = MAX_GREEN_S,
) -> str:
    """XML of one program for every junction; greens_s: [J, phases] of a `static` one."""
    logics = []
    for number, place in enumerate(JUNCTIONS):
        rows = []
        for i, phase in enumerate(phases):
            after = phases[(i + 1) % len(phases)]
            green_s = 20.0 if greens_s is None else greens_s[number, i]
            limits = "" if kind == "static" else f' minDur="{MIN_GREEN_S}" maxDur="{max_green_s}"'
            rows.append(f'<phase duration="{green_s:.0f}"{limits} state="{STATES[phase]}"/>')
            rows.append(f'<phase duration="{YELLOW_S}" state="{yellow(STATES[phase], STATES[after])}"/>')
        logics.append(
            f'<tlLogic id="{place_name(place)}" type="{kind}" programID="tuned" offset="0">'
            f"{params}{''.join(rows)}</tlLogic>"
        )
    return "\n".join(logics)


@functools.cache
def webster_greens_s(level: str) -> NDArray[np.float64]:
    """Greens [J, 2] of the cycle with the least delay, one for all junctions, from the demand of the tuning seeds.

    Webster: Traffic Signal Settings, Road Research Technical Paper 39, 1958: cycle = (1.5 L + 5) / (1 - Y).
    """
    counts = [GridScenario(seed, level) for seed in TUNING_SEEDS]
    hours = sum(one.minutes for one in counts) / 60
    flow_vph = np.sum([one.turning_counts() for one in counts], axis=0) / hours  # [J, 4, 3]
    straight_on = (flow_vph[..., RIGHT] + flow_vph[..., STRAIGHT]) / SATURATION_VPH
    ratios = np.maximum(straight_on, flow_vph[..., LEFT] / YIELDING_VPH)  # [J, 4]
    critical = np.stack([ratios[:, [0, 2]].max(axis=1), ratios[:, [1, 3]].max(axis=1)], axis=1)  # [J, 2]
    total = critical.sum(axis=1).clip(max=0.9)
    lost_s = len(TWO_PHASES) * (YELLOW_S + START_LOSS_S)
    cycle_s = np.clip((1.5 * lost_s + 5) / (1 - total), *CYCLE_S).max()
    green_s = cycle_s - len(TWO_PHASES) * YELLOW_S
    greens_s: NDArray[np.float64] = green_s * critical / critical.sum(axis=1, keepdims=True)
    return np.maximum(greens_s, float(MIN_GREEN_S))
