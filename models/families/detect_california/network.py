"""Is occupancy high here, low at the next station, and did it just fall there?

The California algorithm. Payne and Tignor: Freeway incident-detection algorithms based on decision trees with states,
Transportation Research Record 682, 1978. All three tests must pass, so the least passed one is the score; a logistic
curve makes it a probability.
"""

from collections.abc import Iterable
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.shape import TensorShape
from models.families.detect_california.card import CaliforniaConfig
from models.tasks.tensors import TensorBatch

OCCUPANCY = 2  # channel
LEAST = 0.05  # of a standard deviation: an empty station's occupancy is not divided by 0
NEWTON_STEPS = 12


class California(nn.Module):
    """`zero` is no occupancy in scaled units; `thresholds` and `spreads` [3]; `curve` is slope and intercept."""

    zero: Tensor
    thresholds: Tensor
    spreads: Tensor
    curve: Tensor

    def __init__(self, shape: TensorShape, config: CaliforniaConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.config = config
        self.register_buffer("zero", torch.zeros(()))
        self.register_buffer("thresholds", torch.zeros(3))
        self.register_buffer("spreads", torch.ones(3))
        self.register_buffer("curve", torch.zeros(2))

    def forward(self, x: Tensor, x_mask: Tensor) -> Tensor:  # noqa: ARG002
        """x: [B, T, N, C]; returns logits [B, N]."""
        score = ((self._tests(x) - self.thresholds) / self.spreads).amin(dim=2)
        return score * self.curve[0] + self.curve[1]

    def _tests(self, x: Tensor) -> Tensor:
        """OCCDF, OCCRDF and DOCCTD of every station and the next; the last station is its own next: [B, N, 3]."""
        occupancy = (x[..., OCCUPANCY] - self.zero).clamp(min=LEAST)  # [B, T, N]
        here = occupancy[:, -1]
        following = torch.cat([occupancy[:, :, 1:], occupancy[:, :, -1:]], dim=2)
        next_now, next_before = following[:, -1], following[:, -1 - self.config.minutes_apart]
        difference = here - next_now
        return torch.stack([difference, difference / here, (next_before - next_now) / next_before], dim=2)

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:  # noqa: ARG002
        """Every triple of thresholds competes by the likelihood of its curve on the training runs."""
        self.zero.copy_(torch.stack([batch.inputs["x"][..., OCCUPANCY].min() for batch in train]).min())
        tests = torch.cat([self._tests(batch.inputs["x"]).flatten(0, 1) for batch in train])
        target = torch.cat([batch.target.flatten() for batch in train])
        known = torch.cat([batch.target_mask.flatten() for batch in train])
        self.spreads.copy_(tests.std(dim=0))
        tried = torch.stack([torch.quantile(column[: 2**23], torch.tensor(self.config.shares)) for column in tests.T])
        best = float("inf")
        for places in product(range(len(self.config.shares)), repeat=3):
            thresholds = torch.stack([tried[test, place] for test, place in enumerate(places)])
            score = ((tests - thresholds) / self.spreads).amin(dim=1)
            curve, loss = _logistic(score, target, known)
            if loss < best:
                best = loss
                self.thresholds.copy_(thresholds)
                self.curve.copy_(curve)


def _logistic(score: Tensor, target: Tensor, known: Tensor) -> tuple[Tensor, float]:
    """Slope and intercept by Newton's method, and their loss."""
    rows = torch.stack([score, torch.ones_like(score)], dim=1)
    curve = torch.zeros(2, dtype=rows.dtype, device=rows.device)
    for _ in range(NEWTON_STEPS):
        share = torch.sigmoid(rows @ curve)
        slope = rows.T @ (known * (share - target)) + 1e-3 * curve
        bend = (rows * (known * share * (1 - share))[:, None]).T @ rows + 1e-3 * torch.eye(2, device=rows.device)
        curve = curve - torch.linalg.solve(bend, slope)
    return curve, float(functional.binary_cross_entropy_with_logits(rows @ curve, target, weight=known))
