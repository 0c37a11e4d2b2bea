"""The sizes that a network is built from."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ForecastShape:
    """[B, T, N, C] → [B, H, N]; `slots_per_day` is the number of time-of-day slots."""

    past_steps: int
    horizon_steps: int
    num_nodes: int
    num_channels: int
    slots_per_day: int


@dataclass(frozen=True)
class ImageShape:
    """[B, C, H, W] → [B, K]."""

    num_channels: int
    height: int
    width: int
    num_classes: int
