"""What the tensor tasks share: named inputs in physical units in, one output tensor out.

Networks see z-scored inputs with 0 for what is missing, and a mask beside each input that may miss something. `Wrapped`
does this inside the module, so that the exported graph takes physical values with NaN and gives the task's own output.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.data.card import TensorKind, TensorSpec
from models.data.scaling import Scaler
from models.data.shape import TensorShape

ELEMENT_LOSSES: dict[str, Callable[..., Tensor]] = {
    "mae": functional.l1_loss,
    "mse": functional.mse_loss,
    "huber": functional.smooth_l1_loss,
}


class TensorBatch(NamedTuple):
    """A batch as a closed-form family fits on it: inputs scaled, with masks; target scaled, 0 where unknown."""

    inputs: dict[str, Tensor]
    target: Tensor
    target_mask: Tensor


class Wrapped(nn.Module):
    """A network between raw inputs and the task's output.

    value outputs are scaled back to physical units, added to the input `residual_of` where one is named; the logits of
    binary and choice tasks are handed on.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(
        self, network: nn.Module, shape: TensorShape, scaler: Scaler, kind: TensorKind, residual_of: str = ""
    ) -> None:
        super().__init__()
        self.network, self.kind, self.residual_of = network, kind, residual_of
        self.specs = {spec.name: spec for spec in shape.inputs}
        for name, spec in self.specs.items():
            if spec.scaled:
                own = scaler.inputs.get(name, Scaler((0.0,), (1.0,)))
                self.register_buffer(f"{name}_mean", torch.tensor(own.mean, dtype=torch.float32))
                self.register_buffer(f"{name}_rate", torch.tensor(own.std, dtype=torch.float32).reciprocal())
        mean, std = (scaler.mean, scaler.std) if shape.output.scaled else ((0.0,), (1.0,))
        self.register_buffer("target_mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(std, dtype=torch.float32))

    def forward(self, **inputs: Tensor) -> Tensor:
        """Raw inputs by name [B, *shape], NaN where missing; returns [B, *output]."""
        return self.physical(self.network(**self.scale(inputs)), inputs)

    def forward_hidden(self, **inputs: Tensor) -> tuple[Tensor, Tensor]:
        """The output, and the network's hidden state [B, ..., D]."""
        output, hidden = self.network.forward_hidden(**self.scale(inputs))  # type: ignore[operator]
        return self.physical(output, inputs), hidden

    def scale(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """What the network is given: scaled inputs, 0 where missing, and `<name>_mask` of those that may miss."""
        given = {}
        for name, spec in self.specs.items():
            values = inputs[name]
            if spec.scaled:
                values = (values - getattr(self, f"{name}_mean")) * getattr(self, f"{name}_rate")
            if spec.can_miss:
                missing = torch.isnan(values)
                given[f"{name}_mask"] = (~missing).to(values.dtype)
                values = torch.where(missing, torch.zeros_like(values), values)
            given[name] = values
        return given

    def physical(self, output: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The network's output in the unit of the target."""
        if self.kind != "value":
            return output
        if self.residual_of:
            return output * self.target_std + inputs[self.residual_of]
        return output * self.target_std + self.target_mean

    def scale_target(self, target: Tensor, mask: Tensor, inputs: dict[str, Tensor]) -> Tensor:
        """The target as the network should give it, 0 where unknown."""
        if self.kind != "value":
            return target
        base = inputs[self.residual_of] if self.residual_of else self.target_mean
        return (target - base) / self.target_std * mask


class TensorTask:
    """A task by its kind: "value" is a quantity, "binary" yes or no per entry, "choice" one of K."""

    def __init__(self, name: str, kind: TensorKind, residual_of: str = "") -> None:
        self.name, self.kind, self.residual_of = name, kind, residual_of
        self.losses: tuple[str, ...] = {
            "value": tuple(ELEMENT_LOSSES), "binary": ("bce",), "choice": ("cross_entropy",)
        }[kind]  # fmt: skip
        self.input_names: tuple[str, ...] = ()  # those of the data

    def wrap(self, network: nn.Module, shape: TensorShape, scaler: Scaler) -> nn.Module:
        """The module that is trained, exported and served."""
        return Wrapped(network, shape, scaler, self.kind, self.residual_of)

    def loss(self, kind: str, scale: float) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
        """Mean loss over known targets; of values in units of `scale` (the target's standard deviation)."""

        def mean_loss(output: Tensor, target: Tensor, mask: Tensor) -> Tensor:
            if kind == "cross_entropy":
                each = functional.cross_entropy(output, target.long(), reduction="none")
            elif kind == "bce":
                each = functional.binary_cross_entropy_with_logits(output, target, reduction="none")
            else:
                each = ELEMENT_LOSSES[kind](output / scale, target / scale, reduction="none")
            return (each * mask).sum() / mask.sum().clamp(min=1)

        return mean_loss

    def example_inputs(self, shape: TensorShape, batch_size: int, seed: int = 0) -> dict[str, np.ndarray]:
        """Random inputs of the promised shapes, types and ranges; about one in twenty missing where that is allowed."""
        random = np.random.default_rng(seed)
        return {spec.name: _example(spec, batch_size, random) for spec in shape.inputs}


def _example(spec: TensorSpec, batch_size: int, random: np.random.Generator) -> np.ndarray:
    low, high = spec.minimum, spec.maximum
    low = (high - 1 if high is not None else -1.0) if low is None else low
    high = low + 2 if high is None else high
    size = (batch_size, *spec.shape)
    if spec.dtype == "int64":
        return random.integers(int(low), int(high) + 1, size)
    values = random.uniform(low, high, size).astype(np.float32)
    if spec.can_miss:
        values[random.random(size) < 0.05] = np.nan
    return values
