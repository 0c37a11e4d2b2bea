"""Drives through towns: what a sample is, and roads or drives that cannot be read."""

import numpy as np
import polars as pl
import pytest

from models.data.findings import BadDataError
from models.data.fixes import CADENCE_S
from models.data.raster import CELL_M
from models.datasets import city_drives
from models.datasets.city_drives import CARD, DRIVES, DRIVES_OF_A_TOWN, NUM_FIXES, ROADS, STRIDE, read


@pytest.fixture
def town(tmp_path):
    """One straight road to the east, one car on it at 10 m/s, an outage over its last three fixes."""
    num = NUM_FIXES + 2 * STRIDE
    time_s = np.arange(num) * int(CADENCE_S)
    east_dm = time_s * 100
    hidden = np.arange(num) >= num - 3
    fix = pl.Series(np.where(hidden, 0, east_dm + 30)).set(pl.Series(hidden), None)
    frame = pl.DataFrame({
        "drive": np.full(num, 3 * DRIVES_OF_A_TOWN), "time_s": time_s, "fix_x_dm": fix, "fix_y_dm": fix * 0,
        "course_deg": fix * 0, "speed_dmps": np.full(num, 100), "turn_ddps": np.zeros(num, int),
        "true_x_dm": east_dm, "true_y_dm": np.zeros(num, int),
    })  # fmt: skip
    frame.select(pl.all().cast(pl.Int32)).write_parquet(tmp_path / DRIVES)
    roads = pl.DataFrame(
        {"town": [3], "x1_dm": [-2000], "y1_dm": [0], "x2_dm": [20_000], "y2_dm": [0], "num_lanes": [2]}
    )
    roads.write_parquet(tmp_path / ROADS)
    return tmp_path


def test_a_sample_is_what_the_contract_says(town):
    raw = read(town)
    fixes, patch = raw.inputs["fixes"], raw.inputs["patch"]
    assert fixes.shape == (3, *CARD.contract.inputs[0].shape) and patch.shape == (3, *CARD.contract.inputs[1].shape)
    assert raw.facts["outage_s"].tolist() == [0, 0, 6] and raw.facts["is_outage"].tolist() == [0, 0, 1]
    assert np.isnan(fixes[2, -3:, :4]).all() and not np.isnan(fixes[:, :, 4:]).any()
    np.testing.assert_allclose(fixes[0, -1, 0] - raw.target[0, 0], 3.0, atol=1e-4)
    assert np.abs(raw.target).max() < 2 * CELL_M, "the origin is a cell near what the filter says"
    on_road = patch[:, 0].max(axis=2) > 0.8
    assert (on_road.sum(axis=1) == 2).all() and on_road[:, 19:21].all(), "the road runs through the middle"


def test_roads_that_cannot_be_read_are_refused(town):
    roads = pl.read_parquet(town / ROADS)
    for broken, said in (
        (roads.drop("y2_dm"), "y2_dm"),
        (roads.with_columns(x2_dm=pl.lit("far")), "a column of whole numbers"),
        (roads.with_columns(x2_dm=pl.lit(-2000)), "two different ends"),
        (roads.with_columns(x1_dm=pl.lit(None, pl.Int64)), "two different ends"),
        (roads.with_columns(town=pl.lit(4)), "roads of town 3"),
        (roads.head(0), "roads"),
    ):
        broken.write_parquet(town / ROADS)
        with pytest.raises(BadDataError, match=said):
            read(town)
    (town / ROADS).write_bytes(b"not a map at all")
    with pytest.raises(BadDataError, match="a Parquet file"):
        read(town)
    (town / ROADS).unlink()
    with pytest.raises(BadDataError, match="no such file"):
        read(town)


def test_drives_with_holes_where_there_must_be_none_are_refused(town):
    drives = pl.read_parquet(town / DRIVES)
    drives.with_columns(speed_dmps=pl.lit(None, pl.Int32)).write_parquet(town / DRIVES)
    with pytest.raises(BadDataError, match="speed_dmps"):
        read(town)


@pytest.mark.families
def test_the_shipped_drives_are_as_hard_as_their_card_says(tmp_path):
    for path in city_drives.fetch():
        (tmp_path / path.name).symlink_to(path)
    raw = read(tmp_path)
    fixes = raw.inputs["fixes"]
    seen = ~np.isnan(fixes[:, :, 0])
    last = NUM_FIXES - 1 - seen[:, ::-1].argmax(1)
    fix = fixes[np.arange(len(fixes)), last, :2]
    assert np.sqrt(np.square(fix - raw.target).sum(1).mean()) == pytest.approx(30.4, abs=0.2)
    assert raw.facts["outage_s"].max() <= 30 and len(np.unique(raw.groups)) == 1440
