"""Bring your own data: wide and long tables become raw data with a card.

Both readers check the contract at once, so what is wrong is told when data is added, not in the middle of a run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.adjacency import read_adjacency
from models.data.card import Channel, Contract, DatasetCard, PersonalColumn
from models.data.contract import check_series
from models.data.findings import Finding, capped, found_at, refuse
from models.data.grid import MINUTE_US, MINUTES_PER_DAY, gaps, natural
from models.data.masking import mask
from models.data.parse import bad_numbers, looks_like_time, numbers, times
from models.data.series import NODE, ROW, TIME, RawSeries
from models.data.tables import Table, read_table

DEFAULT_START = "2000-01-01T00:00"
NUM_TRAIN_STEPS, EPOCHS = 700, (8, 24)  # steps of optimisation that a network is given, in batches of 64 windows
TIME_NAMES = ("time", "timestamp", "datetime", "date", "t", "date_time")
KNOWN_UNITS: dict[str, tuple[str, float | None]] = {  # the channel's usual name, the most that is possible
    "km/h": ("speed_kmh", 300),
    "mph": ("speed_mph", 200),
    "m/s": ("speed_mps", 85),
    "veh/h": ("flow_vph", 20_000),
    "veh": ("count_veh", None),
    "count": ("count_veh", None),
    "%": ("occupancy_pct", 100),
    "s": ("travel_time_s", None),
    "min": ("travel_time_min", None),
}


@dataclass(frozen=True)
class Description:
    """What only the owner of the data knows. `cadence_min` None: inferred; `missing_value` marks what is missing."""

    name: str
    title: str = ""
    source: str = "brought by the user"
    licence: str = "unknown"
    cadence_min: float | None = None
    missing_value: float | None = None
    max_missing_share: float = 0.2
    personal: tuple[PersonalColumn, ...] = ()
    masking_key: bytes = b""


def channel_of(unit: str, name: str = "") -> Channel:
    """A channel in this unit; a known unit brings the usual name and the range that is possible."""
    if unit not in KNOWN_UNITS:
        return Channel(name=name or "value", unit=unit or "unknown")
    usual, maximum = KNOWN_UNITS[unit]
    return Channel(name=name or usual, unit=unit, minimum=0, maximum=maximum)


def read_wide(
    path: Path, about: Description, unit: str = "", start: str = "", adjacency: Path | None = None
) -> tuple[RawSeries, DatasetCard]:
    """Rows are times, columns are sensors; the first column may hold the time.

    Where none does, rows follow each other by `about.cadence_min` from `start` on. Raises BadDataError.
    """
    table = read_table(path)
    time, first, findings = _wide_time(table, about.cadence_min, start)
    nodes = table.names[first:]
    refuse(findings := findings + _header(nodes, first), path.name)
    values, more = _matrix(table, range(first, len(table.names)))
    refuse(findings := findings + more, path.name)
    channel = channel_of(unit)
    num_steps, num_nodes = values.shape
    frame = pl.DataFrame(
        {
            TIME: time.gather(np.repeat(np.arange(num_steps), num_nodes)),
            NODE: pl.Series(nodes, dtype=pl.Enum(nodes)).gather(np.tile(np.arange(num_nodes), num_steps)),
            channel.name: pl.Series(values.ravel()),
            ROW: np.repeat(np.arange(num_steps) + table.first_line, num_nodes),
        }
    )
    links = read_adjacency(adjacency, nodes) if adjacency else None
    raw = RawSeries(frame, nodes, links, (table.names[0] if first else TIME, NODE), tuple(findings))
    return _checked(raw, (channel,), about)


def read_long(
    path: Path,
    about: Description,
    time: str,
    node: str,
    values: Sequence[str],
    units: Sequence[str] = (),
    adjacency: Path | None = None,
) -> tuple[RawSeries, DatasetCard]:
    """One row for each time and sensor. The first of `values` is the target.

    Other columns are left out, and that is said. `about.personal` names columns to mask, `node` may be one of them.
    Raises BadDataError.
    """
    table = read_table(path)
    names = [name.strip() for name in table.names]
    masked = {column.name: column.name for column in about.personal if column.name != node}
    wanted = {time: TIME, node: NODE, **{value: value for value in values}, **masked}
    if len(wanted) != 2 + len(values) + len(masked):
        twice = Finding("header", f"{time}, {node}, {', '.join(values)}", "different columns", "one named twice")
        refuse([twice], path.name)
    findings = _named(names, list(wanted))
    reserved = sorted({TIME, NODE, ROW} & {*values, *masked})
    findings += [Finding("header", name, "another name for this column", "a reserved one") for name in reserved]
    refuse(findings, path.name)
    columns = {new: table.frame[str(names.index(old))] for old, new in wanted.items()}
    columns[NODE] = columns[NODE].cast(pl.String).str.strip_chars().replace("", None)
    frame = pl.DataFrame(
        {**columns, ROW: pl.int_range(table.first_line, table.first_line + table.frame.height, eager=True)}
    )
    # Before anything is looked at: a finding must not show what is personal.
    personal = tuple(c.model_copy(update={"name": NODE}) if c.name == node else c for c in about.personal)
    frame = mask(frame, personal, about.masking_key)
    channels = tuple(channel_of(unit, name) for name, unit in zip(values, [*units, *[""] * len(values)], strict=False))
    nodes = tuple(sorted(frame[NODE].drop_nulls().unique(), key=natural))
    links = read_adjacency(adjacency, nodes) if adjacency else None
    raw = RawSeries(frame, nodes, links, (time, node), tuple(findings))
    return _checked(raw, channels, about)


def _named(names: list[str], wanted: list[str]) -> list[Finding]:
    """Columns that were named and are not there, or twice; and, as warnings, those that were not named."""
    found = [(name, names.count(name)) for name in wanted]
    findings = [
        Finding("header", name, "one column of this name", "two" if count else ", ".join(names))
        for name, count in found
        if count != 1
    ]
    odd = [name for name in names if name not in wanted]
    return findings + [
        Finding("header", name, "a column that was named", "another, left out", 1, "warning") for name in odd
    ]


def _wide_time(table: Table, cadence_min: float | None, start: str) -> tuple[pl.Series, int, list[Finding]]:
    """The time of each row, the index of the first sensor column, findings."""
    cells, name = table.frame["0"], table.names[0]
    findings: list[Finding] = []
    if name.lower() in TIME_NAMES or looks_like_time(cells):
        if looks_like_time(pl.Series([name])):
            return cells, 1, [Finding("line 1", "all", "a header that names the sensors", repr(name))]
        time, findings = times(cells, name or "column 1", table.line)
        backward = (time.to_physical().diff() <= 0).fill_null(False)
        places = ((table.line(i), name, f"{time[i]} after {time[i - 1]}") for i in backward.arg_true())
        findings += found_at(places, int(backward.sum()), "times that rise from row to row")
        if start:
            findings.append(Finding("all", "--start", "no start, as there is a time column", start, 1, "warning"))
        return time, 1, findings
    first = 0
    if name == "" and numbers(cells)[0].to_list() == list(range(len(cells))):
        first, findings = 1, [Finding("all", "column 1", "sensors", "row numbers, left out", 1, "warning")]
    if cadence_min is None:
        return cells, first, [*findings, Finding("all", "--cadence", "a time column or a cadence", "neither")]
    if not start:
        said = Finding("all", "--start", "the time of the first row", f"none: {DEFAULT_START} assumed", 1, "warning")
        findings.append(said)
    begin, more = times(pl.Series([start or DEFAULT_START]), "--start", lambda _: "all")
    steps_us = pl.Series(np.arange(len(cells)) * round(cadence_min * MINUTE_US))
    return (
        pl.repeat(begin[0], len(cells), dtype=pl.Datetime("us"), eager=True) + steps_us.cast(pl.Duration("us")),
        first,
        findings + more,
    )


def _header(nodes: tuple[str, ...], first: int) -> list[Finding]:
    """Sensor names that are missing, double, or look like values."""
    values, _ = numbers(pl.Series(nodes, dtype=pl.String))
    fractions = ((values % 1) != 0).fill_null(False)
    if not nodes:
        return [Finding("line 1", "all", "sensor columns", "none")]
    if 2 * fractions.sum() > len(nodes):
        return [Finding("line 1", "all", "a header that names the sensors", f"numbers: {', '.join(nodes[:3])}, …")]
    findings = [
        Finding("line 1", f"column {i + first + 1}", "the name of a sensor", "an empty cell")
        for i, name in enumerate(nodes)
        if not name
    ]
    twice = [name for i, name in enumerate(nodes) if name and name in nodes[:i]]
    return capped(findings + [Finding("line 1", name, "each sensor once", "again") for name in twice])


def _matrix(table: Table, columns: range) -> tuple[NDArray[np.float64], list[Finding]]:
    """The sensor columns as (S, N), NaN where empty."""
    values = np.empty((table.frame.height, len(columns)))
    findings: list[Finding] = []
    for place, i in enumerate(columns):
        cells = table.frame[str(i)]
        column, bad = numbers(cells)
        findings += bad_numbers(cells, bad, table.line, table.names[i])
        values[:, place] = column.to_numpy()
    return values, capped(findings)


def _training(num_steps: int) -> dict[str, int]:
    """How long networks are trained on a series of so many steps: epochs enough for `NUM_TRAIN_STEPS`, within bounds.

    A week at 5 minutes is 22 batches, so that the usual 8 epochs would end long before the network has learned it.
    """
    num_batches = max(1, round(0.7 * num_steps / 64))
    epochs = min(max(round(NUM_TRAIN_STEPS / num_batches), EPOCHS[0]), EPOCHS[1])
    return {"train.num_epochs": epochs, "train.patience": epochs, "distil.num_epochs": epochs}


def _checked(raw: RawSeries, channels: tuple[Channel, ...], about: Description) -> tuple[RawSeries, DatasetCard]:
    """The raw data with all warnings of its check, and its card, with what was measured."""
    contract = Contract(
        channels=channels,
        cadence_min=about.cadence_min,
        missing_value=about.missing_value,
        max_missing_share=about.max_missing_share,
        personal=tuple(c for c in about.personal if c.how != "drop" and c.name != raw.labels[1]),
    )
    series = check_series(raw, contract)
    ends = " to ".join(str(moment.astype("datetime64[m]")).replace("T", " ") for moment in series.time[[0, -1]])
    is_assumed = any(DEFAULT_START in finding.got for finding in raw.findings)
    note = f"; the file has no times, {DEFAULT_START} was assumed for its first row" if is_assumed else ""
    day = int(MINUTES_PER_DAY // series.cadence_min)  # a longer outage of all sensors is refused
    contract = contract.model_copy(update={"cadence_min": series.cadence_min, "max_gap_steps": day})
    seen = series.time[~np.isnan(series.values[:, :, 0]).all(axis=1)].astype(np.int64)
    refuse(gaps(seen, round(series.cadence_min * MINUTE_US), contract, raw.labels[0]))
    card = DatasetCard(
        name=about.name,
        task="forecast",
        title=about.title or about.name,
        source=about.source,
        licence=about.licence,
        span=f"{ends}, every {series.cadence_min:g} min{note}",
        num_nodes=len(series.nodes),
        missing_share=round(series.missing_share, 6),
        contract=contract,
        recipe=_training(len(series.time)),
    )
    return replace(raw, findings=series.findings), card
