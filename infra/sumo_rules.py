"""Chooses phases from an observation: max-pressure, and the priority index that teaches.

The index is `models/families/control_priority` in numpy; a test holds the two to the same choices.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infra.sumo_junctions import MOVEMENTS, OBSERVED, SERVED, STATES, Floats

PROTECTED = SERVED.astype(np.float32)  # [K, M]
GIVES_WAY = np.array([[state[4 * (m // 2) + 3] == "g" and m % 2 for m in range(8)] for state in STATES], np.float32)
EXIT_STRAIGHT = [2, 3, 0, 1]  # straight on from N is S
BOTH_LANES = 2.0  # a side's far vehicles count half for each of its two movements
LANES = np.array([1.8, 1.0] * 4, np.float32)  # two lanes straight on, unevenly used; one to the left
_STARTS = np.cumsum([8, 8, 4, 4, 4, 4, 8, 8, 8])
assert len(OBSERVED) == _STARTS[-1] + 1 and len(MOVEMENTS) == SERVED.shape[1]


def max_pressure(observation: Floats) -> NDArray[np.int64]:
    """The phase with the most vehicles waiting and coming less those in its way: [J, F] to [J].

    Varaiya: Max pressure control of a network of signalized intersections, Transportation Research C 36, 2013.
    """
    queue, moving, _, far_queue, exits, *_ = np.split(observation, _STARTS, axis=1)
    upstream = queue + moving + np.repeat(far_queue, 2, axis=1) / BOTH_LANES
    pressure = upstream @ PROTECTED.T - MAX_PRESSURE_EXIT * exits[:, EXIT_STRAIGHT] @ PROTECTED[:, 0::2].T
    chosen: NDArray[np.int64] = pressure.argmax(axis=1)
    return chosen


MAX_PRESSURE_EXIT = 0.5


def priority(observation: Floats, weights: Sequence[float]) -> NDArray[np.int64]:
    """The phase that serves most per second, change of lights included: [J, F] to [J].

    weights: in the order of `WEIGHTS` in the family's network
    """
    (moving_shown, moving_other, far_shown, far_other, released_shown, released_other, at_far_queue, left_share,
     yielding, at_waited, at_since, exit_queue, change_s, least_s, per_second, keeping, fades) = weights  # fmt: skip
    queue, moving, far, far_queue, exits, released, since, waited, shows, elapsed = np.split(
        observation, _STARTS, axis=1
    )
    shares = np.tile([1 - left_share, left_share], 4)
    far, far_queue, released = (np.repeat(part, 2, axis=1) * shares for part in (far, far_queue, released))
    has_right = shows @ PROTECTED > 0
    coming = np.where(
        has_right,
        moving_shown * moving + far_shown * far + released_shown * released,
        moving_other * moving + far_other * far + released_other * released,
    )
    vehicles = queue + coming + at_far_queue * far_queue
    pressing = vehicles + at_waited * waited + at_since * since * (queue > 0)
    worth = pressing @ (PROTECTED + yielding * GIVES_WAY).T
    worth = worth - exit_queue * exits[:, EXIT_STRAIGHT] @ PROTECTED[:, 0::2].T
    busiest = ((vehicles / LANES)[:, None] * PROTECTED).max(axis=2)
    seconds = abs(least_s) + 2.0 * busiest + change_s * (1 - shows)
    rate = worth * np.maximum(seconds, 0.5) ** -per_second
    index = rate + keeping * np.exp(-abs(fades) * elapsed / 10) * shows
    return np.asarray(index.argmax(axis=1))
