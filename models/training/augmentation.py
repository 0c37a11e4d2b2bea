"""Augments training images: small random shifts, turns, scales and changes of light.

Simard, Steinkraus, Platt: Best Practices for Convolutional Neural Networks Applied to Visual Document Analysis, ICDAR
2003. No image is mirrored: a mirrored digit or traffic sign is another one, or none.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from models.training.tensors import Tensors


@dataclass(frozen=True)
class Strength:
    """The most that one image is changed by; every amount is drawn evenly between minus this and this."""

    shift: float  # share of the image's side
    turn_deg: float
    scale: float  # share of its size
    contrast: float  # share of the distance to the image's mean
    brightness: float  # of the range 0..1


STRENGTHS = {
    "light": Strength(shift=0.08, turn_deg=10, scale=0.1, contrast=0.2, brightness=0.1),
    "strong": Strength(shift=0.12, turn_deg=20, scale=0.2, contrast=0.5, brightness=0.2),
}


def augment(batch: Tensors, kind: str, random: torch.Generator) -> Tensors:
    """The batch with its images changed; "none" gives it back as it is. `random` is a generator of the CPU."""
    if kind == "none":
        return batch
    return batch._replace(inputs={**batch.inputs, "x": augment_images(batch.inputs["x"], STRENGTHS[kind], random)})


def augment_images(x: Tensor, strength: Strength, random: torch.Generator) -> Tensor:
    """x: [B, C, H, W] in 0..1; returns the same shape and range, each image changed by amounts of its own.

    What comes in from outside the image repeats its edge.
    """
    num_images, _, height, width = x.shape
    amounts = (2 * torch.rand(num_images, 6, generator=random) - 1).to(x.device)
    turn = amounts[:, 0] * math.radians(strength.turn_deg)
    size = 1 + amounts[:, 1] * strength.scale
    cos, sin = turn.cos() * size, turn.sin() * size
    across, down = amounts[:, 2] * 2 * strength.shift, amounts[:, 3] * 2 * strength.shift  # the grid runs from -1 to 1
    rows = [cos, -sin * height / width, across, sin * width / height, cos, down]
    theta = torch.stack(rows, dim=1).view(num_images, 2, 3)
    grid = functional.affine_grid(theta, list(x.shape), align_corners=False)
    moved = functional.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    contrast = 1 + amounts[:, 4].view(-1, 1, 1, 1) * strength.contrast
    brightness = amounts[:, 5].view(-1, 1, 1, 1) * strength.brightness
    mean = moved.mean(dim=(1, 2, 3), keepdim=True)
    return ((moved - mean) * contrast + mean + brightness).clamp(0, 1)
