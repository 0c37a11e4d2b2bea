"""Draws the middle lines of roads as a raster: how near each cell is to a road."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CELL_M = 6.0
REACH_M = 20.0  # farther from every road is 0


@dataclass(frozen=True)
class Segments:
    """Straight pieces of road, each from a start to an end [S, 2] in metres, east and north."""

    start_m: Floats
    end_m: Floats


def draw(roads: Segments, first: tuple[int, int], shape: tuple[int, int]) -> NDArray[np.float32]:
    """1 on a road's middle line, falling to 0 at REACH_M from the nearest; of the middles of cells [north, east].

    first: number of the cell in the lower left corner, east and north, counted from zero.
    """
    nearest = np.full(shape, REACH_M)
    for start, end in zip(roads.start_m, roads.end_m, strict=True):
        low = np.floor((np.minimum(start, end) - REACH_M) / CELL_M).astype(int) - first
        high = np.ceil((np.maximum(start, end) + REACH_M) / CELL_M).astype(int) - first
        (left, bottom), (right, top) = low.clip(min=0), high.clip(min=0)
        window = nearest[bottom:top, left:right]
        if not window.size:
            continue
        north, east = np.indices(window.shape)
        places = (np.stack([east + left + first[0], north + bottom + first[1]], axis=2) + 0.5) * CELL_M - start
        way = end - start
        share = np.clip(places @ way / (way @ way), 0, 1)
        np.minimum(window, np.linalg.norm(places - share[..., None] * way, axis=2), out=window)
    return (1 - nearest / REACH_M).astype(np.float32)


def patches(roads: Segments, centres_m: Floats, size: int) -> NDArray[np.float32]:
    """`size` x `size` cells around each centre [n, 2], the centre where the middle four meet: [n, north, east].

    Centres are whole cells from the town's zero, so that all are cut out of one drawing.
    """
    corner = np.round(centres_m / CELL_M).astype(np.int64) - size // 2  # of the cells, counted from zero
    low, high = corner.min(axis=0), corner.max(axis=0) + size
    drawing = draw(roads, (int(low[0]), int(low[1])), (int(high[1] - low[1]), int(high[0] - low[0])))
    views = np.lib.stride_tricks.sliding_window_view(drawing, (size, size))
    column, row = (corner - low).T
    return np.asarray(views[row, column])
