"""Forecast: the next H steps of one quantity at N nodes from T past steps of C channels.

Networks work on scaled values. `Scaled` puts the scaler inside the module, so that the exported graph takes and gives
physical units and nobody can serve it with another scaler.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.scaling import Scaler
from models.data.shape import ForecastShape


class WindowBatch(NamedTuple):
    """A batch in scaled units, as closed-form families fit on it; missing values are 0 with mask 0."""

    x: Tensor  # [B, T, N, C]
    mask: Tensor  # [B, T, N, C]
    clock: Tensor  # [B, 2] int64: slot of day and weekday (Monday 0) of the last past step
    target: Tensor  # [B, H, N]
    target_mask: Tensor  # [B, H, N]


class Scaled(nn.Module):
    """A network between physical units: scales what goes in, and what comes out back again.

    The scaler is repeated for every node: on a CPU a row of N C numbers is scaled several times faster than rows of C.
    """

    mean: Tensor
    rate: Tensor
    target_mean: Tensor
    target_std: Tensor

    def __init__(self, network: nn.Module, num_nodes: int, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.network = network
        channel_mean, channel_std = torch.tensor(mean, dtype=torch.float32), torch.tensor(std, dtype=torch.float32)
        self.register_buffer("mean", channel_mean.repeat(num_nodes, 1))  # [N, C]
        self.register_buffer("rate", channel_std.reciprocal().repeat(num_nodes, 1))  # [N, C]
        self.register_buffer("target_mean", channel_mean[0].clone())
        self.register_buffer("target_std", channel_std[0].clone())

    def forward(self, x: Tensor, mask: Tensor, clock: Tensor) -> Tensor:
        """x, mask: [B, T, N, C], clock: [B, 2]; returns [B, H, N] in the target's unit."""
        output: Tensor = self.network(self.scale(x, mask), mask, clock)
        return output * self.target_std + self.target_mean

    def forward_hidden(self, x: Tensor, mask: Tensor, clock: Tensor) -> tuple[Tensor, Tensor]:
        """The forecast in physical units and the network's hidden state [B, N, D]."""
        output, hidden = self.network.forward_hidden(self.scale(x, mask), mask, clock)  # type: ignore[operator]
        return output * self.target_std + self.target_mean, hidden

    def scale(self, x: Tensor, mask: Tensor) -> Tensor:
        """Scaled past values; missing ones are 0, the train mean."""
        return (x - self.mean) * self.rate * mask

    def scale_target(self, target: Tensor, target_mask: Tensor) -> Tensor:
        """Scaled target [B, H, N]; missing values are 0."""
        return (target - self.target_mean) / self.target_std * target_mask


HUBER_FROM = 0.5  # errors above this many standard deviations count by their size, smaller ones by their square

ELEMENT_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mae": functional.l1_loss,
    "mse": functional.mse_loss,
    "huber": partial(functional.smooth_l1_loss, beta=HUBER_FROM),
}


class ForecastTask:
    """What every forecast family promises."""

    name = "forecast"
    input_names = ("x", "mask", "clock")
    losses = tuple(ELEMENT_LOSSES)

    def wrap(self, network: nn.Module, shape: ForecastShape, scaler: Scaler) -> nn.Module:
        """The module that is trained, exported and served."""
        return Scaled(network, shape.num_nodes, scaler.mean, scaler.std)

    def loss(self, kind: str, scale: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Mean loss over observed values, in units of `scale` (the target's standard deviation).

        Step h weighs 1 / sqrt(h): errors grow so with the distance, and the far steps would drown the near ones.
        """
        element = ELEMENT_LOSSES[kind]

        def mean_loss(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            step = torch.arange(1, output.shape[1] + 1, device=output.device)
            weight = mask * step.rsqrt()[:, None]  # [B, H, N]
            each = element(output / scale, target / scale, reduction="none")
            return (each * weight).sum() / weight.sum().clamp(min=1e-6)

        return mean_loss

    def example_inputs(self, shape: ForecastShape, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs of the promised shapes and types, about one in twenty missing."""
        random = np.random.default_rng(seed)
        size = (batch_size, shape.past_steps, shape.num_nodes, shape.num_channels)
        mask = (random.random(size) > 0.05).astype(np.float32)
        slots = random.integers(0, shape.slots_per_day, batch_size)
        return {
            "x": random.normal(size=size).astype(np.float32) * mask,
            "mask": mask,
            "clock": np.stack([slots, random.integers(0, 7, batch_size)], axis=1).astype(np.int64),
        }


TASK = ForecastTask()
