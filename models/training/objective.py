"""What the loop makes small: a module that takes the network and a batch and gives the loss."""

import torch
from torch import Tensor, nn

from models.data.batches import Samples
from models.data.scaling import Scaler
from models.training.build import find_task
from models.training.tensors import Tensors, tensor_batches

VAL_BATCH_SIZE = 256


class TaskLoss(nn.Module):
    """The task's own loss over what is observed; forecast losses are in standard deviations of the target."""

    def __init__(self, task: str, kind: str, scaler: Scaler | None = None) -> None:
        super().__init__()
        known = find_task(task).losses
        if kind not in known:
            raise ValueError(f"train.loss: expected one of {', '.join(known)} for {task}, got '{kind}'")
        self.kind = kind
        self.loss = find_task(task).loss(kind, scaler.std[0] if scaler else 1.0)

    def forward(self, network: nn.Module, batch: Tensors) -> Tensor:
        """The mean loss, a scalar."""
        return self.loss(network(**batch.inputs), batch.target, batch.target_mask)


@torch.no_grad()
def mean_loss(network: nn.Module, objective: nn.Module, samples: Samples, device: torch.device) -> float:
    """The objective's mean over all observed values of these samples."""
    network.eval()
    total, weight = 0.0, 0.0
    for batch in tensor_batches(samples, VAL_BATCH_SIZE, device):
        num_observed = float(batch.target_mask.sum())
        total += float(objective(network, batch)) * num_observed
        weight += num_observed
    return total / max(weight, 1.0)
