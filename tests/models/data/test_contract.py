"""Every kind of broken data is refused with the place, what was expected and what was found."""

from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from models.data.card import Contract
from models.data.contract import BadDataError, Finding, check_images, check_series
from models.data.series import RawImages, RawSeries


def at(row: int, column: str, value: object) -> pl.Expr:
    """The column with one row replaced."""
    return pl.when(pl.int_range(pl.len()) == row).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


def refused(frame: pl.DataFrame, contract: Contract) -> list[Finding]:
    with pytest.raises(BadDataError) as error:
        check_series(RawSeries(frame), contract)
    errors = [finding for finding in error.value.findings if finding.severity == "error"]
    assert all(finding.expected in str(error.value) for finding in errors)
    return errors


def test_good_data_becomes_a_sorted_grid(frame: pl.DataFrame, contract: Contract) -> None:
    series = check_series(RawSeries(frame), contract)
    assert series.values.shape == (300, 3, 2)
    assert series.nodes == ("s1", "s2", "s10")
    assert series.values[7, 2, 0] == np.float32(frame["speed_kmh"][21])
    assert series.slots_per_day == 96
    assert (np.diff(series.time) == np.timedelta64(15, "m")).all()
    assert series.findings == ()


def test_shuffled_rows_give_the_same_series_and_are_reported(frame: pl.DataFrame, contract: Contract) -> None:
    series = check_series(RawSeries(frame.sample(fraction=1, shuffle=True, seed=1)), contract)
    assert (series.values == check_series(RawSeries(frame), contract).values).all()
    assert [finding.expected for finding in series.findings] == ["times that rise"]


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("speed_kmh", "fast", "a number"),
        ("speed_kmh", "inf", "a finite number"),
        ("speed_kmh", "151", "0 to 150 km/h"),
        ("speed_kmh", "-0.1", "0 to 150 km/h"),
        ("time", "next Tuesday", "a time such as 2024-05-01 08:15"),
    ],
)
def test_a_bad_cell_is_named(frame: pl.DataFrame, contract: Contract, column: str, value: str, expected: str) -> None:
    broken = frame.with_columns(pl.col("time").dt.to_string(), pl.col("speed_kmh").cast(pl.String))
    (finding,) = refused(broken.with_columns(at(41, column, value)), contract)
    assert (finding.row.split(" (")[0], finding.expected, finding.count) == ("row 42", expected, 1)
    assert column in finding.column
    assert value in finding.got


def test_many_bad_cells_are_counted_not_listed(frame: pl.DataFrame, contract: Contract) -> None:
    findings = refused(frame.with_columns(pl.col("speed_kmh") + 500), contract)
    assert len(findings) == 11
    assert sum(finding.count for finding in findings) == 900


