"""Every data set of the catalog is there, keeps its own contract, and becomes a snapshot."""

import importlib
from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models import catalog
from models.data.contract import check_series
from models.data.prepare import prepare, raw_fingerprint
from models.data.series import RawSeries
from models.data.snapshot import read_snapshot
from models.recipe import DataRecipe

CARDS = catalog.datasets()


SHIPPED = [name for name in sorted(CARDS) if hasattr(importlib.import_module(f"models.datasets.{name}"), "fetch")]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_data_set_is_fetched_checked_and_prepared(name: str, tmp_path: Path) -> None:
    card, module = CARDS[name], importlib.import_module(f"models.datasets.{name}")
    files = module.fetch()
    assert len(raw_fingerprint(files)) == 64
    steps = {key.removeprefix("data."): value for key, value in card.recipe.items() if key.startswith("data.")}
    manifest = prepare(module.read(files[0].parent), card, DataRecipe(name=name, **steps), b"", tmp_path)
    snapshot = read_snapshot(tmp_path)
    assert snapshot.manifest.digest == manifest.digest
    for split in ("train", "val", "test"):
        samples = snapshot.samples(split)
        assert len(samples) > 50
        batch = samples.take(np.array([0, len(samples) - 1]))
        may_miss = {spec.name for spec in card.contract.inputs if spec.can_miss}
        whole = [array for input_name, array in batch.inputs.items() if input_name not in may_miss]
        assert all(np.isfinite(array).all() for array in (*whole, batch.target))
    assert manifest.missing_share == pytest.approx(card.missing_share or 0.0, abs=0.02)
    if card.task == "forecast":
        assert card.num_nodes in (None, len(manifest.nodes))
        assert set(manifest.node_class) == set(manifest.nodes)


def test_cards_say_what_a_reader_needs() -> None:
    for card in CARDS.values():
        assert all((card.title, card.source, card.licence, card.span)), card.name


def test_oregon_is_what_its_card_says() -> None:
    module = importlib.import_module("models.datasets.oregon_counts")
    raw = module.read(module.fetch()[0].parent)
    assert isinstance(raw, RawSeries)
    assert raw.frame["node"].n_unique() == 22
    assert raw.frame["time"].n_unique() == 2492  # 4 of 2 496 steps are missing at every detector


def test_freeway_reads_its_columns_and_lets_an_empty_road_have_no_speed(tmp_path: Path) -> None:
    module = importlib.import_module("models.datasets.freeway")
    times = [datetime(2024, 1, 1) + timedelta(minutes=5 * step) for step in range(28 * 288) for _ in range(2)]
    rng = np.random.default_rng(0)
    speed = pl.Series(rng.uniform(20, 120, len(times)), dtype=pl.Float32).set(
        pl.Series(rng.random(len(times)) < 0.02), None
    )
    flow, occupancy = rng.uniform(0, 5000, len(times)), rng.uniform(0, 40, len(times))
    stations = ["S01", "S02"] * (len(times) // 2)
    columns = {"time": times, "station": stations, "speed_kmh": speed, "flow_vph": flow, "occupancy_pct": occupancy}
    pl.DataFrame(columns).write_parquet(tmp_path / module.FILE)
    series = check_series(module.read(tmp_path), module.CARD.contract)
    assert series.channels == ("speed_kmh", "flow_vph", "occupancy_pct")
    assert series.values.shape == (8064, 2, 3)
    assert np.isnan(series.values).any(axis=(0, 1)).tolist() == [True, False, False]
