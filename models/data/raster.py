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


def nearness(places_m: Floats, roads: Segments) -> NDArray[np.float32]:
    """1 on a road's middle line, falling to 0 at REACH_M from the nearest, for places [n, 2]."""
    nearest = np.full(len(places_m), REACH_M)
    for start, end in zip(roads.start_m, roads.end_m, strict=True):
        low, high = np.minimum(start, end) - REACH_M, np.maximum(start, end) + REACH_M
        around = np.flatnonzero(((places_m >= low) & (places_m <= high)).all(axis=1))
        along, way = places_m[around] - start, end - start
        share = np.clip(along @ way / (way @ way), 0, 1)
        distance = np.linalg.norm(along - share[:, None] * way, axis=1)
        nearest[around] = np.minimum(nearest[around], distance)
    return (1 - nearest / REACH_M).astype(np.float32)


def patches(roads: Segments, centres_m: Floats, size: int) -> NDArray[np.float32]:
    """`size` x `size` cells around each centre [n, 2], the centre where the middle four meet: [n, north, east].

    Centres are whole cells from the town's zero, so that all are cut out of one drawing.
    """
    first = np.round(centres_m / CELL_M).astype(np.int64) - size // 2  # of the cells, counted from zero
    low, high = first.min(axis=0), first.max(axis=0) + size
    east, north = np.meshgrid(np.arange(low[0], high[0]), np.arange(low[1], high[1]))
    middles = (np.stack([east.ravel(), north.ravel()], axis=1) + 0.5) * CELL_M
    drawing = nearness(middles, roads).reshape(east.shape)  # [north, east]
    views = np.lib.stride_tricks.sliding_window_view(drawing, (size, size))
    column, row = (first - low).T
    return np.asarray(views[row, column])
