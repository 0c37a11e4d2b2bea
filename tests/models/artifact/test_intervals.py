"""Quantiles and levels of a forecast, against a sum by hand."""

import numpy as np
import pytest

from models.artifact.checks import InputError
from models.artifact.intervals import beside, check_wishes, level_of_service, quantiles, specs
from models.artifact.manifest import Intervals, Levels
from tests.models.artifact.test_reader import ONE

BANDS = Intervals(quantiles=(0.1, 0.9), edges=((50.0,), ()), offsets=(((-10.0, 10.0), (-1.0, 2.0)), ((-200.0, 200.0),)))
MANIFEST = ONE.model_copy(
    update={"intervals": BANDS, "levels": Levels(dense_below=(60.0, 60.0, 10.0), jammed_below=(30.0, 60.0, 5.0))}
)
FORECAST = np.array([[[40, 50, 60], [40, 50, 60]]], np.float32)  # [B, H, N]


def test_the_offset_is_the_steps_and_that_of_the_forecasts_own_level() -> None:
    found = quantiles(MANIFEST, FORECAST)
    assert found.shape == (1, 2, 2, 3) and found.dtype == np.float32
    assert found[0, :, 0].tolist() == [[30, 49, 59], [50, 52, 62]]  # an edge belongs to the level above it
    assert found[0, :, 1].tolist() == [[0, 0, 0], [150, 150, 150]]  # the channel's range holds for quantiles too


def test_a_level_is_by_the_nodes_own_thresholds() -> None:
    assert level_of_service(MANIFEST, FORECAST).tolist() == [[[1, 2, 0], [1, 2, 0]]]
    given = beside(MANIFEST, FORECAST, ("level_of_service", "quantiles"))
    assert list(given) == ["level_of_service", "quantiles"] and given["level_of_service"].dtype == np.int64


def test_a_model_says_only_what_it_was_given() -> None:
    assert [spec.shape for spec in specs(MANIFEST)] == [(-1, 2, 2, 3), (-1, 2, 3)]
    assert specs(ONE) == ()
    check_wishes(MANIFEST, ("quantiles",), "query")
    for manifest in (ONE, MANIFEST):
        with pytest.raises(InputError, match="not in this model's answer"):
            check_wishes(manifest, ("quantiles", "weather"), "query")
