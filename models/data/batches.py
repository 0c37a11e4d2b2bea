"""What a network is fed: batches of samples, gathered by index and never all at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from models.data.series import Images

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Inputs by name, the target, and where the target counts (1) or is unknown (0).

    forecast: inputs `x` float32 [B, T, N, C] in physical units, 0 where missing; `mask` float32 [B, T, N, C];
        `clock` int64 [B, 2], slot of the day and weekday (Monday 0) of the last past step;
        target, target_mask float32 [B, H, N]
    classify: inputs `x` float32 [B, C, H, W] in 0..1; target int64 [B]; target_mask float32 [B]
    """

    inputs: dict[str, NDArray[Any]]
    target: NDArray[Any]
    target_mask: NDArray[np.float32]


class Samples(Protocol):
    """Samples of one split, addressed by index."""

    def __len__(self) -> int: ...

    def take(self, indices: Indices) -> Batch: ...


@dataclass(frozen=True)
class ImageSamples:
    """The images `rows` of a data set as samples."""

    images: Images
    rows: Indices

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, indices: Indices) -> Batch:
        """A batch [B, C, H, W], pixels scaled to 0..1."""
        rows = self.rows[indices]
        labels = self.images.labels[rows]
        x = self.images.pixels[rows].astype(np.float32) / np.float32(255)
        return Batch({"x": x}, np.maximum(labels, 0), (labels >= 0).astype(np.float32))


def batches(samples: Samples, batch_size: int, order: Indices | None = None) -> Iterator[Batch]:
    """All samples in `order` (as they lie, if None), `batch_size` at a time; the last batch may be smaller."""
    order = np.arange(len(samples)) if order is None else order
    for start in range(0, len(order), batch_size):
        yield samples.take(order[start : start + batch_size])


def thin_out(rows: Indices, limit: int | None) -> Indices:
    """At most `limit` of these rows, evenly spread, the last one among them."""
    if limit is None or limit >= len(rows):
        return rows
    return rows[np.linspace(len(rows) - 1, 0, limit).round().astype(np.int64)[::-1]]
