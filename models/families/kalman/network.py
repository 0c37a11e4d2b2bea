"""The extended Kalman filter of `models.data.kalman`, which knows no map.

Kalman: A New Approach to Linear Filtering and Prediction Problems, J. Basic Engineering 82(1), 1960; in its extended
form on a turning car: Thrun, Burgard, Fox, Probabilistic Robotics, 2005, chapter 3.3.
"""

from collections.abc import Iterable

from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.kalman import follow
from models.data.shape import TensorShape
from models.tasks.tensors import TensorBatch


class Kalman(nn.Module):
    """Nothing to learn: its noise was chosen on train drives of the default data set."""

    def __init__(self, shape: TensorShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()

    def forward(self, fixes: Tensor, patch: Tensor, fixes_mask: Tensor) -> Tensor:
        """fixes, fixes_mask: [B, T, 6], patch: [B, 1, P, P], in the graph but not looked at; returns [B, 2]."""
        return follow(fixes, fixes_mask[:, :, 0]).state[:, -1, :2] + 0 * patch[:, 0, 0, :1]

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:
        """Nothing to fit."""
