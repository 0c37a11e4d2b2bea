"""The controllers that a signal policy is held against: fixed time after Webster, actuated, delay-based, max-pressure.

All keep 3 s of yellow and 5 s of least green. The three that SUMO drives itself run a fixed order of phases; which order
and which constants served them best was tried on training seeds (see `TUNED`). Max-pressure chooses among the same
eight phases as a policy, from the same observation.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.sumo_grid_scenario import JUNCTIONS, LINK_M, SPEED_MPS, GridScenario, place_name
from infra.sumo_junctions import MIN_GREEN_S, SERVED, STATES, YELLOW_S, Floats, yellow

TUNING_SEEDS = tuple(range(1, 7))
TWO, FOUR = (0, 2), (0, 1, 2, 3)  # left turns only give way, or have a phase of their own
SATURATION_VPH = {"through": 2 * 1700.0, "left": 1700.0, "yielding": 1000.0}
LOST_S = YELLOW_S + 1


def program(kind: str, phases: Sequence[int], greens_s: NDArray[np.float64] | None = None, offsets_s: Sequence[float] | None = None,
            max_green_s: int = 50, params: str = "") -> str:
    """One tlLogic for every junction; greens_s: [J, phases] of a `static` program."""
    logics = []
    for number, place in enumerate(JUNCTIONS):
        rows = []
        for i, phase in enumerate(phases):
            after = phases[(i + 1) % len(phases)]
            green_s = 20.0 if greens_s is None else greens_s[number, i]
            limits = "" if kind == "static" else f' minDur="{MIN_GREEN_S}" maxDur="{max_green_s}"'
            rows.append(f'<phase duration="{green_s:.0f}"{limits} state="{STATES[phase]}"/>')
            rows.append(f'<phase duration="{YELLOW_S}" state="{yellow(STATES[phase], STATES[after])}"/>')
        offset_s = 0.0 if offsets_s is None else offsets_s[number]
        logics.append(
            f'<tlLogic id="{place_name(place)}" type="{kind}" programID="tuned" offset="{offset_s:.0f}">'
            f"{params}{''.join(rows)}</tlLogic>"
        )
    return "\n".join(logics)
