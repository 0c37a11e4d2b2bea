"""Classify: one of K classes from an image of C channels, as logits."""

from collections.abc import Callable

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

from models.data.scaling import Scaler
from models.data.shape import ImageShape


class ClassifyTask:
    """What every classification family promises: [B, C, H, W] in 0..1 to logits [B, K]."""

    name = "classify"
    input_names = ("x",)
    losses = ("cross_entropy",)

    def wrap(self, network: nn.Module, shape: ImageShape, scaler: Scaler) -> nn.Module:  # noqa: ARG002
        """The network itself: pixels come in 0..1 and need no fitted scaler."""
        return network

    def loss(self, kind: str, scale: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:  # noqa: ARG002
        """Mean cross entropy over labelled images."""

        def mean_loss(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            each = functional.cross_entropy(output, target.clamp(min=0), reduction="none")
            return (each * mask).sum() / mask.sum().clamp(min=1)

        return mean_loss

    def example_inputs(self, shape: ImageShape, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random images of the promised shape and type."""
        size = (batch_size, shape.num_channels, shape.height, shape.width)
        return {"x": np.random.default_rng(seed).random(size, dtype=np.float32)}


TASK = ClassifyTask()
