"""The raster of a road map: distances, and which way is up."""

import numpy as np
import pytest

from models.data.raster import CELL_M, REACH_M, Segments, draw, patches

ROADS = Segments(np.array([[0.0, 0.0], [60.0, 0.0]]), np.array([[60.0, 0.0], [60.0, 90.0]]))


def test_a_cell_says_how_near_its_middle_is_to_a_road():
    drawing = draw(ROADS, (-10, -10), (40, 40))  # [north, east]
    middle = CELL_M / 2
    assert drawing[10, 15] == pytest.approx(1 - middle / REACH_M)  # above the road to the east
    assert drawing[9, 15] == pytest.approx(1 - middle / REACH_M)  # below it
    assert drawing[12, 12] == pytest.approx(1 - (2 * CELL_M + middle) / REACH_M)
    corner = np.hypot(middle, middle)
    assert drawing[9, 20] == pytest.approx(1 - corner / REACH_M), "beyond both ends"
    assert drawing[0, 0] == 0 and drawing[24, 10] == 0


def test_patches_are_cut_around_their_centres():
    centres = np.array([[0.0, 0.0], [60.0, 90.0], [6.0, -12.0]])
    cut = patches(ROADS, centres, 8)
    assert cut.shape == (3, 8, 8)
    whole = draw(ROADS, (-40, -40), (80, 80))
    for one, centre in zip(cut, centres, strict=True):
        east, north = (centre / CELL_M).astype(int) + 36
        np.testing.assert_array_equal(one, whole[north : north + 8, east : east + 8])
    assert cut[0, 4, 5] > 0.8 and cut[0, 4, 1] < 0.3, "east is to the right"
    assert cut[1, 0, 4] > 0.8 and cut[1, 7, 4] < 0.3, "north is up: the last rows"
