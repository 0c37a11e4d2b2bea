"""Multinomial logistic regression on the pixels: the bar that a network must clear.

Cox: The Regression Analysis of Binary Sequences, Journal of the Royal Statistical Society B 20(2), 1958.
"""

from torch import Tensor, nn

from models.catalog import FamilyConfig
from models.data.shape import ImageShape


class Logistic(nn.Module):
    """One linear layer."""

    def __init__(self, shape: ImageShape, config: FamilyConfig) -> None:  # noqa: ARG002
        super().__init__()
        self.head = nn.Linear(shape.num_channels * shape.height * shape.width, shape.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W] in 0..1; returns logits [B, K]."""
        return self.forward_hidden(x)[0]

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the flat pixels [B, D]."""
        hidden = x.flatten(1)
        return self.head(hidden), hidden
