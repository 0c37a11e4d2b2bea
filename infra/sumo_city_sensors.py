"""What a car's receiver, wheels and gyroscope make of its way: errors, jumps, outages.

The position of a satellite receiver between houses is wrong in a way that lasts (reflections: a Gauss-Markov error), is
noisy on top, now and then jumps while only a reflection is seen, and is missing in underpasses. Wheel speed and turn
rate come from the car itself and go on in an outage; each is a little wrong, and by a factor or offset of its own.
Groves, Principles of GNSS, Inertial, and Multisensor Integrated Navigation Systems, 2nd ed., 2013, chapters 4 and 9.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sensors:
    """Sizes of the errors; standard deviations are for each axis."""

    lasting_m: float = 14.3
    lasting_s: float = 30.0  # time in which a lasting error fades to 1/e
    noise_m: float = 3.5
    jump_every_s: float = 240.0  # from the end of one to the begin of the next
    jump_m: tuple[float, float] = (20.0, 50.0)
    jump_s: tuple[float, float] = (2.0, 10.0)
    outage_every_s: float = 250.0
    outage_s: tuple[float, float] = (5.0, 30.0)
    course_mps: float = 0.5  # error of the velocity across the way: the course is noise where the car stands
    speed_factor: float = 0.02
    speed_mps: float = 0.15
    turn_offset_dps: float = 0.3
    turn_dps: float = 0.3


@dataclass(frozen=True)
class Readings:
    """One row for each fix; position and course are NaN in an outage."""

    fix_m: Floats  # [n, 2]
    course_deg: Floats  # [n], counter-clockwise from east, 0 to 360
    speed_mps: Floats  # [n], mean since the last fix
    turn_dps: Floats  # [n], mean since the last fix, counter-clockwise


def _spells(
    random: np.random.Generator, times_s: Floats, every_s: float, lasts_s: tuple[float, float]
) -> list[NDArray[np.bool_]]:
    """Which of `times_s` lie in each of the spells, `every_s` apart on average and never overlapping.

    Short ones are more common: the logarithm of their length is uniform.
    """
    spells, begin_s = [], times_s[0] - lasts_s[1] * random.random()
    while begin_s < times_s[-1]:
        end_s = begin_s + np.exp(random.uniform(*np.log(lasts_s)))
        spells.append((times_s > begin_s) & (times_s <= end_s))
        begin_s = end_s + random.exponential(every_s)
    return spells


def read_sensors(
    random: np.random.Generator,
    sensors: Sensors,
    cadence_s: float,
    true_m: Floats,
    heading_deg: Floats,
    driven_m: Floats,
) -> Readings:
    """The readings along one way: `true_m` [n, 2], heading [n] and metres driven since the last fix [n]."""
    num = len(true_m)
    times_s = np.asarray(np.arange(num) * cadence_s, np.float64)
    keep = np.exp(-cadence_s / sensors.lasting_s)
    shocks = random.normal(0, 1, (num, 2)) * sensors.lasting_m
    lasting = np.empty((num, 2))
    lasting[0] = shocks[0]
    for step in range(1, num):
        lasting[step] = keep * lasting[step - 1] + np.sqrt(1 - keep**2) * shocks[step]
    fix = true_m + lasting + random.normal(0, sensors.noise_m, (num, 2))
    for spell in _spells(random, times_s, sensors.jump_every_s, sensors.jump_s):
        angle, size_m = random.uniform(0, 2 * np.pi), random.uniform(*sensors.jump_m)
        fix[spell] += size_m * np.array([np.cos(angle), np.sin(angle)])
    speed = driven_m / cadence_s
    across = random.normal(0, sensors.course_mps, num)
    course = heading_deg + np.degrees(
        np.arctan2(across, np.maximum(speed + random.normal(0, sensors.course_mps, num), 0.05))
    )
    turned = np.diff(heading_deg, prepend=heading_deg[:1])
    turn = (turned + 180) % 360 - 180
    for spell in _spells(random, times_s, sensors.outage_every_s, sensors.outage_s):
        fix[spell], course[spell] = np.nan, np.nan
    factor = 1 + random.normal(0, sensors.speed_factor)
    return Readings(
        fix_m=fix,
        course_deg=course % 360,
        speed_mps=np.maximum(speed * factor + random.normal(0, sensors.speed_mps, num) * (speed > 0.1), 0),
        turn_dps=turn / cadence_s + random.normal(0, sensors.turn_offset_dps) + random.normal(0, sensors.turn_dps, num),
    )
