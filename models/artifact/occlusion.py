"""Which inputs moved one answer: hide each in turn, predict again, look at the change.

Occlusion (Zeiler and Fergus, Visualizing and Understanding Convolutional Networks, ECCV 2014, section 4.2). It asks the
served graph itself, quantised or not, and needs no gradient. An effect is the prediction minus what it is without that
input, so it has the prediction's unit, and is 0 for what the graph does not use. Effects do not add up where inputs
work together or stand in for each other.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest

MAX_EFFECTS = 512  # of a forecast: lags are taken together until there are no more than these, or one lag a node
PATCHES_PER_SIDE = 7  # of an image: a patch is this share of a side and moves by half of itself

Fill = Literal["missing", "mean", "zero"]
Inputs = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Box:
    """One thing that is hidden: a node's readings over some steps, or a patch of an image."""

    first: slice  # steps, or rows of pixels
    second: slice  # nodes, or columns of pixels


@dataclass(frozen=True)
class Plan:
    """What is hidden of one request, one thing at a time.

    inputs: the request, one row
    shape: sizes of `effects`: (nodes, groups of lags), or (places down, places across) of a patch
    boxes: what each of them hides, row by row
    starts: of each axis where its groups begin: the first step of a group of lags, or the first pixel of a patch
    size: steps in a group of lags (1, g), or pixels of a patch (down, across)
    """

    inputs: Inputs
    is_image: bool
    shape: tuple[int, int]
    boxes: tuple[Box, ...]
    starts: tuple[tuple[int, ...], tuple[int, ...]]
    size: tuple[int, int]

    @property
    def num_rows(self) -> int:
        return len(self.boxes)

    def probe(self, fill: Fill) -> Inputs:
        """Three rows: the request as it is, all of it hidden, and, of a forecast, only called missing but left there.

        A graph that answers the third like the first does not look at the mask.
        """
        rows = _repeated(self.inputs, 3)
        _hide(rows, 1, self._everything(), self.is_image, fill)
        if not self.is_image:
            rows["mask"][2] = 0
        return rows

    def hidden(self, start: int, stop: int, fill: Fill) -> Inputs:
        """The request once for each box from `start` to before `stop`, without that box."""
        boxes = self.boxes[start:stop]
        rows = _repeated(self.inputs, len(boxes))
        for row, box in enumerate(boxes):
            _hide(rows, row, box, self.is_image, fill)
        return rows

    def effects(self, prediction: float, without: NDArray[np.float32]) -> NDArray[np.float64]:
        """Signed change that each input made, of `shape`, from the predictions without each."""
        return (prediction - without.astype(np.float64)).reshape(self.shape)

    def _everything(self) -> Box:
        return Box(slice(None), slice(None))


def plan(manifest: Manifest, inputs: Mapping[str, NDArray[Any]]) -> Plan:
    """What to hide of one request [1, …]: each node at each group of lags, or a patch at each place."""
    one = {name: array[:1] for name, array in inputs.items()}
    if manifest.task == "classify":
        return _image_plan(one)
    num_steps, num_nodes = one["x"].shape[1:3]
    size = math.ceil(num_steps / max(MAX_EFFECTS // num_nodes, 1))
    starts = tuple(range(num_steps % size, num_steps, size))  # the latest group is whole
    starts = starts if starts[0] == 0 else (0, *starts)
    ends = (*starts[1:], num_steps)
    groups = [slice(start, end) for start, end in zip(starts, ends, strict=True)]
    boxes = tuple(Box(group, slice(node, node + 1)) for node in range(num_nodes) for group in groups)
    return Plan(one, False, (num_nodes, len(groups)), boxes, (tuple(range(num_nodes)), starts), (1, size))


def ignores_mask(probed: NDArray[np.float32]) -> bool:
    """Whether the answers to `Plan.probe` show that the graph does not look at the mask."""
    return bool(np.array_equal(probed[0], probed[2]))


def _image_plan(inputs: Inputs) -> Plan:
    height, width = inputs["x"].shape[2:]
    downs, down = _places(height)
    acrosses, across = _places(width)
    boxes = tuple(Box(slice(row, row + down), slice(column, column + across)) for row in downs for column in acrosses)
    return Plan(inputs, True, (len(downs), len(acrosses)), boxes, (downs, acrosses), (down, across))


def _places(side: int) -> tuple[tuple[int, ...], int]:
    """Where a patch stands along a side, and its length."""
    patch = math.ceil(side / PATCHES_PER_SIDE)
    places = range(0, side - patch + 1, max(patch // 2, 1))
    return tuple(sorted({*places, side - patch})), patch


def _repeated(inputs: Inputs, num_rows: int) -> Inputs:
    return {name: np.repeat(array, num_rows, axis=0) for name, array in inputs.items()}


def _hide(rows: Inputs, row: int, box: Box, is_image: bool, fill: Fill) -> None:
    """Hide one box of one row, in place."""
    if is_image:
        image = rows["x"][row]  # [C, H, W]
        value = image.mean(axis=(1, 2), keepdims=True) if fill == "mean" else np.float32(0)
        image[:, box.first, box.second] = value
        return
    x, mask = rows["x"][row], rows["mask"][row]  # [T, N, C]
    if fill == "missing":
        x[box.first, box.second] = 0  # as `wire` reads what is missing
        mask[box.first, box.second] = 0
    else:
        num_seen = mask.sum(axis=0, keepdims=True)
        mean = (x * mask).sum(axis=0, keepdims=True) / np.maximum(num_seen, 1)  # [1, N, C], of what was seen
        x[box.first, box.second] = np.where(mask > 0, mean, x)[box.first, box.second]
