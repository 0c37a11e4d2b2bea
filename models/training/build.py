"""From names and cards to modules: the task by its name, the network by its family's card."""

import importlib
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from models.catalog import FamilyCard, FamilyConfig
from models.data.scaling import Scaler
from models.data.shape import ForecastShape, ImageShape, TensorShape

Shape = ForecastShape | ImageShape | TensorShape


class Task(Protocol):
    """A promise: what goes in, what comes out, what is lost. `models/tasks/<name>.py` holds one as TASK."""

    name: str
    input_names: tuple[str, ...]
    losses: tuple[str, ...]

    def wrap(self, network: nn.Module, shape: Any, scaler: Scaler) -> nn.Module: ...

    def loss(self, kind: str, scale: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]: ...

    def example_inputs(self, shape: Any, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]: ...


def find_task(name: str) -> Task:
    """The task `name`; raises ModuleNotFoundError where there is no such file."""
    return importlib.import_module(f"models.tasks.{name}").TASK  # type: ignore[no-any-return]


def build_network(
    card: FamilyCard, shape: Shape, config: FamilyConfig, scaler: Scaler | None = None, seed: int = 0
) -> nn.Module:
    """A fresh network of this family, wrapped by its task, with weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = card.load()(shape, config)
    return find_task(card.task).wrap(network, shape, scaler or Scaler((0.0,), (1.0,)))  # images come in 0..1


def example_inputs(card: FamilyCard, shape: Shape, batch_size: int = 2, seed: int = 0) -> dict[str, Tensor]:
    """Inputs of the promised shapes and types, to trace a network with."""
    arrays = find_task(card.task).example_inputs(shape, batch_size, seed)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def num_parameters(network: nn.Module) -> int:
    """Numbers that were learned: parameters, and the fitted tables of closed-form families."""
    learned = sum(parameter.numel() for parameter in network.parameters())
    return learned or sum(tensor.numel() for tensor in network.state_dict().values())
