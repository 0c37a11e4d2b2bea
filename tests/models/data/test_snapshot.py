"""A snapshot reads back as written, its digest follows its content, and damage is noticed."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.data.card import Contract, DatasetCard
from models.data.prepare import prepare, raw_fingerprint
from models.data.series import RawImages, RawSeries
from models.data.shape import ForecastShape, ImageShape
from models.data.snapshot import SnapshotError, read_snapshot
from models.recipe import DataRecipe


def test_a_series_reads_back(frame: pl.DataFrame, card: DatasetCard, plan: DataRecipe, tmp_path: Path) -> None:
    links = np.arange(9, dtype=np.float32).reshape(3, 3)
    holes = frame.with_columns(pl.when(pl.int_range(pl.len()) % 17 > 0).then("speed_kmh").alias("speed_kmh"))
    raw = RawSeries(holes, ("s2", "s1", "s10"), links)
    manifest = prepare(raw, card, plan, b"", tmp_path, "f" * 64)
    snapshot = read_snapshot(tmp_path)
    assert snapshot.manifest == manifest
    assert snapshot.shape == ForecastShape(4, 3, 3, 2, 96)
    assert snapshot.series.nodes == ("s2", "s1", "s10")
    expected = holes["speed_kmh"].fill_null(float("nan")).to_numpy().astype(np.float32).reshape(300, 3)[:, [2, 1, 0]]
    np.testing.assert_array_equal(snapshot.series.values[:, :, 0], expected)
    np.testing.assert_array_equal(snapshot.series.adjacency, links)
    assert sorted(manifest.node_class.values()) == ["high", "low", "medium"]
    assert len(snapshot.samples("val", limit=5)) == 5
    with pytest.raises(TypeError, match="holds no images"):
        _ = snapshot.images


def test_the_card_names_classes_of_nodes(
    frame: pl.DataFrame, card: DatasetCard, plan: DataRecipe, tmp_path: Path
) -> None:
    named = card.model_copy(update={"node_class": {"s1": "ramp"}})
    assert prepare(RawSeries(frame), named, plan, b"", tmp_path).node_class == {
        "s1": "ramp",
        "s2": "other",
        "s10": "other",
    }


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(row=st.integers(0, 899))
def test_the_digest_is_stable_and_changes_with_one_value(
    frame: pl.DataFrame, card: DatasetCard, plan: DataRecipe, tmp_path: Path, row: int
) -> None:
    first = prepare(RawSeries(frame), card, plan, b"", tmp_path / "a")
    again = prepare(
        RawSeries(frame[::3].vstack(frame[1::3]).vstack(frame[2::3]).sort("time")),
        card,
        plan,
        b"",
        tmp_path / "b",
        "raw",
    )
    assert first.digest == again.digest
    changed = frame.with_columns(speed_kmh=pl.col("speed_kmh") + (pl.int_range(pl.len()) == row) * 0.5)
    assert prepare(RawSeries(changed), card, plan, b"", tmp_path / "c").digest != first.digest


def test_the_digest_changes_with_the_plan_and_the_contract(
    frame: pl.DataFrame, card: DatasetCard, plan: DataRecipe, tmp_path: Path
) -> None:
    wider = card.model_copy(update={"contract": card.contract.model_copy(update={"max_missing_share": 0.3})})
    longer = plan.model_copy(update={"gap_steps": 5})
    made = [(card, plan), (wider, plan), (card, longer)]
    digests = {prepare(RawSeries(frame), c, p, b"", tmp_path / str(i)).digest for i, (c, p) in enumerate(made)}
    assert len(digests) == 3


def test_damage_is_noticed(frame: pl.DataFrame, card: DatasetCard, plan: DataRecipe, tmp_path: Path) -> None:
    prepare(RawSeries(frame), card, plan, b"", tmp_path)
    path = tmp_path / "series.parquet"
    whole = pl.read_parquet(path)
    for broken in (whole.with_columns(pl.col("flow_vph") + 1), whole[:-1], whole.drop("flow_vph")):
        broken.write_parquet(path)
        with pytest.raises(SnapshotError):
            read_snapshot(tmp_path)
    whole.write_parquet(path, compression="lz4")  # other bytes, the same content
    read_snapshot(tmp_path)
    manifest = tmp_path / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"gap_steps": 4', '"gap_steps": 0'))
    with pytest.raises(SnapshotError):
        read_snapshot(tmp_path)
    path.unlink()
    with pytest.raises(SnapshotError, match="lacks series"):
        read_snapshot(tmp_path)


def test_images_read_back_with_some_labels_hidden(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    raw = RawImages(rng.integers(0, 256, (60, 3, 4, 5), dtype=np.uint8), np.arange(60) % 2, ("a", "b"))
    contract = Contract(classes=("a", "b"), image_shape=(3, 4, 5))
    card = DatasetCard(name="toy", task="classify", title="Toy", source="test", licence="CC0", contract=contract)
    manifest = prepare(raw, card, DataRecipe(name="toy", labelled_share=0.5), b"", tmp_path)
    snapshot = read_snapshot(tmp_path)
    assert snapshot.shape == ImageShape(3, 4, 5, 2)
    train, test = snapshot.samples("train"), snapshot.samples("test")
    batch = train.take(np.arange(len(train)))
    assert batch.inputs["x"].shape == (42, 3, 4, 5)
    assert batch.inputs["x"].dtype == np.float32
    assert 0 <= batch.inputs["x"].min() <= batch.inputs["x"].max() <= 1
    assert batch.target_mask.mean() == pytest.approx(0.5, abs=0.03)
    assert batch.target.min() == 0
    assert test.take(np.arange(len(test))).target_mask.all()
    assert prepare(raw, card, DataRecipe(name="toy", labelled_share=0.5), b"", tmp_path / "b").digest == manifest.digest


def test_the_raw_fingerprint_follows_the_bytes(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for path in files:
        path.write_text("x")
    before = raw_fingerprint(files)
    assert raw_fingerprint(reversed(files)) == before
    files[0].write_text("y")
    assert raw_fingerprint(files) != before
