"""The mean of the training targets: what is known without looking at a single feature.

Hastie, Tibshirani, Friedman: The Elements of Statistical Learning, 2nd edition, 2009, section 3.2.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.shape import TensorShape
from models.tasks.tensors import TensorBatch


class Mean(nn.Module):
    """0 in scaled units, for the task's wrapper takes out the mean of the training targets."""

    center: Tensor

    def __init__(self, shape: TensorShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.register_buffer("center", torch.zeros(shape.output.shape))

    def forward(self, **inputs: Tensor) -> Tensor:
        """Inputs [B, ...]; returns [B, *output]."""
        first = next(iter(inputs.values()))
        nothing = first.flatten(1)[:, :1] * 0  # [B, 1]: as many rows as were asked
        return nothing.reshape(-1, *([1] * self.center.dim())) + self.center

    def fit(self, train: Iterable[TensorBatch], val: Iterable[TensorBatch]) -> None:
        """Nothing to fit: the wrapper knows the mean."""
