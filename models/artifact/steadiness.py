"""Whether a graph gives a row the same bytes alone and among others.

It is tried out where it is served. Nothing promises it: kernels are chosen by shape, and a graph that scales by what is
in the batch answers a row by its neighbours. Where the trial holds, requests of strangers may share a call and nobody
can tell.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

NUM_TRIED = 16  # rows; every batch from two rows to this many is tried

Predict = Callable[[Mapping[str, NDArray[Any]]], NDArray[np.float32]]


def num_steady_rows(predict: Predict, inputs: Mapping[str, NDArray[Any]], most: int = NUM_TRIED) -> int:
    """The largest batch up to which every row of every batch had the very bytes that it has alone; 1: none had.

    inputs: of one real request, one row, whose quantities are varied; most: at most as many rows as the graph takes
    """
    rows = {name: np.repeat(array[:1], most, axis=0) for name, array in inputs.items()}
    share = np.linspace(1.0, 0.5, most, dtype=np.float32)
    for name, array in rows.items():
        if array.dtype == np.float32 and name != "mask":
            array *= share.reshape(-1, *(1,) * (array.ndim - 1))  # no two rows alike
    alone = [predict({name: array[row : row + 1] for name, array in rows.items()}).tobytes() for row in range(most)]
    for size in range(2, most + 1):
        together = predict({name: array[:size] for name, array in rows.items()})
        if [row.tobytes() for row in together] != alone[:size]:
            return size - 1
    return max(most, 1)
