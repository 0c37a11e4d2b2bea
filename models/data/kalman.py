"""An extended Kalman filter of a car: wheels and gyroscope carry it on, fixes pull it back.

Torch, batched and unrolled over the steps, so that the same lines find the origin of a data set's samples and are the
baseline's exported graph. A client needs an origin only near enough to be on its patch: any filter will do.
Kalman, A New Approach to Linear Filtering and Prediction Problems, J. Basic Engineering 82(1), 1960; the extended
filter on a turning car as in Thrun, Burgard, Fox, Probabilistic Robotics, 2005, chapters 3.3 and 5.3.
"""

from dataclasses import dataclass
from math import pi, radians
from typing import NamedTuple

import torch
from torch import Tensor

from models.data.fixes import CADENCE_S

STANDING_MPS = 0.4  # below, the car stands: it has not turned, and its course says nothing


@dataclass(frozen=True)
class FilterNoise:
    """Standard deviations that the filter believes in; chosen on train drives by the error of the last position."""

    fix_m: float = 20.0
    gate: float = 4.0  # squared, normalised innovation above which a fix counts less and less
    first_m: float = 30.0
    drift_m: float = 0.5
    speed_factor: float = 0.05
    turn_dps: float = 1.0
    course_mps: float = 0.5


NOISE = FilterNoise()


class Track(NamedTuple):
    """What the filter knows after each step."""

    state: Tensor  # [B, T, 3]: x and y in metres, heading in radians counter-clockwise from east
    spread: Tensor  # [B, T, 3]: variances of the three


def follow(fixes: Tensor, seen: Tensor, noise: FilterNoise = NOISE, cadence_s: float = CADENCE_S) -> Track:
    """Filter `fixes` [B, T, 6] of `FEATURES`; `seen` [B, T] is 1 where position and course are known, else 0.

    The numbers where `seen` is 0 may be anything finite.
    """
    speed_mps = fixes[:, :, 4]
    moving = (speed_mps > STANDING_MPS).to(fixes.dtype)
    driven_m, turned = speed_mps * cadence_s, fixes[:, :, 5] * moving * (cadence_s * pi / 180)  # [B, T]
    course_variance = (noise.course_mps / speed_mps.clamp(min=STANDING_MPS)) ** 2
    fresh = torch.stack([torch.full_like(moving, noise.drift_m**2)] * 2, 2) * moving[:, :, None]
    fresh = torch.cat([fresh, moving[:, :, None] * radians(noise.turn_dps * cadence_s) ** 2], 2)  # [B, T, 3]
    state, cov = _start(fixes, seen, driven_m, turned, noise)
    first = torch.arange(fixes.shape[1]) > 0
    drives, turns = driven_m * first, turned * first  # the first step is where it starts
    steps = (fixes[:, :, :4], seen, seen * moving, drives, turns, fresh * first[:, None], course_variance)
    by_step = tuple(each.transpose(0, 1) for each in steps)  # [T, B, ...]

    def step(carry: tuple[Tensor, Tensor], now: tuple[Tensor, ...]) -> tuple[tuple[Tensor, Tensor], Tensor]:
        fix, here, headed, drive, turn, drift, course = now
        state, cov = _predict(*carry, drive, turn, drift, noise)
        state, cov = _take_in(state, cov, fix, here, headed, course, noise)
        return (state, cov), torch.cat([state, cov.diagonal(dim1=1, dim2=2)], 1)

    if torch.compiler.is_exporting():
        from torch._higher_order_ops import scan  # one node of the graph instead of a few thousand

        told = scan(step, (state, cov), by_step)[1]
    else:
        carry, rows = (state, cov), []
        for place in range(fixes.shape[1]):
            carry, row = step(carry, tuple(each[place] for each in by_step))
            rows.append(row)
        told = torch.stack(rows)
    told = told.transpose(0, 1)  # [B, T, 6]
    return Track(told[:, :, :3], told[:, :, 3:])


