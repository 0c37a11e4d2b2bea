"""Teaches a network by its own sure answers where labels are few.

The same image, changed more, must get the same answer. Sohn et al.: FixMatch, NeurIPS 2020. The answer to an image as
it comes (mildly changed by `train.augment`) is the pseudo-label of the image changed strongly, where it is sure.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.training.augmentation import STRENGTHS, augment_images
from models.training.objective import TaskLoss
from models.training.tensors import Tensors

SURE = 0.9  # of the probabilities, the largest must be at least this


class Consistency(nn.Module):
    """Cross entropy of what is labelled, and of all images against the network's own sure answers."""

    def __init__(self, hard: TaskLoss, weight: float = 1.0) -> None:
        super().__init__()
        self.hard, self.weight = hard, weight

    def forward(self, network: nn.Module, batch: Tensors) -> Tensor:
        """The mean loss, a scalar. What is drawn depends on torch's own generator, which the loop seeds per epoch."""
        x = batch.inputs["x"]
        random = torch.Generator().manual_seed(int(torch.randint(2**31, ())))
        changed = augment_images(x, STRENGTHS["strong"], random)
        mild, strong = network(x=torch.cat([x, changed])).chunk(2)  # [B, K] each
        sureness, answer = mild.detach().softmax(dim=1).max(dim=1)
        each = functional.cross_entropy(strong, answer, reduction="none")
        own = (each * (sureness >= SURE)).mean()
        loss: Tensor = self.hard.loss(mild, batch.target, batch.target_mask) + self.weight * own
        return loss
