"""Tells a forecast network which nodes are neighbours: as given, as learned, or both.

Given: the row-normalised matrix, and its transpose where it is not symmetric, as in diffusion convolution (Li, Yu,
Shahabi, Liu, ICLR 2018). Learned: softmax(relu(A B)) of two tables of node vectors (Wu et al., IJCAI 2019).
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.data.shape import ForecastShape


class Links(nn.Module):
    """Supports [N, N] whose rows are weights of a mean over neighbours. The given ones are not trained."""

    def __init__(self, shape: ForecastShape, width: int, has_learned: bool) -> None:
        super().__init__()
        given = _given(shape.adjacency)
        for place, matrix in enumerate(given):
            self.register_buffer(f"given_{place}", torch.from_numpy(matrix))
        self.num_given, self.has_learned = len(given), has_learned
        self.num_supports = len(given) + has_learned
        if has_learned:
            self.source = nn.Parameter(torch.randn(shape.num_nodes, width))
            self.sink = nn.Parameter(torch.randn(width, shape.num_nodes))

    def forward(self) -> list[Tensor]:
        """The supports, the given ones first."""
        supports: list[Tensor] = [self.get_buffer(f"given_{place}") for place in range(self.num_given)]
        if self.has_learned:
            supports.append(torch.softmax(torch.relu(self.source @ self.sink), dim=1))
        return supports


def _given(adjacency: NDArray[np.float32] | None) -> list[NDArray[np.float32]]:
    """Row-normalised; a node without links gets a row of zeros. Self-links say nothing that a node does not know."""
    if adjacency is None:
        return []
    weights = np.where(np.eye(len(adjacency), dtype=bool), 0, adjacency)
    is_symmetric = np.array_equal(weights, weights.T)
    return [
        (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)).astype(np.float32)
        for matrix in ([weights] if is_symmetric else [weights, weights.T])
    ]
