"""A table of samples: numbers, words and times become features; what is wrong is named by line and column."""

from pathlib import Path

import numpy as np
import pytest

from models.data.findings import BadDataError
from models.data.prepare import prepare
from models.data.snapshot import read_snapshot
from models.data.stored import load, store
from models.data.tabular import Rows, read_rows
from models.recipe import DataRecipe

ABOUT = Rows("trips", "seconds", unit="s")


def trips(path: Path, num_days: int = 12, **cells: str) -> Path:
    """A CSV of trips, ten a day; `cells` are replaced by line_column=text."""
    random = np.random.default_rng(0)
    lines = ["time,length_m,road,driver,seconds"]
    for i in range(10 * num_days):
        length, road = random.uniform(500, 5000), ("main", "side", "ring")[i % 3]
        seconds = length / {"main": 14, "side": 8, "ring": 22}[road] + random.normal(0, 5)
        lines.append(f"2024-05-{1 + i // 10:02d} {8 + i % 10:02d}:30,{length:.1f},{road},d{i % 40},{seconds:.2f}")
    rows = [line.split(",") for line in lines]
    for place, text in cells.items():
        line, _, column = place.removeprefix("at_").partition("_")
        rows[int(line) - 1][rows[0].index(column)] = text
    path.write_text("\n".join(",".join(row) for row in rows))
    return path


def refused(path: Path, about: Rows = ABOUT) -> list[tuple[str, str, str]]:
    with pytest.raises(BadDataError) as error:
        read_rows(path, about)
    return [(f.row, f.column, f.got) for f in error.value.findings if f.severity == "error"]


def test_numbers_words_and_times_become_features(tmp_path: Path) -> None:
    about = Rows("trips", "seconds", ("time", "length_m", "road"), "s")
    raw, card = read_rows(trips(tmp_path / "trips.csv", at_5_length_m=""), about)
    assert card.contract.target is not None and card.contract.target.unit == "s"
    (spec,) = card.contract.inputs
    assert spec.labels == ("time_hour", "time_weekday", "length_m", "road=main", "road=ring", "road=side")
    assert spec.can_miss and np.isnan(raw.inputs["x"][3, 2]) and np.isfinite(raw.inputs["x"][0]).all()
    assert raw.inputs["x"][0, [0, 1, 3]].tolist() == [8.5, 2, 1], "a Wednesday, half past eight, on the main road"
    assert raw.groups is not None and raw.groups.max() == 11, "a day is a group, for there is a time"


def test_what_was_brought_is_kept_and_split_by_whole_days(tmp_path: Path) -> None:
    raw, card = read_rows(trips(tmp_path / "trips.csv"), Rows("trips", "seconds", ("time", "length_m", "road"), "s"))
    store(tmp_path / "kept", raw, card)
    again, same = load(tmp_path / "kept")
    assert same == card
    prepare(again, card, DataRecipe(name="trips"), b"", tmp_path / "snapshot")
    snapshot = read_snapshot(tmp_path / "snapshot")
    days = {name: set(snapshot.samples(name).groups) for name in ("train", "val", "test")}  # type: ignore[attr-defined]
    assert max(days["train"]) < min(days["val"]) <= max(days["val"]) < min(days["test"])


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_without_a_time_rows_are_on_their_own_or_in_groups(tmp_path: Path, suffix: str) -> None:
    import polars as pl

    path = trips(tmp_path / "trips.csv")
    if suffix == "parquet":
        frame = pl.read_csv(path, infer_schema_length=None)
        path = tmp_path / "trips.parquet"
        frame.write_parquet(path)
    chosen = ("length_m", "road")
    raw, card = read_rows(path, Rows("trips", "seconds", chosen, time=""))
    assert raw.groups is None and "at random" in card.span
    grouped, card = read_rows(path, Rows("trips", "seconds", chosen, time="", group="driver"))
    assert grouped.groups is not None and grouped.groups.max() == 39 and "driver" in card.span


def test_bad_cells_are_named_by_line_and_column(tmp_path: Path) -> None:
    path = trips(tmp_path / "a.csv", at_3_length_m="long", at_7_length_m="inf", at_9_seconds="?")
    about = Rows("trips", "seconds", ("length_m", "road"))
    assert set(refused(path, about)) == {
        ("line 9", "seconds", "'?'"), ("line 3", "length_m", "'long'"), ("line 7", "length_m", "inf"),
    }  # fmt: skip


def test_a_column_of_names_is_refused_and_named(tmp_path: Path) -> None:
    assert refused(trips(tmp_path / "a.csv")) == [("all", "driver", "40 different words")]


def test_unknown_columns_and_a_target_that_is_a_feature(tmp_path: Path) -> None:
    path = trips(tmp_path / "a.csv")
    names = "time, length_m, road, driver, seconds"
    assert refused(path, Rows("t", "minutes", ("road", "weather"))) == [
        ("header", "minutes", names), ("header", "weather", names),
    ]  # fmt: skip
    assert refused(path, Rows("t", "seconds", ("seconds",))) == [("header", "seconds", "both")]


def test_a_copy_of_the_target_and_what_never_varies(tmp_path: Path) -> None:
    lines = trips(tmp_path / "a.csv").read_text().splitlines()
    more = [f"{line},{float(line.rsplit(',', 1)[1]) / 60:.6f},1" for line in lines[1:]]
    (tmp_path / "b.csv").write_text("\n".join([lines[0] + ",minutes,one", *more]))
    about = Rows("t", "seconds", ("length_m", "minutes", "one"))
    assert refused(tmp_path / "b.csv", about) == [("all", "minutes", "the target itself, scaled")]
    raw, card = read_rows(tmp_path / "b.csv", Rows("t", "seconds", ("length_m", "one")))
    assert card.contract.inputs[0].labels == ("length_m",) and "always 1" in raw.findings[0].got


def test_marked_and_unknown_values_are_missing(tmp_path: Path) -> None:
    path = trips(tmp_path / "a.csv", at_3_length_m="-1", at_4_seconds="-1", at_5_seconds="")
    raw, _ = read_rows(path, Rows("t", "seconds", ("length_m", "road"), missing=-1))
    assert np.isnan(raw.inputs["x"][:, 0]).sum() == 1 and np.isnan(raw.target).sum() == 2


def test_too_few_rows(tmp_path: Path) -> None:
    assert refused(trips(tmp_path / "a.csv", num_days=4), Rows("t", "seconds", ("length_m",))) == [("all", "all", "40")]


def test_a_named_time_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadDataError, match="the column of times"):
        read_rows(trips(tmp_path / "trips.csv"), Rows("trips", "seconds", time="departed"))


def test_a_target_that_never_varies_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "flat.csv"
    path.write_text("x,y\n" + "".join(f"{i},5\n" for i in range(80)))
    with pytest.raises(BadDataError, match="a target that varies"):
        read_rows(path, Rows("flat", "y"))
