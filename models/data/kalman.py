"""An extended Kalman filter that follows a car: wheel speed and turn rate carry it on, fixes pull it back.

Torch, batched and unrolled over the steps, so that the same lines draw a data set's origin, serve as the baseline and
are the first stage inside a network's exported graph. Element by element on purpose: nothing here is a matrix product
that int8 would touch.
Kalman, A New Approach to Linear Filtering and Prediction Problems, J. Basic Engineering 82(1), 1960; the extended
filter on a turning car as in Thrun, Burgard, Fox, Probabilistic Robotics, 2005, chapters 3.3 and 5.3.
"""

from dataclasses import dataclass
from math import pi, radians
from typing import NamedTuple

import torch
from torch import Tensor

FEATURES = ("x_m", "y_m", "course_sin", "course_cos", "speed_mps", "turn_dps")

CADENCE_S = 2.0  # between two fixes
MOVING_MPS = 2.0  # below, the course says little


@dataclass(frozen=True)
class FilterNoise:
    """Standard deviations that the filter believes in; chosen on train drives by the error of the last position."""

    fix_m: float = 20.0
    gate: float = 4.0  # squared, normalised innovation above which a fix counts less and less
    first_m: float = 30.0
    speed_factor: float = 0.05
    turn_dps: float = 1.5
    course_mps: float = 0.3


class Track(NamedTuple):
    """What the filter knows after each step."""

    state: Tensor  # [B, T, 3]: x and y in metres, heading in radians counter-clockwise from east
    spread: Tensor  # [B, T, 3]: variances of the three


def follow(fixes: Tensor, seen: Tensor, noise: FilterNoise = FilterNoise(), cadence_s: float = CADENCE_S) -> Track:
    """Filter `fixes` [B, T, 6], see FEATURES; `seen` [B, T] is 1 where the position and course are known, else 0.

    The numbers where `seen` is 0 may be anything finite. The filter starts at the first fix that is seen.
    """
    state, cov = _start(fixes, seen, cadence_s, noise)
    states, spreads = [], []
    for step in range(fixes.shape[1]):
        x_m, y_m, sin, cos, speed_mps, turn_dps = fixes[:, step].unbind(1)
        here = seen[:, step]
        if step:
            state, cov = _predict(
                state, cov, speed_mps * cadence_s, turn_dps * (cadence_s * pi / 180), cadence_s, noise
            )
        error_x, error_y = x_m - state[:, 0], y_m - state[:, 1]
        fix_m2 = noise.fix_m**2
        far = error_x**2 / (cov[:, 0, 0] + fix_m2) + error_y**2 / (cov[:, 1, 1] + fix_m2)
        variance = fix_m2 * (far / noise.gate).clamp(min=1)
        state, cov = _pull(state, cov, 0, error_x, variance, here)
        state, cov = _pull(state, cov, 1, y_m - state[:, 1], variance, here)
        state, cov = _pull(state, cov, 2, _turned(sin, cos, state[:, 2]), _course_variance(speed_mps, noise), here)
        states.append(state)
        spreads.append(torch.stack([cov[:, axis, axis] for axis in range(3)], 1))
    return Track(torch.stack(states, 1), torch.stack(spreads, 1))


def _course_variance(speed_mps: Tensor, noise: FilterNoise) -> Tensor:
    """The course is worth nothing where the car stands."""
    return (noise.course_mps / speed_mps.clamp(min=0.3)) ** 2


def _start(fixes: Tensor, seen: Tensor, cadence_s: float, noise: FilterNoise) -> tuple[Tensor, Tensor]:
    """Where the first fix, and the first course of a moving car, say that the car was at the first step.

    Both are carried back by what the car has driven and turned since.
    """
    speed_mps, turn_dps = fixes[:, :, 4], fixes[:, :, 5]
    turned = (turn_dps.cumsum(1) - turn_dps[:, :1]) * (cadence_s * pi / 180)  # [B, T] since the first step
    chosen = _first(seen * (speed_mps > MOVING_MPS))
    sin, cos, speed, since = ((each * chosen).sum(1) for each in (*fixes[:, :, 2:5].unbind(2), turned))
    heading = torch.atan2(sin, cos + 1e-9) - since
    middle = heading[:, None] + turned - turn_dps * (cadence_s * pi / 360)
    driven = torch.stack([middle.cos(), middle.sin()], 2) * (speed_mps * cadence_s)[:, :, None]  # [B, T, 2]
    way = driven.cumsum(1) - driven[:, :1]
    place = ((fixes[:, :, :2] - way) * _first(seen)[:, :, None]).sum(1)
    variances = torch.stack(
        [torch.full_like(speed, noise.first_m**2)] * 2 + [_course_variance(speed, noise).clamp(max=4)], 1
    )
    return torch.cat([place, heading[:, None]], 1), variances[:, :, None] * torch.eye(3, dtype=fixes.dtype)


def _first(flag: Tensor) -> Tensor:
    """1 at the first step where `flag` [B, T] is 1, else 0; all 0 where it never is."""
    return flag * flag.cumsum(1).eq(1)


def _predict(
    state: Tensor, cov: Tensor, driven_m: Tensor, turned: Tensor, cadence_s: float, noise: FilterNoise
) -> tuple[Tensor, Tensor]:
    """Drive on along the arc; the step of the covariance is F P F' + Q with F = 1 + slope on the heading."""
    middle = state[:, 2] + turned / 2
    east, north, none = driven_m * middle.cos(), driven_m * middle.sin(), torch.zeros_like(turned)
    slope = torch.stack([-north, east, none], 1)
    half = cov[:, :, 2] + slope * (cov[:, 2, 2:] / 2)
    grown = slope[:, :, None] * half[:, None, :]
    along = torch.stack([east, north, none], 1) * noise.speed_factor
    fresh = torch.tensor([0.25, 0.25, radians(noise.turn_dps * cadence_s) ** 2], dtype=state.dtype)
    cov = cov + grown + grown.transpose(1, 2) + along[:, :, None] * along[:, None, :] + torch.diag(fresh)
    return state + torch.stack([east, north, turned], 1), cov


def _pull(
    state: Tensor, cov: Tensor, axis: int, error: Tensor, variance: Tensor, here: Tensor
) -> tuple[Tensor, Tensor]:
    """Take in one number that measures the state's `axis`; nothing changes where `here` is 0."""
    column = cov[:, :, axis]
    gain = column * (here / (column[:, axis] + variance))[:, None]
    return state + gain * error[:, None], cov - gain[:, :, None] * column[:, None, :]


def _turned(sin: Tensor, cos: Tensor, heading: Tensor) -> Tensor:
    """The angle from `heading` to the measured course, between -pi and pi."""
    ahead, aside = cos * heading.cos() + sin * heading.sin(), sin * heading.cos() - cos * heading.sin()
    return torch.atan2(aside, ahead + 1e-9)
