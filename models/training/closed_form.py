"""Fits families that need no training; they go through the same door and yield one Epoch."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from models.data.batches import Samples
from models.tasks.forecast import Scaled, WindowBatch
from models.tasks.tensors import TensorBatch, Wrapped
from models.training.epoch import Epoch
from models.training.objective import mean_loss
from models.training.tensors import tensor_batches

FIT_BATCH_SIZE = 512


@runtime_checkable
class ClosedForm(Protocol):
    """A network that fits itself. Both iterables can be gone over again and give scaled batches."""

    def fit(self, train: Iterable[Any], val: Iterable[Any]) -> None: ...


@dataclass(frozen=True)
class ScaledBatches:
    """Samples as scaled batches, as often as asked."""

    network: Scaled
    samples: Samples
    device: torch.device

    def __iter__(self) -> Iterator[WindowBatch]:
        for batch in tensor_batches(self.samples, FIT_BATCH_SIZE, self.device):
            x, mask, clock = (batch.inputs[name] for name in ("x", "mask", "clock"))
            target = self.network.scale_target(batch.target, batch.target_mask)
            yield WindowBatch(self.network.scale(x, mask), mask, clock, target, batch.target_mask)


@dataclass(frozen=True)
class TensorBatches:
    """Samples of a tensor task as the family sees them, as often as asked."""

    network: Wrapped
    samples: Samples
    device: torch.device

    def __iter__(self) -> Iterator[TensorBatch]:
        for batch in tensor_batches(self.samples, FIT_BATCH_SIZE, self.device):
            target = self.network.scale_target(batch.target, batch.target_mask, batch.inputs)
            yield TensorBatch(self.network.scale(batch.inputs), target, batch.target_mask)


def is_closed_form(network: nn.Module) -> bool:
    """Whether `network` holds a family that fits itself."""
    return isinstance(network, Scaled | Wrapped) and isinstance(network.network, ClosedForm)


@torch.no_grad()
def fit_closed_form(
    network: nn.Module,
    judge: nn.Module,
    train: Samples,
    val: Samples,
    device: torch.device,
    clock: Callable[[], float],
) -> Epoch:
    """Fit in place and measure once; raises TypeError for a network that is trained by gradient."""
    if not (isinstance(network, Scaled | Wrapped) and isinstance(network.network, ClosedForm)):
        raise TypeError(f"expected a closed-form family, got {type(network).__name__}")
    start = clock()
    if isinstance(network, Wrapped):
        network.network.fit(TensorBatches(network, train, device), TensorBatches(network, val, device))
    else:
        network.network.fit(ScaledBatches(network, train, device), ScaledBatches(network, val, device))
    train_loss, val_loss = mean_loss(network, judge, train, device), mean_loss(network, judge, val, device)
    return Epoch(1, train_loss, val_loss, 0.0, clock() - start, True, 1)
