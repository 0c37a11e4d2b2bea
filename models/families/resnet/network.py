"""Residual blocks of two convolutions, a mean over the image, a linear head.

He, Zhang, Ren, Sun: Deep Residual Learning for Image Recognition, CVPR 2016; the small form of its section 4.2, where
the image keeps its size in the stem, with 1 x 1 convolutions where a block changes it.
"""

import torch
from torch import Tensor, nn

from models.data.shape import ImageShape
from models.families.resnet.card import ResnetConfig

LARGE = 64  # pixels of the shorter side; the stem halves what is larger


class Block(nn.Module):
    """x + conv(relu(conv(x))), each convolution followed by batch normalisation (Ioffe and Szegedy, ICML 2015)."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(after)
        self.second = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.second_norm = nn.BatchNorm2d(after)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=False), nn.BatchNorm2d(after))

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, D, H, W]; returns [B, D', H', W']."""
        inner = torch.relu(self.first_norm(self.first(x)))
        return torch.relu(self.second_norm(self.second(inner)) + self.shortcut(x))


class Resnet(nn.Module):
    """A stem, then stages of `num_blocks` blocks; each stage after the first halves images of 4 pixels or more."""

    def __init__(self, shape: ImageShape, config: ResnetConfig) -> None:
        super().__init__()
        size, width = min(shape.height, shape.width), config.widths[0]
        stride = 2 if size > LARGE else 1
        size //= stride
        stem = nn.Conv2d(shape.num_channels, width, 3, stride, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(width), nn.ReLU())
        self.blocks = nn.ModuleList()
        for stage, after in enumerate(config.widths):
            for number in range(config.num_blocks):
                stride = 2 if number == 0 and stage > 0 and size >= 4 else 1
                size //= stride
                self.blocks.append(Block(width, after, stride))
                width = after
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(width, shape.num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """x: [B, C, H, W] in 0..1; returns logits [B, K]."""
        return self.forward_hidden(x)[0]

    def forward_hidden(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Logits and the pooled features [B, D]."""
        features = self.stem(x)
        for block in self.blocks:
            features = block(features)
        hidden = features.mean(dim=(2, 3))  # [B, D]
        return self.head(self.dropout(hidden)), hidden

    def prunable(self) -> dict[str, list[tuple[str, int, int]]]:
        """Groups of units, as `models.compression.pruning` reads them: the channels inside each block.

        What a block adds to is shared by its whole stage and stays as wide as it is.
        """
        parts = ("weight", "bias", "running_mean", "running_var")
        return {
            f"blocks.{i}": [
                (f"blocks.{i}.first.weight", 0, 0),
                *((f"blocks.{i}.first_norm.{part}", 0, 0) for part in parts),
                (f"blocks.{i}.second.weight", 1, 0),
            ]
            for i in range(len(self.blocks))
        }
