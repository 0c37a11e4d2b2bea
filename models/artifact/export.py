"""From a trained module to an ONNX graph that answers the same, or a refusal.

Torch's older exporter would take a twentieth of the time, but it freezes the batch size of some families here.
"""

import copy
import logging
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.artifact import graph
from models.artifact.predictor import open_session

Inputs = Mapping[str, NDArray[Any]]

PARITY_BATCHES = (1, 2, 7, 64)
PARITY_TOLERANCE = 1e-4
_EXPORTER_LOG = "torch.onnx._internal.exporter._registration"


class ExportError(RuntimeError):
    """A graph that does not answer like the module it came from."""


@dataclass(frozen=True)
class Exported:
    """An exported graph; `difference` is the largest one from eager, as a share of the output's scale."""

    num_bytes: int
    difference: float
    opset: int


def export(network: nn.Module, inputs: Inputs, target: Path, tolerance: float = PARITY_TOLERANCE) -> Exported:
    """Write `network` to the ONNX file `target`, with a dynamic batch size, all weights inside.

    inputs: real samples by the name of the argument of `forward`, best 64 rows or more; two of them are traced, and
    batches of 1, 2, 7 and 64 are answered by both. The module itself is left as it was.
    Raises ExportError with the numbers when an answer differs by more than `tolerance` times the output's scale.
    """
    eager = copy.deepcopy(network).cpu().eval().requires_grad_(False)
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")
        model = graph.stripped(_traced(eager, _tensors(_rows(inputs, 2))))
    content = graph.to_bytes(model)
    difference = _check_parity(eager, content, inputs, tolerance)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return Exported(len(content), difference, graph.opset_of(model))


class _InOrder(nn.Module):
    """The module called with its inputs in order: torch.export gives up on a `forward` that takes `**inputs`."""

    def __init__(self, network: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        output: Tensor = self.network(**dict(zip(self.names, inputs, strict=True)))
        return output


def _traced(eager: nn.Module, example: dict[str, Tensor]) -> Any:
    """The graph that torch.export finds, its batch size dynamic."""
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    logging.getLogger(_EXPORTER_LOG).setLevel(logging.ERROR)  # it warns of torchvision, which nobody needs here
    program = torch.onnx.export(
        _InOrder(eager, tuple(example)),
        tuple(example.values()),
        dynamo=True,
        dynamic_shapes=(tuple({0: batch} for _ in example),),
        input_names=list(example),
        output_names=["output"],
        opset_version=graph.OPSET,
        verbose=False,
    )
    if program is None:
        raise ExportError("torch.onnx.export gave no program")
    return program.model_proto


def _check_parity(eager: nn.Module, content: bytes, inputs: Inputs, tolerance: float) -> float:
    """Largest difference between both on real samples, as a share of the output's scale."""
    session = open_session(content)
    names = [item.name for item in session.get_inputs()]  # an input that nothing depends on may be left out
    worst = 0.0
    for batch_size in PARITY_BATCHES:
        batch = _rows(inputs, batch_size)
        got = session.run(None, {name: batch[name] for name in names})[0]
        with torch.inference_mode():
            expected = eager(**_tensors(batch)).numpy()
        if got.shape != expected.shape:
            raise ExportError(f"batch of {batch_size}: expected shape {expected.shape}, the graph gave {got.shape}")
        absolute = float(np.abs(got - expected).max())
        scale = max(float(np.abs(expected).max()), 1e-12)
        if not absolute <= tolerance * scale:  # NaN is refused too
            raise ExportError(
                f"batch of {batch_size}: the graph differs from eager by {absolute:.3g}, or {absolute / scale:.3%} "
                f"of the output's scale {scale:.3g}; allowed {tolerance:.3%}"
            )
        worst = max(worst, absolute / scale)
    return worst


def _rows(inputs: Inputs, batch_size: int) -> dict[str, NDArray[Any]]:
    """The first rows; where there are too few, they repeat."""
    num_rows = len(next(iter(inputs.values())))
    return {name: array[np.arange(batch_size) % num_rows] for name, array in inputs.items()}


def _tensors(batch: Inputs) -> dict[str, Tensor]:
    return {name: torch.from_numpy(array) for name, array in batch.items()}
