"""Which labels of the inputs moved one answer of a tensor task: hide each, predict again.

As `occlusion` for windows and images, whose docstring names the method. What is hidden is one label of an input's last
axis at every place of the other axes (a station at all steps, a feature), or a whole input where nothing is labelled.
It is hidden as missing where the contract lets it miss, else behind its mean on the training split.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.data.card import TensorSpec

MAX_LABELS = 2048  # of one explanation: each is one row to predict

Fill = Literal["", "missing", "mean"]  # "": whichever the input allows
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Hidden:
    """One thing that is hidden: a label of an input and its place on the last axis, or all of it where it has none."""

    input: str
    label: str
    place: slice
    value: NDArray[np.float32] | np.float32


@dataclass(frozen=True)
class TensorPlan:
    """What is hidden of one request, one thing at a time; `left_out` are inputs that cannot be hidden."""

    inputs: Inputs
    hidden: tuple[Hidden, ...]
    left_out: tuple[str, ...]

    def probe(self) -> Inputs:
        """Two rows: the request as it is, and with everything hidden that can be."""
        rows = {name: np.repeat(array, 2, axis=0) for name, array in self.inputs.items()}
        for one in self.hidden:
            rows[one.input][1, ..., one.place] = one.value
        return rows

    def without(self, start: int, stop: int) -> Inputs:
        """The request once for each thing from `start` to before `stop`, without that."""
        chosen = self.hidden[start:stop]
        rows = {name: np.repeat(array, len(chosen), axis=0) for name, array in self.inputs.items()}
        for row, one in enumerate(chosen):
            rows[one.input][row, ..., one.place] = one.value
        return rows


def tensor_plan(manifest: Manifest, inputs: Mapping[str, NDArray[Any]], fill: Fill = "") -> TensorPlan:
    """What to hide of one request [1, …]; raises InputError where no input can be hidden in this way."""
    hidden: list[Hidden] = []
    left_out = []
    for spec in manifest.inputs:
        found = _hidden(manifest, spec, fill)
        hidden += found
        left_out += [] if found else [spec.name]
    if not 1 <= len(hidden) <= MAX_LABELS:
        expected = f"inputs that may miss, or have a mean of the training split; at most {MAX_LABELS} labels"
        got = f"{len(hidden)} labels" if hidden else f"{', '.join(left_out)}: neither"
        raise InputError("not explained by occlusion", "query, fill", expected, got)
    return TensorPlan({name: array[:1] for name, array in inputs.items()}, tuple(hidden), tuple(left_out))


def _hidden(manifest: Manifest, spec: TensorSpec, fill: Fill) -> list[Hidden]:
    if spec.dtype != "float32" or not spec.shape:
        return []
    means = manifest.means.get(spec.name, ())
    if fill in ("", "missing") and spec.can_miss:
        values = np.full(spec.shape[-1], np.nan, np.float32)
    elif fill in ("", "mean") and means:
        values = np.broadcast_to(np.array(means, np.float32), spec.shape[-1])
    else:
        return []
    if not spec.labels:
        return [Hidden(spec.name, "", slice(None), values)]
    return [Hidden(spec.name, label, slice(i, i + 1), values[i]) for i, label in enumerate(spec.labels)]
