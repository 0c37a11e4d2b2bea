"""Bands hold what they promise where days are alike; levels are each sensor's own."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact.calibrations.forecast import DENSE_SHARE, JAMMED_SHARE, MIN_VALUES, intervals, levels
from models.artifact.intervals import quantiles
from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot

PackToy = Callable[..., tuple[Path, Predictor]]


def days(num: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Forecasts [S, 2, 3] and what came: five times as uncertain below 40, twice as much at the second step."""
    random = np.random.default_rng(seed)
    forecast = random.uniform(20, 100, (num, 2, 3)).astype(np.float32)
    spread = np.where(forecast < 40, 10, 2) * np.array([1, 2])[:, None]
    return forecast, (forecast + spread * random.normal(size=forecast.shape)).astype(np.float32)


def test_the_band_holds_its_share_at_every_step_and_level(pack_toy: PackToy) -> None:
    forecast, actual = days(2_000, seed=1)
    is_seen = np.random.default_rng(0).random(actual.shape) > 0.1
    bands = intervals(forecast, np.where(is_seen, actual, 0), is_seen)
    assert bands is not None and bands.quantiles[0] == 0.05 and bands.quantiles[-1] == 0.95
    assert all(list(edges) == sorted(edges) for edges in bands.edges)
    assert all(list(offsets) == sorted(offsets) for step in bands.offsets for offsets in step)
    manifest = pack_toy()[1].manifest.model_copy(update={"intervals": bands, "ranges": ((None, None), (None, None))})
    later, came = days(4_000, seed=2)
    low, high = np.moveaxis(quantiles(manifest, later), 1, 0)[[0, -1]]
    held, is_low = (low <= came) & (came <= high), later < 40
    assert [part.mean() for part in (held[:, 0], held[:, 1])] == pytest.approx([0.9, 0.9], abs=0.02)
    assert [part.mean() for part in (held[is_low], held[~is_low])] == pytest.approx([0.9, 0.9], abs=0.06)
    width = high - low
    assert width[:, 1].mean() == pytest.approx(2 * width[:, 0].mean(), rel=0.1)
    assert width[is_low].mean() > 2.5 * width[~is_low].mean(), "a jam is less certain"


def test_few_values_share_one_level_and_too_few_have_no_band() -> None:
    forecast, actual = days(100, seed=3)
    everything = np.ones_like(forecast, bool)
    bands = intervals(forecast, actual, everything)
    assert bands is not None and len(actual[:, 0].ravel()) < 2 * MIN_VALUES and bands.edges == ((), ())
    assert intervals(forecast[:6], actual[:6], everything[:6]) is None


def test_levels_are_shares_of_a_sensors_own_free_flow(toy_snapshot: Snapshot) -> None:
    found = levels(toy_snapshot)
    assert found is not None and len(found.dense_below) == len(toy_snapshot.series.nodes)
    start, stop = toy_snapshot.manifest.splits["train"]
    free_flow = np.nanquantile(toy_snapshot.series.values[start:stop, 1, 0].astype(float), 0.85)
    assert found.dense_below[1] == pytest.approx(DENSE_SHARE * free_flow, abs=0.01)
    assert found.jammed_below[1] == pytest.approx(JAMMED_SHARE * free_flow, abs=0.01)


def test_a_count_has_no_level_of_service(toy_snapshot: Snapshot) -> None:
    counts = replace(toy_snapshot.series, units=("veh/15 min", "veh/h"))
    assert levels(replace(toy_snapshot, content=counts)) is None


def test_a_parcel_of_a_forecast_is_given_both(pack_toy: PackToy) -> None:
    manifest = pack_toy(bias=2.0)[1].manifest
    assert manifest.levels is not None and manifest.intervals is not None
    medians = [offsets[2] for offsets in manifest.intervals.offsets[0]]
    assert len(manifest.intervals.offsets) == manifest.horizon_steps
    assert np.mean(medians) == pytest.approx(-2.0, abs=1.5), "the bias is seen on validation"
