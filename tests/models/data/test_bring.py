"""Tables of users: good ones become data, broken ones findings, none a parser's traceback."""

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.data.bring import Description, read_long, read_wide
from models.data.card import PersonalColumn
from models.data.contract import check_series
from models.data.findings import BadDataError, Finding
from models.data.stored import load, load_card, store

VALUES = np.random.default_rng(0).uniform(40, 80, (300, 3)).round(2)
TIMES = [str(np.datetime64("2024-01-01T00:00") + np.timedelta64(5 * i, "m")).replace("T", " ") for i in range(300)]
ROWS = [["time", "s2", "s1", "s10"], *([TIMES[i], *map(str, VALUES[i])] for i in range(300))]
ABOUT = Description("mine")
FIVE = Description("mine", cadence_min=5)


def write(path: Path, rows: list[list[str]], separator: str = ",") -> Path:
    path.write_text("\n".join(separator.join(row) for row in rows) + "\n")
    return path


def findings(path: Path, about: Description = ABOUT) -> tuple[Finding, ...]:
    with pytest.raises(BadDataError) as error:
        read_wide(path, about, "km/h")
    return tuple(finding for finding in error.value.findings if finding.severity == "error")


def test_wide_with_times(tmp_path: Path) -> None:
    raw, card = read_wide(write(tmp_path / "speed.csv", ROWS), ABOUT, "km/h")
    series = check_series(raw, card.contract)
    assert series.nodes == ("s2", "s1", "s10")
    np.testing.assert_array_equal(series.values[:, :, 0], VALUES.astype(np.float32))
    assert (card.num_nodes, card.missing_share, card.contract.cadence_min) == (3, 0.0, 5)
    assert card.span == "2024-01-01 00:00 to 2024-01-02 00:55, every 5 min"
    channel = card.contract.channels[0]
    assert (channel.name, channel.unit, channel.maximum) == ("speed_kmh", "km/h", 300)


def test_the_same_table_in_other_clothes(tmp_path: Path) -> None:
    plain, _ = read_wide(write(tmp_path / "a.csv", ROWS), ABOUT, "km/h")
    zipped = tmp_path / "b.csv.gz"
    zipped.write_bytes(gzip.compress((tmp_path / "a.csv").read_bytes()))
    windows_made = tmp_path / "c.csv"
    windows_made.write_bytes(b"\xef\xbb\xbf" + (tmp_path / "a.csv").read_bytes().replace(b"\n", b"\r\n"))
    semicolons = write(tmp_path / "d.csv", ROWS, ";")
    quoted = write(tmp_path / "e.csv", [[f'"{cell}"' for cell in row] for row in ROWS])
    typed = tmp_path / "f.parquet"
    frame = pl.read_csv(tmp_path / "a.csv", try_parse_dates=True)
    frame.select(*frame.columns[1:], "time").write_parquet(typed)  # as pandas does: the index last
    for path in (zipped, windows_made, semicolons, quoted, typed):
        raw, _ = read_wide(path, ABOUT, "km/h")
        assert raw.frame.drop("#row").equals(plain.frame.drop("#row")), path.name


def test_wide_without_times_like_metr_la(tmp_path: Path) -> None:
    path = write(tmp_path / "speed.csv", [["773869", "767541", "767542"], *(row[1:] for row in ROWS[1:])])
    _, card = read_wide(path, FIVE, "mph", start="2012-03-01")
    assert card.span.startswith("2012-03-01 00:00")
    raw, card = read_wide(path, FIVE, "mph")
    assert "2000-01-01T00:00 was assumed" in card.span
    assert [finding.column for finding in raw.findings] == ["--start"]
    assert findings(path)[0].expected == "a time column or a cadence"
    numbered = [["", "a", "b", "c"], *([str(i), *row[1:]] for i, row in enumerate(ROWS[1:]))]
    assert read_wide(write(tmp_path / "pandas.csv", numbered), FIVE, "mph")[1].num_nodes == 3


def test_missing_marker_and_empty_cells(tmp_path: Path) -> None:
    rows = [list(row) for row in ROWS]
    rows[5][1], rows[6][2], rows[7][3] = "0", "", "NaN"
    raw, card = read_wide(write(tmp_path / "a.csv", rows), Description("mine", missing_value=0), "km/h")
    assert np.isnan(check_series(raw, card.contract).values).sum() == 3
    assert card.missing_share == pytest.approx(3 / 900, abs=1e-6)
    assert [finding.count for finding in raw.findings] == [3]


