"""The gate of all data: what breaks its contract is refused, what is merely odd is reported.

Nothing is dropped: a value that is missing becomes NaN and is counted, all else that is not as promised is named.
"""

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data import grid
from models.data.card import Channel, Contract
from models.data.findings import BadDataError, Finding, RowName, found_at, refuse
from models.data.parse import bad_numbers, numbers, times
from models.data.series import NODE, ROW, TIME, Images, RawImages, RawSeries, Series

__all__ = ["BadDataError", "Finding", "check_images", "check_series"]


def check_series(raw: RawSeries, contract: Contract) -> Series:
    """The raw table on its grid, warnings in `.findings`; raises BadDataError.

    Checks columns, cells that do not parse, infinities, ranges, duplicates, order, cadence, gaps, the share missing,
    dead sensors and channels derived from the target.
    """
    refuse(findings := [*raw.findings, *_columns(raw, contract)])
    rows, time_label = _row_name(raw.frame), raw.labels[0]
    frame, more = _parsed(raw, contract, rows)
    refuse(findings := findings + more)
    times_us = frame[TIME].to_physical().to_numpy()
    distinct_us = np.unique(times_us)
    cadence_min, more = grid.cadence(distinct_us, contract, time_label)
    refuse(findings := findings + more)
    cadence_us = round(cadence_min * grid.MINUTE_US)
    nodes = raw.nodes or tuple(sorted(frame[NODE].drop_nulls().unique(), key=grid.natural))
    frame = frame.with_columns(frame[NODE].cast(pl.Enum(nodes), strict=False))  # an unknown name becomes null
    findings += grid.off_grid(times_us, distinct_us, rows, cadence_us, time_label)
    findings += _nodes(frame, raw, rows) + _order(frame, distinct_us, raw, rows)
    for channel in contract.channels:
        findings += _range(frame, channel, rows)
    refuse(findings)
    values, more = _laid_out(frame, nodes, cadence_us, contract, time_label)
    refuse(findings := findings + more)
    time = (distinct_us[0] + np.arange(len(values)) * cadence_us).astype("datetime64[us]")
    channels = tuple(channel.name for channel in contract.channels)
    units = tuple(channel.unit for channel in contract.channels)
    return Series(
        time, values, nodes, channels, units, cadence_min, _adjacency(raw, nodes), tuple(dict.fromkeys(findings))
    )


def check_images(raw: RawImages, contract: Contract) -> Images:
    """The raw images, warnings in `.findings`; raises BadDataError."""
    findings = list(raw.findings)
    if raw.pixels.dtype != np.uint8:
        findings.append(Finding("all", "pixels", "uint8", str(raw.pixels.dtype)))
    if contract.image_shape is not None and raw.pixels.shape[1:] != contract.image_shape:
        findings.append(Finding("all", "pixels", f"shape {contract.image_shape}", f"{raw.pixels.shape[1:]}"))
    if contract.classes and raw.classes != contract.classes:
        findings.append(Finding("all", "label", ", ".join(contract.classes), ", ".join(raw.classes)))
    bad = np.flatnonzero((raw.labels < 0) | (raw.labels >= len(raw.classes)))
    places = ((f"image {i}", "label", str(raw.labels[i])) for i in bad)
    findings += found_at(places, len(bad), f"0 to {len(raw.classes) - 1}")
    refuse(findings)
    for name, count in zip(raw.classes, np.bincount(raw.labels, minlength=len(raw.classes)), strict=True):
        if count < contract.min_per_class:
            findings.append(Finding("all", f"class {name}", f"at least {contract.min_per_class} images", str(count)))
    refuse(findings := findings + _odd_images(raw.pixels))
    return Images(raw.pixels, raw.labels.astype(np.int64), raw.classes, tuple(dict.fromkeys(findings)))


def _columns(raw: RawSeries, contract: Contract) -> list[Finding]:
    """Columns that the contract names and the table lacks, and the other way round."""
    have, kept = raw.frame.columns, [column.name for column in contract.personal if column.how != "drop"]
    needed = [TIME, NODE, *(channel.name for channel in contract.channels), *kept]
    findings = [
        Finding("header", name, "a column of this name", ", ".join(have))
        for name in dict.fromkeys(needed)
        if name not in have
    ]
    odd = [name for name in have if name not in (*needed, ROW)]
    findings += [Finding("header", name, "a column of the contract", "another, left out", 1, "warning") for name in odd]
    unnamed = [channel.name for channel in contract.channels if not channel.unit]
    findings += [Finding("contract", name, "a unit", "none") for name in unnamed]
    if raw.frame.is_empty():
        findings.append(Finding("all", "all", "rows", "none"))
    return findings


def _parsed(raw: RawSeries, contract: Contract, rows: RowName) -> tuple[pl.DataFrame, list[Finding]]:
    """The table with typed columns; the contract's missing value and NaN become null."""
    frame = raw.frame
    time, findings = times(frame[TIME], raw.labels[0], rows)
    node = frame[NODE] if isinstance(frame[NODE].dtype, pl.Enum) else frame[NODE].cast(pl.String)
    columns = [time.alias(TIME), node]
    for channel in contract.channels:
        values, bad = numbers(frame[channel.name])
        findings += bad_numbers(frame[channel.name], bad, rows, channel.name)
        infinite = values.is_infinite().fill_null(False)
        places = ((rows(i), f"{channel.name} of {frame[NODE][i]}", str(values[i])) for i in infinite.arg_true())
        findings += found_at(places, int(infinite.sum()), "a finite number")
        if contract.missing_value is not None:
            values = values.set((values == contract.missing_value).fill_null(False), None)
        columns.append(values.alias(channel.name))
    return pl.DataFrame(columns), findings


