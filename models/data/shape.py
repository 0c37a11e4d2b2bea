"""The sizes that a network is built from."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.data.card import TensorSpec


@dataclass(frozen=True)
class ForecastShape:
    """[B, T, N, C] → [B, H, N]; `slots_per_day` is the number of time-of-day slots; `adjacency` (N, N) or None."""

    past_steps: int
    horizon_steps: int
    num_nodes: int
    num_channels: int
    slots_per_day: int
    adjacency: NDArray[np.float32] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class ImageShape:
    """[B, C, H, W] → [B, K]."""

    num_channels: int
    height: int
    width: int
    num_classes: int


@dataclass(frozen=True)
class TensorShape:
    """Named inputs [B, *shape] → one output [B, *shape]."""

    inputs: tuple[TensorSpec, ...]
    output: TensorSpec
