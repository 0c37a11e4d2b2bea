"""Alarms are counted as an operator would: found near and in time, false ones merged."""

import numpy as np
import pytest

from models.artifact.alarms import count_alarms
from tests.models.artifact.watched import NUM_MINUTES, NUM_STATIONS, quiet, watched


@pytest.mark.parametrize(
    ("minute", "station", "delay_min", "num_false"),
    [
        (22, 3, 2.5, 0),  # on the segment
        (22, 4, 2.5, 0),  # a neighbour is near enough
        (22, 5, np.inf, 1),  # two segments on is another place
        (19, 3, np.inf, 1),  # before the onset at 19.5
        (29, 3, 9.5, 0),  # late, and in time
        (30, 3, np.inf, 0),  # too late, yet no false alarm: the lane is blocked
        (44, 3, np.inf, 0),  # traffic starts again until five minutes behind the clearing at 39.5
        (45, 3, np.inf, 1),
    ],
)
def test_one_alarm(minute: int, station: int, delay_min: float, num_false: int) -> None:
    probability = quiet()
    probability[minute - 1, station] = 0.9
    alarms = count_alarms(probability, watched(), 0.9)
    assert alarms.delays_min.tolist() == [delay_min]
    assert alarms.num_false == num_false


def test_an_alarm_that_was_on_already_is_not_raised_by_the_incident() -> None:
    probability = quiet()
    probability[10:25, 3] = 1.0
    alarms = count_alarms(probability, watched(), 0.5)
    assert (alarms.delays_min.tolist(), alarms.num_false) == ([np.inf], 1)


def test_false_alarms_next_to_each_other_are_one() -> None:
    probability = quiet()
    for minute, station in ((2, 0), (4, 1), (8, 0), (14, 0), (14, 5)):  # the last two are 6 minutes and 5 stations off
        probability[minute, station] = 1.0
    alarms = count_alarms(probability, watched(), 0.5)
    assert alarms.num_false == 3
    assert alarms.station_hours == pytest.approx(NUM_MINUTES * NUM_STATIONS / 60)
    assert alarms.false_per_100_station_hours == pytest.approx(300 / alarms.station_hours)
