"""Counts alarms at a threshold: incidents found, how soon, and false alarms.

Used where the threshold is chosen (on validation) and where it is judged (on test), so both count alike. An alarm is
raised at a station in the minute in which its probability reaches the threshold after it was below (k = 1: the network
itself looks back over many minutes, and each minute of waiting is a minute of delay).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.data.examples import ExampleSamples

FOUND_WITHIN_MIN = 10.0  # an incident found later than this counts as missed
NEAR_SEGMENTS = 1  # an alarm one segment up or down the road is for the same incident
RECOVERY_MIN = 5.0  # alarms are still for the incident while traffic starts again
MERGED_WITHIN_MIN = 5  # false alarms at a station and its neighbours that follow within these minutes are one


@dataclass(frozen=True)
class Alarms:
    """What an operator meets at one threshold.

    delays_min: (I,) minutes from each incident's onset to the end of the minute that raised the alarm; inf if missed
    lanes_blocked: (I,); num_false: alarms without an incident; station_hours: how long all stations were watched
    """

    delays_min: NDArray[np.float64]
    lanes_blocked: NDArray[np.int64]
    num_false: int
    station_hours: float

    @property
    def found(self) -> NDArray[np.float64]:
        """Delays of the incidents that were found."""
        return self.delays_min[np.isfinite(self.delays_min)]

    @property
    def false_per_100_station_hours(self) -> float:
        return 100 * self.num_false / max(self.station_hours, 1e-9)


def count_alarms(probability: NDArray[np.float32], samples: ExampleSamples, threshold: float) -> Alarms:
    """probability: (S, N) of samples with the facts run, minute, incident, segment, onset_min and cleared_min."""
    facts = {name: np.asarray(samples.fact(name), np.float64) for name in (
        "run", "minute", "incident", "segment", "onset_min", "cleared_min", "lanes_blocked"
    )}  # fmt: skip
    delays, lanes, num_false = [], [], 0
    for run in np.unique(facts["run"]):
        rows = np.flatnonzero(facts["run"] == run)
        rows = rows[np.argsort(facts["minute"][rows])]
        its = {name: values[rows] for name, values in facts.items()}
        raised = _raised(probability[rows] >= np.float32(threshold))  # [S, N]
        near = np.abs(np.arange(raised.shape[1]) - its["segment"][:, None]) <= NEAR_SEGMENTS
        concerned = (its["incident"] >= 0)[:, None] & near
        explained = concerned & (its["minute"] <= its["cleared_min"] + RECOVERY_MIN)[:, None]
        num_false += _merged(raised & ~explained)
        for incident in np.unique(its["incident"][its["incident"] >= 0]):
            first = int(np.argmax(its["incident"] == incident))
            last_min = min(its["cleared_min"][first], its["onset_min"][first] + FOUND_WITHIN_MIN)
            timely = (its["incident"] == incident) & (its["minute"] <= last_min)
            hits = np.flatnonzero(timely & (raised & concerned).any(axis=1))
            delays.append(its["minute"][hits[0]] - its["onset_min"][first] if len(hits) else np.inf)
            lanes.append(int(its["lanes_blocked"][first]))
    return Alarms(np.array(delays), np.array(lanes, np.int64), num_false, probability.size / 60)


def _raised(on: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a station's alarm comes on: on now, off the minute before."""
    before = np.zeros_like(on)
    before[1:] = on[:-1]
    return on & ~before


def _merged(raised: NDArray[np.bool_]) -> int:
    """How many alarms are left when those near each other in time and space are one."""
    count, latest = 0, np.full(raised.shape[1] + 2 * NEAR_SEGMENTS, -np.inf)
    for minute, station in np.argwhere(raised):
        around = slice(station, station + 2 * NEAR_SEGMENTS + 1)
        count += bool(minute - latest[around].max() > MERGED_WITHIN_MIN)
        latest[station + NEAR_SEGMENTS] = minute
    return count
