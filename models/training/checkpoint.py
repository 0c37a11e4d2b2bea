"""Weights and checkpoints as safetensors with JSON inside, written whole or not at all.

A checkpoint is one file, so a kill leaves the one of this epoch or the one of the epoch before, never a mixture.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from models.training.epoch import Epoch

CHECKPOINT, WEIGHTS, DONE = "checkpoint.safetensors", "weights.safetensors", "done.json"


class CheckpointError(ValueError):
    """A folder that holds another run's checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """Everything that the next epoch depends on. `parts`: tensors of model, best, optimizer, objective.

    Random numbers need no state: data order and dropout of an epoch are seeded by (seed, epoch).
    """

    recipe: str
    history: tuple[Epoch, ...]
    parts: Mapping[str, Mapping[str, Tensor]]


def write_atomic(path: Path, content: bytes) -> None:
    """The file holds all of `content` or what it held before, also after a power cut."""
    draft = path.with_name(path.name + ".tmp")
    with draft.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Replace the folder's checkpoint."""
    tensors = {f"{part}/{name}": value for part, group in checkpoint.parts.items() for name, value in group.items()}
    metadata = {"recipe": checkpoint.recipe, "history": json.dumps([asdict(epoch) for epoch in checkpoint.history])}
    write_atomic(folder / CHECKPOINT, save(_plain(tensors), metadata))


def read_checkpoint(folder: Path, recipe: str) -> Checkpoint | None:
    """The folder's checkpoint, None where there is none; raises CheckpointError if another recipe wrote it."""
    path = folder / CHECKPOINT
    if not path.is_file():
        return None
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    if metadata["recipe"] != recipe:
        raise CheckpointError(f"{path.name}: expected a checkpoint of {recipe}, got one of {metadata['recipe']}")
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in load_file(path).items():
        part, _, name = key.partition("/")
        parts.setdefault(part, {})[name] = value
    return Checkpoint(recipe, tuple(Epoch(**epoch) for epoch in json.loads(metadata["history"])), parts)


def write_weights(path: Path, network: nn.Module) -> None:
    """Every tensor of the network, whole or not at all."""
    write_atomic(path, save(_plain(network.state_dict())))


def write_done(folder: Path, network: nn.Module, history: tuple[Epoch, ...]) -> None:
    """Weights first, `done.json` after them; then the checkpoint is of no more use."""
    write_weights(folder / WEIGHTS, network)
    write_atomic(folder / DONE, json.dumps([asdict(epoch) for epoch in history], indent=1).encode())
    (folder / CHECKPOINT).unlink(missing_ok=True)


def read_history(folder: Path) -> tuple[Epoch, ...]:
    """Every epoch of a finished run, also those trained before a kill; empty while it is not done."""
    path = folder / DONE
    return tuple(Epoch(**epoch) for epoch in json.loads(path.read_text())) if path.is_file() else ()


def load_weights(network: nn.Module, path: Path) -> None:
    """Load weights; where the file's layers are narrower (structured pruning), the network's become as narrow."""
    adopt(network, load_file(path))


def adopt(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load tensors whose sizes may differ from the network's: its layers take their sizes."""
    for name, tensor in tensors.items():
        _fit_shape(network, name, tensor)
    network.load_state_dict(tensors)


WIDTHS: dict[type[nn.Module], tuple[str | None, ...]] = {  # attributes that mirror the sizes of `weight`
    nn.Linear: ("out_features", "in_features"),
    nn.Conv2d: ("out_channels", "in_channels"),
    nn.BatchNorm2d: ("num_features",),
    nn.Embedding: ("num_embeddings", "embedding_dim"),
}


def _fit_shape(network: nn.Module, name: str, tensor: Tensor) -> None:
    path, _, leaf = name.rpartition(".")
    module = network.get_submodule(path)
    current: Any = getattr(module, leaf)
    if current.shape == tensor.shape:
        return
    empty = torch.empty(tensor.shape, dtype=current.dtype, device=current.device)
    setattr(module, leaf, nn.Parameter(empty) if isinstance(current, nn.Parameter) else empty)
    if isinstance(module, nn.LSTM | nn.GRU) and leaf == "weight_ih_l0":
        num_gates = 4 if isinstance(module, nn.LSTM) else 3
        module.hidden_size, module.input_size = tensor.shape[0] // num_gates, tensor.shape[1]
    elif leaf == "weight":
        for attribute, size in zip(WIDTHS.get(type(module), ()), tensor.shape, strict=False):
            setattr(module, str(attribute), size)


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