def _take_in(
    state: Tensor,
    cov: Tensor,
    fix: Tensor,
    here: Tensor,
    headed: Tensor,
    course_variance: Tensor,
    noise: FilterNoise,
) -> tuple[Tensor, Tensor]:
    """Take in a fix [B, 4]; the position where `here` is 1, the course where `headed` is."""
    x_m, y_m, sin, cos = fix.unbind(1)
    variance = noise.fix_m**2
    error_x, error_y = x_m - state[:, 0], y_m - state[:, 1]
    far = error_x**2 / (cov[:, 0, 0] + variance) + error_y**2 / (cov[:, 1, 1] + variance)
    doubted = variance * (far / noise.gate).clamp(min=1)
    state, cov = _pull(state, cov, 0, error_x, doubted, here)
    state, cov = _pull(state, cov, 1, y_m - state[:, 1], doubted, here)
    return _pull(state, cov, 2, _angle(sin, cos, state[:, 2]), course_variance, headed)


def _start(fixes: Tensor, seen: Tensor, driven_m: Tensor, turned: Tensor, noise: FilterNoise) -> tuple[Tensor, Tensor]:
    """Where the car was at the first step, and how it was headed.

    The heading is the mean of all courses, those of a fast car counting most, each turned back by what the car has
    turned since; the place is the first fix that is seen, carried back by what the car has driven since.
    """
    since = turned.cumsum(1) - turned[:, :1]  # [B, T], radians since the first step
    sin, cos, speed_mps = fixes[:, :, 2], fixes[:, :, 3], fixes[:, :, 4]
    weight = seen * (speed_mps + 0.05) ** 2
    north, east = sin * since.cos() - cos * since.sin(), cos * since.cos() + sin * since.sin()
    heading = torch.atan2((weight * north).sum(1), (weight * east).sum(1) + 1e-9)
    middle = heading[:, None] + since - turned / 2
    way = (torch.stack([middle.cos(), middle.sin()], 2) * driven_m[:, :, None]).cumsum(1)  # [B, T, 2]
    first = seen * seen.cumsum(1).eq(1)  # 1 at the first step that is seen
    place = ((fixes[:, :, :2] - way + way[:, :1]) * first[:, :, None]).sum(1)
    fastest = (seen * speed_mps).amax(1).clamp(min=noise.course_mps / 2)
    variances = torch.stack([torch.full_like(heading, noise.first_m**2)] * 2 + [(noise.course_mps / fastest) ** 2], 1)
    return torch.cat([place, heading[:, None]], 1), variances[:, :, None] * torch.eye(3, dtype=fixes.dtype)


def _predict(
    state: Tensor, cov: Tensor, driven_m: Tensor, turned: Tensor, fresh: Tensor, noise: FilterNoise
) -> tuple[Tensor, Tensor]:
    """Drive on along the arc; the step of the covariance is F P F' + Q with F = 1 + slope on the heading."""
    middle = state[:, 2] + turned / 2
    east, north, none = driven_m * middle.cos(), driven_m * middle.sin(), torch.zeros_like(turned)
    slope = torch.stack([-north, east, none], 1)
    half = cov[:, :, 2] + slope * (cov[:, 2, 2:] / 2)
    grown = slope[:, :, None] * half[:, None, :]
    along = torch.stack([east, north, none], 1) * noise.speed_factor
    added = along[:, :, None] * along[:, None, :] + fresh[:, :, None] * torch.eye(3, dtype=state.dtype)
    return state + torch.stack([east, north, turned], 1), cov + grown + grown.transpose(1, 2) + added


def _pull(
    state: Tensor, cov: Tensor, axis: int, error: Tensor, variance: Tensor, here: Tensor
) -> tuple[Tensor, Tensor]:
    """Take in one number that measures the state's `axis`; nothing changes where `here` is 0."""
    column = cov[:, :, axis]
    gain = column * (here / (column[:, axis] + variance))[:, None]
    return state + gain * error[:, None], cov - gain[:, :, None] * column[:, None, :]


def _angle(sin: Tensor, cos: Tensor, heading: Tensor) -> Tensor:
    """The angle from `heading` to the measured course, between -pi and pi."""
    ahead, aside = cos * heading.cos() + sin * heading.sin(), sin * heading.cos() - cos * heading.sin()
    return torch.atan2(aside, ahead + 1e-9)
