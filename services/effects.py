"""What every explanation is made of: who is asked, and how effects are written."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest

METHODS = ("occlusion",)
FORMATS = {"json": "application/json", "png": "image/png"}
ROWS_AT_ONCE = 64  # a few milliseconds of the event loop
NUM_MOST = 10


class Answering(Protocol):
    """What is asked: one served model, or an ensemble of some."""

    @property
    def manifest(self) -> Manifest:
        """The contract."""

    @property
    def model_version(self) -> str:
        """`product/version`."""

    async def infer(self, inputs: dict[str, NDArray[Any]]) -> Mapping[str, NDArray[np.float32]]:
        """Named output tensors; may raise a Refusal."""


def tensor(outputs: Mapping[str, NDArray[np.float32]]) -> NDArray[np.float32]:
    """The one output tensor of any task."""
    return next(iter(outputs.values()))


def short(value: float) -> float:
    """Six significant digits, as many as a float32 has."""
    return float(f"{value:.6g}")


def largest_first(effects: NDArray[np.float64]) -> list[tuple[int, float]]:
    """The places of the effects that moved something most, in flat order, each with its share of all sizes."""
    flat = effects.ravel()
    total = float(np.abs(flat).sum())
    order = np.argsort(-np.abs(flat), kind="stable")[:NUM_MOST]
    return [(int(place), abs(float(flat[place])) / total) for place in order if flat[place] != 0]
