"""Batches as tensors on a device."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from models.data.batches import Batch, Indices, Samples, batches


class Tensors(NamedTuple):
    """A batch on a device; `inputs` are the keyword arguments of the network's `forward`."""

    inputs: dict[str, Tensor]
    target: Tensor
    target_mask: Tensor


def to_tensors(batch: Batch, device: torch.device) -> Tensors:
    """The same batch as tensors; on a CPU the memory is shared with the arrays."""
    inputs = {name: torch.from_numpy(array).to(device) for name, array in batch.inputs.items()}
    return Tensors(inputs, torch.from_numpy(batch.target).to(device), torch.from_numpy(batch.target_mask).to(device))


def tensor_batches(
    samples: Samples, batch_size: int, device: torch.device, order: Indices | None = None
) -> Iterator[Tensors]:
    """All samples in `order`, `batch_size` at a time, as tensors."""
    for batch in batches(samples, batch_size, order):
        yield to_tensors(batch, device)


def choose_device(wish: str) -> torch.device:
    """`auto` is CUDA where there is one; a wish for CUDA where there is none is refused."""
    has_cuda = torch.cuda.is_available()
    if wish == "cuda" and not has_cuda:
        raise ValueError("train.device: expected a CUDA device for 'cuda', got none; use 'auto' or 'cpu'")
    return torch.device("cuda" if wish == "cuda" or (wish == "auto" and has_cuda) else "cpu")