def test_times(frame: pl.DataFrame, contract: Contract) -> None:
    moment = frame["time"][30]
    assert refused(frame.with_columns(at(30, "time", moment + timedelta(minutes=2))), contract)[0].expected == (
        "a time on the grid of 15 min"
    )
    assert refused(frame.with_columns(at(30, "time", None)), contract)[0].got == "None"
    assert refused(pl.concat([frame, frame[30:31]]), contract)[0].expected == "one row for each time and node"
    assert refused(frame, contract.model_copy(update={"cadence_min": 5.0}))[0].expected == "every 5 min"
    assert refused(frame[:150], contract)[0].expected == "at least 200 steps"
    sevenths = frame.with_columns(
        pl.Series("time", [frame["time"][0] + timedelta(minutes=7 * (i // 3)) for i in range(900)])
    )
    assert (
        refused(sevenths, contract.model_copy(update={"cadence_min": None}))[0].expected
        == "a cadence that divides a day"
    )


def test_one_mistyped_year_is_refused_before_the_grid_is_laid_out(frame: pl.DataFrame, contract: Contract) -> None:
    late = frame["time"][0].replace(year=9000)
    expected = {finding.expected for finding in refused(frame.with_columns(at(899, "time", late)), contract)}
    assert expected == {"gaps of at most 20 steps", "at most 20% missing"}


def test_a_short_gap_becomes_nan_and_is_reported_a_long_one_is_refused(frame: pl.DataFrame, contract: Contract) -> None:
    series = check_series(RawSeries(pl.concat([frame[:90], frame[120:]])), contract)
    assert np.isnan(series.values[30:40]).all()
    assert np.isfinite(np.delete(series.values, range(30, 40), axis=0)).all()
    assert series.missing_share == pytest.approx(10 / 300)
    assert series.findings[0].got == "10 steps in 1 gaps, the longest 10"
    assert refused(pl.concat([frame[:90], frame[153:]]), contract)[0].expected == "gaps of at most 20 steps"
    assert refused(frame.sample(fraction=0.7, seed=2), contract)[0].expected == "at most 20% missing"


def test_the_missing_value_is_missing_and_not_out_of_range(frame: pl.DataFrame, contract: Contract) -> None:
    marked = contract.model_copy(update={"missing_value": -1.0})
    series = check_series(RawSeries(frame.with_columns(at(9, "speed_kmh", -1.0))), marked)
    assert np.isnan(series.values[:, :, 0]).sum() == 1
    assert np.isnan(series.values[3, 2, 0])


def test_columns(frame: pl.DataFrame, contract: Contract) -> None:
    (finding,) = refused(frame.drop("flow_vph"), contract)
    assert (finding.row, finding.column) == ("header", "flow_vph")
    series = check_series(RawSeries(frame.with_columns(note=pl.lit("x"))), contract)
    assert [finding.got for finding in series.findings] == ["another, left out"]
    assert refused(frame[:0], contract)[0].got == "none"


def test_a_channel_that_knows_the_future_is_refused(frame: pl.DataFrame, contract: Contract) -> None:
    later = frame.with_columns(flow_vph=pl.col("speed_kmh").shift(-6).fill_null(1.0))
    (finding,) = refused(later, contract)
    assert finding.got == "speed_kmh of 2 steps later"


def test_a_dead_sensor_is_reported_and_only_dead_sensors_are_refused(frame: pl.DataFrame, contract: Contract) -> None:
    dead = pl.when(pl.col("node") == "s2").then(50.0).otherwise(pl.col("speed_kmh")).alias("speed_kmh")
    (finding,) = check_series(RawSeries(frame.with_columns(dead)), contract).findings
    assert (finding.column, finding.got) == ("speed_kmh of s2", "always 50")
    assert refused(frame.with_columns(speed_kmh=pl.lit(50.0)), contract)[0].expected == "a sensor that varies"


def test_unknown_node_and_adjacency_of_another_size(frame: pl.DataFrame, contract: Contract) -> None:
    with pytest.raises(BadDataError, match="s10"):
        check_series(RawSeries(frame, nodes=("s1", "s2")), contract)
    with pytest.raises(BadDataError, match="3 × 3"):
        check_series(RawSeries(frame, adjacency=np.eye(2, dtype=np.float32)), contract)


def test_images() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (40, 1, 4, 4), dtype=np.uint8)
    raw = RawImages(pixels, np.arange(40) % 2, ("a", "b"))
    contract = Contract(classes=("a", "b"), image_shape=(1, 4, 4))
    assert check_images(raw, contract).findings == ()
    for broken in (
        RawImages(pixels.astype(np.int32), raw.labels, raw.classes),  # type: ignore[arg-type]
        RawImages(pixels.reshape(40, 1, 2, 8), raw.labels, raw.classes),
        RawImages(pixels, raw.labels + 1, raw.classes),
        RawImages(pixels, raw.labels, ("a", "c")),
        RawImages(pixels[:15], raw.labels[:15], raw.classes),
    ):
        with pytest.raises(BadDataError):
            check_images(broken, contract)
    pixels[3], pixels[5] = 9, pixels[4]
    got = {finding.got for finding in check_images(raw, contract).findings}
    assert got == {"all 9", "exact copies"}