def _row_name(frame: pl.DataFrame) -> RowName:
    """What findings call a row: its line in the file where that is known, else its number."""
    if ROW in frame:
        lines = frame[ROW]
        return lambda i: f"line {lines[i]}"
    return lambda i: f"row {i + 1}"


def _nodes(frame: pl.DataFrame, raw: RawSeries, rows: RowName) -> list[Finding]:
    """Rows without a node, or of one that is not known."""
    bad = frame[NODE].is_null()
    places = ((rows(i), raw.labels[1], repr(raw.frame[NODE][i])) for i in bad.arg_true())
    return found_at(places, int(bad.sum()), "the name of a known node" if raw.nodes else "the name of a node")


def _order(frame: pl.DataFrame, distinct_us: NDArray[np.int64], raw: RawSeries, rows: RowName) -> list[Finding]:
    """Two rows of one node at one time are refused; rows of one node that run backward are reported and sorted."""
    time, node = frame[TIME], frame[NODE]
    place = np.searchsorted(distinct_us, time.to_physical().to_numpy())
    code = node.to_physical().cast(pl.Int64).fill_null(-1).to_numpy()
    key = place * (code.max() + 2) + code
    if (np.diff(key) > 0).all():
        return []  # the usual case, told cheaply
    again = (~pl.Series(key).is_first_distinct() & node.is_not_null()).arg_true()
    places = ((rows(i), raw.labels[0], f"{time[i]} of {node[i]} again") for i in again)
    findings = found_at(places, len(again), "one row for each time and node")
    if not time.is_sorted():
        backward = (
            pl.DataFrame({"time": place, "node": node})
            .select((pl.col("time").diff().over("node") < 0).fill_null(False))
            .to_series()
        )
        if count := int(backward.sum()):
            first = rows(int(backward.arg_true()[0]))
            got = "earlier than the row before, sorted"
            findings.append(Finding(first, raw.labels[0], "times that rise", got, count, "warning"))
    return findings


def _range(frame: pl.DataFrame, channel: Channel, rows: RowName) -> list[Finding]:
    """Values that are physically impossible."""
    low = -np.inf if channel.minimum is None else channel.minimum
    high = np.inf if channel.maximum is None else channel.maximum
    values = frame[channel.name]
    bad = ((values < low) | (values > high)).fill_null(False)
    places = (
        (f"{rows(i)} ({frame[TIME][i]})", f"{channel.name} of {frame[NODE][i]}", f"{values[i]:g}")
        for i in bad.arg_true()
    )
    return found_at(places, int(bad.sum()), f"{low:g} to {high:g} {channel.unit}")


def _laid_out(
    frame: pl.DataFrame, nodes: tuple[str, ...], cadence_us: int, contract: Contract, time_label: str
) -> tuple[NDArray[np.float32], list[Finding]]:
    """The dense values (S, N, C), and what is missing, dead or derived in them."""
    times_us = frame[TIME].to_physical().to_numpy()
    first_us, last_us = int(times_us.min()), int(times_us.max())
    shape = ((last_us - first_us) // cadence_us + 1, len(nodes))
    channels = tuple(channel.name for channel in contract.channels)
    seen_us = np.unique(times_us[frame[channels[0]].is_not_null().to_numpy()])
    findings = grid.gaps(seen_us, cadence_us, contract, time_label)
    for name in channels:
        findings += grid.missing(frame[name].count(), shape[0] * shape[1], name, contract)
    refuse(findings)  # before the grid is laid out: one mistyped year would make it huge
    step = (times_us - first_us) // cadence_us
    node = frame[NODE].to_physical().to_numpy().astype(np.int64)
    values = grid.dense(step, node, [frame[name] for name in channels], shape)
    return values, findings + grid.dead(values[:, :, 0], nodes, channels[0]) + grid.leaks(values, channels)


def _adjacency(raw: RawSeries, nodes: tuple[str, ...]) -> NDArray[np.float32] | None:
    if raw.adjacency is None:
        return None
    if raw.adjacency.shape != (len(nodes), len(nodes)):
        raise BadDataError(
            [Finding("all", "adjacency", f"{len(nodes)} × {len(nodes)}", " × ".join(map(str, raw.adjacency.shape)))]
        )
    return raw.adjacency.astype(np.float32)


def _odd_images(pixels: NDArray[np.uint8]) -> list[Finding]:
    """Blank images and exact copies: reported, since a copy may lie in two splits."""
    flat = pixels.reshape(len(pixels), -1)
    blank = np.flatnonzero(flat.min(axis=1) == flat.max(axis=1))
    num_copies = len(flat) - len({image.tobytes() for image in flat})
    places = ((f"image {i}", "pixels", f"all {flat[i, 0]}") for i in blank)
    findings = found_at(places, len(blank), "an image that is not blank", "warning")
    if num_copies:
        findings.append(Finding("all", "pixels", "images that differ", "exact copies", num_copies, "warning"))
    return findings
