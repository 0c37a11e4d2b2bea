"""The supports that a graph network looks along: given both ways, learned, or both."""

import numpy as np
import torch

from models.data.shape import ForecastShape
from models.tasks.links import Links


def shape(adjacency: np.ndarray | None) -> ForecastShape:
    return ForecastShape(3, 2, num_nodes=3, num_channels=1, slots_per_day=24, adjacency=adjacency)


def test_a_road_with_a_direction_is_looked_along_both_ways():
    road = np.array([[1, 2, 2], [0, 0, 5], [0, 0, 0]], np.float32)
    down, up = Links(shape(road), 4, has_learned=False)()
    assert down.tolist() == [[0, 0.5, 0.5], [0, 0, 1], [0, 0, 0]], "no self-link, rows sum to 1 or are empty"
    assert up.tolist() == [[0, 0, 0], [1, 0, 0], [np.float32(2 / 7), np.float32(5 / 7), 0]]


def test_a_symmetric_one_is_looked_along_once_and_is_not_trained():
    both = np.array([[0, 1, 0], [1, 0, 1], [0, 1, 0]], np.float32)
    links = Links(shape(both), 4, has_learned=True)
    assert links.num_supports == 2 and {name for name, _ in links.named_parameters()} == {"source", "sink"}
    assert torch.allclose(links()[1].sum(dim=1), torch.ones(3))


def test_without_an_adjacency_it_is_learned():
    assert len(Links(shape(None), 4, has_learned=True)()) == 1
