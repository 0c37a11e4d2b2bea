"""A graph that looks at a row's neighbours is found out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.artifact.steadiness import num_steady_rows

INPUTS = {"x": np.arange(1, 13, dtype=np.float32).reshape(1, 4, 3, 1), "clock": np.array([[3, 1]], np.int64)}


def row_by_row(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    answer: NDArray[np.float32] = inputs["x"].sum(axis=(2, 3)) + inputs["clock"].sum(axis=1, keepdims=True)
    return answer.astype(np.float32)


def by_its_neighbours(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """As dynamic quantisation does: the scale is that of the whole batch."""
    scale = np.abs(inputs["x"]).max(initial=0) / np.float32(127)
    return row_by_row({**inputs, "x": (inputs["x"] / scale).round() * scale})


def otherwise_from_five(inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """As another kernel does: the last bit."""
    answer = row_by_row(inputs)
    return np.nextafter(answer, np.float32(np.inf)) if len(answer) >= 5 else answer


@pytest.mark.parametrize(("predict", "most", "steady"), [
    (row_by_row, 16, 16), (row_by_row, 1, 1), (by_its_neighbours, 16, 1), (otherwise_from_five, 16, 4),
])  # fmt: skip
def test_rows_are_steady_up_to_the_first_difference(predict: Any, most: int, steady: int) -> None:
    assert num_steady_rows(predict, INPUTS, most) == steady


def test_every_quantity_is_varied_and_no_whole_number() -> None:
    inputs = {"slot": np.array([[7]]), "speeds": np.ones((1, 2), np.float32), "works": np.ones((1, 1), np.float32)}
    seen: list[dict[str, NDArray[Any]]] = []

    def watching(rows: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        seen.append(dict(rows))
        return rows["speeds"].sum(axis=1) * rows["works"][:, 0]

    assert num_steady_rows(watching, inputs, 4) == 4
    assert len({row.tobytes() for row in seen[-1]["speeds"]}) == len({row.tobytes() for row in seen[-1]["works"]}) == 4
    assert (seen[-1]["slot"] == 7).all()