@pytest.mark.parametrize(
    ("line", "column", "cell", "place", "expected"),
    [
        (7, 2, "abc", ("line 8", "s1"), "a number"),
        (7, 2, "999", ("line 8 (2024-01-01 00:30:00)", "speed_kmh of s1"), "0 to 300 km/h"),
        (7, 0, "noon", ("line 8", "time"), "a time such as 2024-05-01 08:15"),
        (7, 0, "2024-01-01 00:31", ("line 8", "time"), "a time on the grid of 5 min"),
        (7, 0, TIMES[5], ("line 8", "time"), "times that rise from row to row"),
        (0, 2, "s2", ("line 1", "s2"), "each sensor once"),
        (0, 2, "", ("line 1", "column 3"), "the name of a sensor"),
    ],
)
def test_a_broken_cell_is_found(
    tmp_path: Path, line: int, column: int, cell: str, place: tuple[str, str], expected: str
) -> None:
    rows = [list(row) for row in ROWS]
    rows[line][column] = cell
    (finding,) = findings(write(tmp_path / "a.csv", rows))
    assert (finding.row, finding.column, finding.expected) == (*place, expected)


def test_broken_shapes(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    assert findings(write(path, [*ROWS[:9], ROWS[9][:-1], *ROWS[10:]]))[0].row == "line 10"
    assert findings(write(path, [*ROWS[:9], [*ROWS[9], "1"], *ROWS[10:]]))[0].got == "5 cells"
    assert findings(write(path, ROWS[1:]))[0].expected == "a header that names the sensors"
    assert findings(write(path, [row[1:] for row in ROWS[1:]]), FIVE)[0].expected == "a header that names the sensors"
    assert findings(write(path, ROWS[:1]))[0].expected == "rows below the header"
    assert findings(write(path, ROWS[:100]))[0].expected == "at least 200 steps"
    assert findings(write(path, ROWS), Description("mine", cadence_min=15))[0].got == "mostly every 5 min"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "a table"),
        (bytes(range(256)) * 9, "text in UTF-8"),
        ("time,straße\n".encode("latin-1"), "text in UTF-8"),
        (b'time,s1\n"2024-01-01,3\n', "quotation marks that close"),
        (gzip.compress(b"time,s1\n" * 99)[:20], "a whole gzip file"),
        (b"\x1f\x8b" + bytes(50), "a whole gzip file"),
        (b"PAR1" + bytes(50), "a whole Parquet file"),
    ],
)
def test_unreadable_files(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    assert findings(path)[0].expected == expected
    path.unlink()
    assert findings(path)[0].expected == "a file"


def long_frame() -> pl.DataFrame:
    return pl.DataFrame(
        {
            "t": np.repeat(TIMES, 3),
            "id": [7, 11, 100] * 300,
            "v": VALUES.ravel(),
            "q": VALUES[::-1].ravel() * 20,
            "note": "x",
        }
    )


def test_long(tmp_path: Path) -> None:
    long_frame().write_csv(tmp_path / "a.csv")
    long_frame().with_columns(pl.col("t").str.to_datetime()).write_parquet(tmp_path / "a.parquet")
    for path in (tmp_path / "a.csv", tmp_path / "a.parquet"):
        raw, card = read_long(path, ABOUT, "t", "id", ["v", "q"], ["km/h", "veh/h"])
        series = check_series(raw, card.contract)
        assert series.nodes == ("7", "11", "100")
        assert series.channels == ("v", "q")
        np.testing.assert_array_equal(series.values[:, :, 0], VALUES.astype(np.float32))
        assert [finding.column for finding in raw.findings] == ["note"]


def test_long_broken(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    frame = long_frame()
    frame.write_csv(path)
    with pytest.raises(BadDataError, match="speed") as error:
        read_long(path, ABOUT, "t", "id", ["speed"])
    assert error.value.findings[0].got == "t, id, v, q, note"
    frame.rename({"v": "time"}).write_csv(path)
    with pytest.raises(BadDataError, match="reserved"):
        read_long(path, ABOUT, "t", "id", ["time"])
    pl.concat([frame, frame[4:5]]).write_csv(path)
    with pytest.raises(BadDataError) as error:
        read_long(path, ABOUT, "t", "id", ["v"])
    assert (error.value.findings[-2].row, error.value.findings[-2].column) == ("line 902", "t")


def test_an_outage_of_more_than_a_day_is_refused(tmp_path: Path) -> None:
    hours = [str(np.datetime64("2024-01-01T00") + np.timedelta64(i, "h")) for i in range(300) if not 50 <= i < 80]
    rows = [["time", "a", "b"], *([hour + ":00", *map(str, VALUES[i, :2])] for i, hour in enumerate(hours))]
    assert findings(write(tmp_path / "a.csv", rows))[0].expected == "gaps of at most 24 steps"


def test_adjacency(tmp_path: Path) -> None:
    data = write(tmp_path / "a.csv", ROWS)
    matrix = [["0", "1", "2"], ["3", "0", "4"], ["5", "6", "0"]]
    bare = write(tmp_path / "bare.csv", matrix)
    named = write(tmp_path / "named.csv", [["s1", "s2", "s10"], ["0", "3", "4"], ["1", "0", "2"], ["6", "5", "0"]])
    both = [["", "s2", "s1", "s10"], *([name, *row] for name, row in zip(("s2", "s1", "s10"), matrix, strict=True))]
    edges = [["from", "to", "weight"], ["s2", "s1", "1"], ["s2", "s10", "2"], ["s1", "s2", "3"]]
    edges += [["s1", "s10", "4"], ["s10", "s2", "5"], ["s10", "s1", "6"]]
    for path in (bare, named, write(tmp_path / "both.csv", both), write(tmp_path / "edges.csv", edges)):
        raw, _ = read_wide(data, ABOUT, "km/h", adjacency=path)
        np.testing.assert_array_equal(raw.adjacency, np.array(matrix, dtype=np.float32), path.name)
    for broken in ([*matrix, ["0", "0", "0"]], [["0", "1", "x"], *matrix[1:]], [["from", "to"], ["s1", "s9"]]):
        with pytest.raises(BadDataError):
            read_wide(data, ABOUT, "km/h", adjacency=write(tmp_path / "broken.csv", broken))


def test_what_is_stored_loads_again(tmp_path: Path) -> None:
    links = write(tmp_path / "bare.csv", [["0", "1", "2"], ["3", "0", "4"], ["5", "6", "0"]])
    raw, card = read_wide(write(tmp_path / "a.csv", ROWS), ABOUT, "km/h", adjacency=links)
    assert {path.name for path in store(tmp_path / "kept", raw, card)} == {
        "table.parquet",
        "adjacency.parquet",
        "card.json",
    }
    again, same_card = load(tmp_path / "kept")
    assert same_card == load_card(tmp_path / "kept") == card
    before, after = check_series(raw, card.contract), check_series(again, card.contract)  # type: ignore[arg-type]
    np.testing.assert_array_equal(before.values, after.values)
    assert after.nodes == before.nodes
    np.testing.assert_array_equal(before.adjacency, after.adjacency)


def test_personal_columns_are_masked_as_they_are_read(tmp_path: Path) -> None:
    start = np.datetime64("2024-05-06T00:00")
    rows = [
        {"t": str(start + np.timedelta64(5 * step, "m")), "driver": driver, "plate": f"AB-{driver}", "v": 50 + step % 7}
        for step in range(400)
        for driver in ("Ada Lovelace", "Alan Turing")
    ]
    path = tmp_path / "trips.csv"
    pl.DataFrame(rows).write_csv(path)
    personal = (PersonalColumn(name="driver"), PersonalColumn(name="plate"))
    about = Description("trips", personal=personal, masking_key=b"0123456789abcdef")
    raw, card = read_long(path, about, "t", "driver", ["v"], ["km/h"])
    files = store(tmp_path / "kept", raw, card)
    assert len(raw.nodes) == 2
    assert card.contract.personal == (PersonalColumn(name="plate"),)
    for secret in ("Ada", "Turing", "AB-"):
        assert secret not in raw.frame.write_csv()
        assert all(secret.encode() not in file.read_bytes() for file in files)


def test_a_short_series_is_gone_over_more_often(tmp_path: Path) -> None:
    """A week at 5 minutes is 22 batches an epoch; the card says how many epochs it needs."""
    path = tmp_path / "speeds.csv"
    epochs = []
    for num_rows in (2016, 20_000):
        path.write_text("a,b\n" + "\n".join(f"{50 + i % 7},{60 + i % 5}" for i in range(num_rows)))
        epochs.append(read_wide(path, Description("speeds", cadence_min=5), unit="km/h")[1].recipe["train.num_epochs"])
    assert epochs == [24, 8]
