"""Text into numbers, times and durations; every cell that is none is found, not dropped."""

import re

import polars as pl

from models.data.findings import Finding, RowName, found_at

NO_VALUE = ("", "na", "n/a", "nan", "null", "none", "-", "--")
MINUTES = {"s": 1 / 60, "sec": 1 / 60, "min": 1.0, "m": 1.0, "h": 60.0, "d": 1440.0}
ISO = tuple(f"%Y-%m-%d{sep}{clock}" for sep in (" ", "T") for clock in ("%H:%M:%S%.f", "%H:%M:%S", "%H:%M"))
OTHER_FORMATS = ("%Y-%m-%d", "%Y/%m/%d %H:%M:%S", "%Y/%m/%d %H:%M", "%d.%m.%Y %H:%M:%S", "%d.%m.%Y %H:%M", "%Y%m%d%H%M")
MONTH_FIRST = ("%m/%d/%Y %H:%M:%S", "%m/%d/%Y %H:%M")
DAY_FIRST = ("%d/%m/%Y %H:%M:%S", "%d/%m/%Y %H:%M")
TIME_EXPECTED = "a time such as 2024-05-01 08:15"


def parse_cadence(text: str) -> float:
    """Minutes of "5min", "30s", "1h"; raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+)\s*", text.lower())
    minutes = float(match[1]) * MINUTES.get(match[2], 0) if match else 0
    if minutes <= 0:
        raise ValueError(f"cadence: expected a duration such as 5min, 30s or 1h, got '{text}'")
    return minutes


def numbers(values: pl.Series) -> tuple[pl.Series, pl.Series]:
    """Values as Float64 (null = missing) and where a cell is text that is no number: (S,), (S,) bool."""
    if values.dtype.is_numeric() or values.dtype in (pl.Null, pl.Boolean):
        return values.cast(pl.Float64).fill_nan(None), pl.repeat(False, len(values), eager=True)
    text = values.cast(pl.String, strict=False)
    parsed = text.cast(pl.Float64, strict=False)
    unclear = parsed.is_null() & values.is_not_null()
    if not unclear.any():
        return parsed.fill_nan(None), unclear
    stripped = text.str.strip_chars()
    again = stripped.cast(pl.Float64, strict=False)
    bad = again.is_null() & values.is_not_null() & ~stripped.str.to_lowercase().is_in(NO_VALUE).fill_null(False)
    return again.fill_nan(None), bad


def bad_numbers(
    values: pl.Series, bad: pl.Series, rows: RowName, column: str, expected: str = "a number"
) -> list[Finding]:
    """Findings for the cells that `numbers` could not read."""
    places = ((rows(i), column, repr(values[i])) for i in bad.arg_true())
    return found_at(places, int(bad.sum()), expected)


def times(values: pl.Series, column: str, rows: RowName) -> tuple[pl.Series, list[Finding]]:
    """Values as naive Datetime[us]; what carries a zone becomes UTC, and that is said.

    Text may be ISO 8601, one of a few common formats, or Unix seconds. Day and month in slashes are accepted only where
    the data leaves one reading.
    """
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        naive, findings = _naive(values, column)
        return naive, findings + _no_times(values, naive, column, rows)
    text = values.cast(pl.String, strict=False).str.strip_chars()
    text = text.set(text == "", None)
    known = text.unique(maintain_order=True).drop_nulls()
    form, findings = _format(known, column)
    parsed = _parse(known, form) if form else pl.Series([None] * len(known), dtype=pl.Datetime("us"))
    result = pl.DataFrame({"text": text}).join(
        pl.DataFrame({"text": known, "time": parsed}), on="text", how="left", maintain_order="left"
    )["time"]
    naive, said = _naive(result, column)
    return naive, findings or said + _no_times(values, naive, column, rows)


def _no_times(values: pl.Series, parsed: pl.Series, column: str, rows: RowName) -> list[Finding]:
    bad = parsed.is_null()
    return found_at(((rows(i), column, repr(values[i])) for i in bad.arg_true()), int(bad.sum()), TIME_EXPECTED)


def looks_like_time(values: pl.Series) -> bool:
    """Whether a column without a telling name holds times: dates as such, or text of which most parses as one."""
    if isinstance(values.dtype, pl.Datetime | pl.Date):
        return True
    if values.dtype != pl.String:
        return False
    known = values.str.strip_chars().unique(maintain_order=True).drop_nulls().head(200)
    form, findings = _format(known.filter(known.cast(pl.Float64, strict=False).is_null()), "")
    return bool(findings) or (form != "" and 2 * _parse(known, form).count() > len(known))


def _format(known: pl.Series, column: str) -> tuple[str, list[Finding]]:
    """The format that reads most of these texts ("" if none does), or why there is no telling."""
    if known.is_empty():
        return "", []
    counts: dict[str, int] = {}
    for form in (*ISO, *(f"{form}%z" for form in ISO), *OTHER_FORMATS, "unix", *MONTH_FIRST, *DAY_FIRST):
        counts[form] = int(_parse(known, form).is_not_null().sum())
        if counts[form] == len(known) and form not in MONTH_FIRST:
            break
    best = max(counts, key=lambda form: counts[form])
    if counts[best] == 0:
        return "", []
    rival = DAY_FIRST[MONTH_FIRST.index(best)] if best in MONTH_FIRST else ""
    if rival and counts.get(rival) == counts[best]:
        return "", [Finding("all", column, "times that tell day from month, such as 2024-05-01 08:15", repr(known[0]))]
    return best, []


def _parse(known: pl.Series, form: str) -> pl.Series:
    if form == "unix":
        seconds = known.cast(pl.Float64, strict=False)
        plausible = seconds.is_between(5e8, 5e9)
        return (seconds.set(~plausible, None) * 1e6).cast(pl.Int64).cast(pl.Datetime("us"))
    if form.endswith("%z"):
        known = known.str.replace(r"[Zz]$", "+00:00")
        return known.str.to_datetime(form, time_unit="us", strict=False, time_zone="UTC")
    return known.str.to_datetime(form, time_unit="us", strict=False)


def _naive(values: pl.Series, column: str) -> tuple[pl.Series, list[Finding]]:
    if isinstance(values.dtype, pl.Datetime) and values.dtype.time_zone is not None:
        said = Finding("all", column, "local time without a zone", "a zone: converted to UTC", len(values), "warning")
        return values.dt.convert_time_zone("UTC").dt.replace_time_zone(None).dt.cast_time_unit("us"), [said]
    return values.cast(pl.Datetime("us")), []
