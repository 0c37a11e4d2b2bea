"""Numbers, times and durations from text."""

from datetime import datetime

import polars as pl
import pytest

from models.data.parse import looks_like_time, numbers, parse_cadence, times


@pytest.mark.parametrize(("text", "minutes"), [("5min", 5), ("1h", 60), ("30s", 0.5), (" 15 Min ", 15), ("1d", 1440)])
def test_cadence(text: str, minutes: float) -> None:
    assert parse_cadence(text) == minutes


@pytest.mark.parametrize("text", ["", "5", "five min", "-5min", "0min", "5 parsecs"])
def test_a_cadence_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration such as 5min"):
        parse_cadence(text)


def test_numbers_keep_missing_apart_from_wrong() -> None:
    values, bad = numbers(pl.Series(["1.5", " 2 ", "", "NaN", "n/a", None, "x", "1e3", "12,5"]))
    assert values.to_list() == [1.5, 2.0, None, None, None, None, None, 1000.0, None]
    assert bad.arg_true().to_list() == [6, 8]


@pytest.mark.parametrize(
    "text",
    [
        "2024-05-01 08:15",
        "2024-05-01T08:15:00",
        "2024-05-01 08:15:00.000",
        "2024/05/01 08:15",
        "01.05.2024 08:15",
        "2024-05-01T08:15:00Z",
        "2024-05-01T10:15:00+02:00",
        "1714551300",
    ],
)
def test_time_formats(text: str) -> None:
    parsed, findings = times(pl.Series([text, None]), "t", str)
    assert parsed[0] == datetime(2024, 5, 1, 8, 15)
    assert [finding.got for finding in findings if finding.severity == "error"] == ["None"]
    assert any("UTC" in finding.got for finding in findings) == (text[-1] == "Z" or "+" in text)


def test_day_and_month_are_taken_only_where_one_reading_is_left() -> None:
    parsed, findings = times(pl.Series(["04/18/2024 00:15", "05/01/2024 00:15"]), "t", str)
    assert (parsed[1], findings) == (datetime(2024, 5, 1, 0, 15), [])
    _, findings = times(pl.Series(["04/08/2024 00:15", "05/01/2024 00:15"]), "t", str)
    assert [finding.expected for finding in findings] == ["times that tell day from month, such as 2024-05-01 08:15"]


def test_a_zone_of_a_typed_column_becomes_utc() -> None:
    zoned = pl.Series([datetime(2024, 5, 1, 10, 15)]).dt.replace_time_zone("Europe/Berlin")
    parsed, findings = times(zoned, "t", str)
    assert parsed[0] == datetime(2024, 5, 1, 8, 15)
    assert len(findings) == 1


def test_looks_like_time() -> None:
    assert looks_like_time(pl.Series(["2024-05-01 08:15", "2024-05-01 08:20"]))
    assert not looks_like_time(pl.Series(["61.5", "59.0"]))
    assert not looks_like_time(pl.Series(["s1", "s2"]))
