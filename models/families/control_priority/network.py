"""Ranks the phases of a junction by an index of seventeen weights, found in closed loop.

Lämmer and Helbing: Self-control of traffic lights and vehicle flows in urban road networks, J. Stat. Mech., 2008.
A phase is worth the vehicles that it would serve per second that this takes, change of lights included; the present
phase pays no change, so it goes on for as long as its rate is the best. Theirs is a rule with measured constants; here
every constant is a weight, to be found by CMA-ES (Hansen, Evolutionary Computation 9(2), 2001) in the simulator.
"""

import torch
from torch import Tensor, nn

from models.data.shape import TensorShape
from models.families.control_priority.card import PriorityConfig

NUM_PHASES = 8  # sides N, E, S, W, each straight and left; phases as in the data set's card
LANES_THROUGH = 1.8  # two lanes, unevenly used
# [K, M]: 1 for right of way, 2 for left turns that give way.
_SERVES = (
    (1, 2, 0, 0, 1, 2, 0, 0), (0, 1, 0, 0, 0, 1, 0, 0), (0, 0, 1, 2, 0, 0, 1, 2), (0, 0, 0, 1, 0, 0, 0, 1),
    (1, 1, 0, 0, 0, 0, 0, 0), (0, 0, 0, 0, 1, 1, 0, 0), (0, 0, 1, 1, 0, 0, 0, 0), (0, 0, 0, 0, 0, 0, 1, 1),
)  # fmt: skip
WEIGHTS: tuple[str, ...] = (
    "moving_shown", "moving_other", "far_shown", "far_other", "released_shown", "released_other", "far_queue",
    "left_share", "yielding", "waited", "since", "exit_queue", "change_s", "least_s", "per_second", "keeping",
    "keeping_fades",
)  # fmt: skip
# One step of the search changes a weight by about this much.
SPREADS: tuple[float, ...] = (
    0.4, 0.4, 0.3, 0.3, 0.2, 0.2, 0.3, 0.1, 0.15, 0.01, 0.02, 0.1, 1.5, 1.0, 0.15, 0.3, 0.3,
)  # fmt: skip


class Priority(nn.Module):
    """Weights in units of their spread: `offset`, around the card's starting point."""

    start: Tensor
    spread: Tensor
    protected: Tensor
    gives_way: Tensor

    def __init__(self, shape: TensorShape, config: PriorityConfig) -> None:
        super().__init__()
        if len(shape.output.labels) != NUM_PHASES:
            raise ValueError(f"priority: expected {NUM_PHASES} phases, got {len(shape.output.labels)}")
        serves = torch.tensor(_SERVES)
        self.register_buffer("protected", (serves == 1).float(), persistent=False)
        self.register_buffer("gives_way", (serves == 2).float(), persistent=False)
        self.register_buffer("start", torch.tensor(config.weights), persistent=False)
        self.register_buffer("spread", torch.tensor(SPREADS), persistent=False)
        self.offset = nn.Parameter(torch.zeros(len(WEIGHTS)))
        self.sharpness = config.sharpness

    def forward(self, observation: Tensor) -> Tensor:
        """observation: [B, F] in the order of the data set's card, unscaled; returns logits [B, K]."""
        return self.forward_hidden(observation)[0]

    def forward_hidden(self, observation: Tensor) -> tuple[Tensor, Tensor]:
        """Logits, and what each phase would serve, in vehicles and in seconds [B, 2 K]."""
        w = dict(zip(WEIGHTS, (self.start + self.spread * self.offset).unbind(), strict=True))
        queue, moving, far, far_queue, exits, released, since, waited, shows, elapsed = observation.split_with_sizes(
            [8, 8, 4, 4, 4, 4, 8, 8, 8, 1], dim=1
        )
        right_of_way = (shows @ self.protected)[:, :, None]  # [B, M, 1]
        shares = torch.stack([1 - w["left_share"], w["left_share"]]).repeat(4)  # [M]
        coming = torch.stack(
            [
                w[f"moving_{when}"] * moving
                + shares * (w[f"far_{when}"] * far + w[f"released_{when}"] * released).repeat_interleave(2, dim=1)
                for when in ("shown", "other")
            ],
            dim=2,
        )  # [B, M, 2]
        coming = (coming * torch.cat([right_of_way, 1 - right_of_way], dim=2)).sum(dim=2)  # [B, M]
        vehicles = queue + coming + shares * w["far_queue"] * far_queue.repeat_interleave(2, dim=1)
        pressing = vehicles + w["waited"] * waited + w["since"] * since * (queue > 0)
        served = self.protected + w["yielding"] * self.gives_way  # [K, M]
        leaving = torch.tensor([2, 3, 0, 1])  # straight on from N is S
        worth = pressing @ served.T - w["exit_queue"] * (exits[:, leaving] @ self.protected[:, 0::2].T)  # [B, K]
        lanes = torch.tensor([LANES_THROUGH, 1.0] * 4)
        busiest = ((vehicles / lanes)[:, None] * self.protected).amax(dim=2)  # [B, K] vehicles on one lane
        seconds = w["least_s"].abs() + 2.0 * busiest + w["change_s"] * (1 - shows)
        rate = worth * seconds.clamp(min=0.5) ** -w["per_second"]
        keeping = w["keeping"] * torch.exp(-w["keeping_fades"].abs() * elapsed / 10) * shows
        return self.sharpness * (rate + keeping), torch.cat([worth, seconds], dim=1)

    def evolvable(self) -> tuple[str, ...]:
        """Parameters that closed-loop search changes."""
        return ("offset",)

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Nothing: every weight has a meaning."""
        return {}
