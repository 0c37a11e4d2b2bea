"""Bring your own table: a row is a sample, one column the target, the others features.

Numbers are taken as they are, words become 0 or 1 for each of them, a time becomes its hour and its weekday. All is
checked at once and named by line and column.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.card import Contract, DatasetCard, TensorSpec
from models.data.examples import RawExamples, check_examples
from models.data.findings import Finding, capped, found_at, refuse
from models.data.grid import natural
from models.data.parse import bad_numbers, looks_like_time, numbers, times
from models.data.tables import Table, read_table

MAX_WORDS = 24  # different words in one column: more are names, not kinds
MIN_DAYS = 10  # below this every moment is a group of its own
COPY = 0.99999  # correlation with the target at which a feature is the target itself
DEFAULT_TIME = "time"  # looked for, and not missed where there is none
Columns = dict[str, NDArray[np.float64]]  # by name, (S,), NaN where empty


@dataclass(frozen=True)
class Rows:
    """What only the owner of a table knows.

    features: empty takes every other column. time: samples are split in the order of this column, whole days together,
    where there is one. group: rows with the same value never lie in two splits. missing: the value that marks one.
    """

    name: str
    target: str
    features: tuple[str, ...] = ()
    unit: str = ""
    time: str = DEFAULT_TIME
    group: str = ""
    missing: float | None = None
    max_missing_share: float = 0.2


def read_rows(path: Path, about: Rows) -> tuple[RawExamples, DatasetCard]:
    """A CSV or Parquet file with a header as samples of `regress`. Raises BadDataError with every finding."""
    table = read_table(path)
    names = [name.strip() for name in table.names]
    refuse(findings := _header(names, about), path.name)
    cells = {name: table.frame[str(i)] for i, name in enumerate(names)}
    target, more = _number(cells[about.target], about.target, table, about.missing)
    findings += more
    columns, more = _features(cells, table, about)
    findings += more
    refuse(findings := capped(findings), path.name)
    columns, more = _useful(columns, target)
    refuse(findings := findings + more, path.name)
    groups, more = _groups(cells, table, about)
    refuse(findings := findings + more, path.name)
    x = np.stack(list(columns.values()), axis=1).astype(np.float32)  # [S, F]
    findings += _copies(x, target)
    raw = RawExamples({"x": x}, target[:, None].astype(np.float32), groups, findings=tuple(findings))
    card = _card(raw, tuple(columns), about, groups is not None and not about.group)
    check_examples(raw, card.contract)
    return raw, card


def _header(names: list[str], about: Rows) -> list[Finding]:
    """Columns that were named and are not there, or twice."""
    wanted = [about.target, *about.features, *([about.group] if about.group else [])]
    found = [(name, names.count(name)) for name in dict.fromkeys(wanted)]
    findings = [
        Finding("header", name, "one column of this name", "two" if count else ", ".join(names))
        for name, count in found
        if count != 1
    ]
    if about.target in about.features:
        findings.append(Finding("header", about.target, "a feature that is not the target", "both"))
    if about.time not in ("", DEFAULT_TIME, *names):
        findings.append(Finding("header", about.time, "the column of times", ", ".join(names)))
    twice = sorted({name for name in names if names.count(name) > 1} - set(wanted), key=natural)
    return findings + [Finding("header", name or "(no name)", "each name once", "again") for name in twice]


def _number(
    cells: pl.Series, name: str, table: Table, missing: float | None
) -> tuple[NDArray[np.float64], list[Finding]]:
    """A column of numbers, NaN where empty or marked as missing."""
    values, bad = numbers(cells)
    findings = bad_numbers(cells, bad, table.line, name)
    column = values.fill_null(float("nan")).to_numpy().astype(np.float64)
    infinite = np.flatnonzero(np.isinf(column))
    findings += found_at(
        ((table.line(int(i)), name, str(cells[int(i)])) for i in infinite), len(infinite), "a finite number"
    )
    if missing is not None:
        column = np.where(column == missing, np.nan, column)
    return column, findings


def _features(cells: dict[str, pl.Series], table: Table, about: Rows) -> tuple[Columns, list[Finding]]:
    """Every feature as numbers, under the name that a caller knows it by."""
    columns: Columns = {}
    findings: list[Finding] = []
    for name in about.features or [name for name in cells if name not in (about.target, about.group)]:
        found, more = _feature(cells[name], name, table, about)
        columns |= found
        findings += more
    if not columns and not findings:
        findings.append(Finding("header", "all", "a column beside the target", "none"))
    return columns, findings


def _feature(cells: pl.Series, name: str, table: Table, about: Rows) -> tuple[Columns, list[Finding]]:
    """One column: a number, one of a few words, or a time."""
    _, bad = numbers(cells)
    num_filled = len(cells) - cells.null_count()
    if not looks_like_time(cells) and 2 * int(bad.sum()) <= num_filled:
        column, findings = _number(cells, name, table, about.missing)
        return {name: column}, findings
    if looks_like_time(cells):
        moments, findings = times(cells, name, table.line)
        if name != about.time and not about.features:
            expected = f"--time {name}, to split by it, or --features"
            return {}, [Finding("header", name, expected, "a time that was not named, left out", 1, "warning")]
        hour = moments.dt.hour().cast(pl.Float64) + moments.dt.minute().cast(pl.Float64) / 60
        weekday = moments.dt.weekday().cast(pl.Float64) - 1
        return {f"{name}_hour": hour.to_numpy(), f"{name}_weekday": weekday.to_numpy()}, findings
    words = cells.cast(pl.String).str.strip_chars().replace("", None)
    kinds = sorted(words.drop_nulls().unique(), key=natural)
    if len(kinds) > MAX_WORDS:
        expected = f"numbers, or at most {MAX_WORDS} different words; --features leaves it out"
        return {}, [Finding("all", name, expected, f"{len(kinds)} different words")]
    empty = words.is_null().to_numpy()
    return {
        f"{name}={kind}": np.where(empty, np.nan, (words == kind).fill_null(False).to_numpy().astype(float))
        for kind in kinds
    }, []


def _useful(columns: Columns, target: NDArray[np.float64]) -> tuple[Columns, list[Finding]]:
    """Features that vary; one that is the target in another unit is refused."""
    findings: list[Finding] = []
    kept: Columns = {}
    known_target = ~np.isnan(target)
    if known_target.any() and np.ptp(target[known_target]) == 0:
        findings.append(Finding("all", "target", "a target that varies", f"always {target[known_target][0]:g}"))
    for name, column in columns.items():
        known = column[~np.isnan(column)]
        if known.size == 0 or known.min() == known.max():
            got = f"always {known[0]:g}, left out" if known.size else "no value, left out"
            findings.append(Finding("all", name, "a feature that varies", got, 1, "warning"))
            continue
        kept[name] = column
        both = known_target & ~np.isnan(column)
        varies = both.sum() > 10 and column[both].std() > 0 and target[both].std() > 0
        if varies and abs(np.corrcoef(column[both], target[both])[0, 1]) > COPY:
            findings.append(Finding("all", name, "a feature not derived from the target", "the target itself, scaled"))
    if not kept:
        findings.append(Finding("all", "all", "a feature that varies", "none"))
    return kept, findings


def _groups(cells: dict[str, pl.Series], table: Table, about: Rows) -> tuple[NDArray[np.int64] | None, list[Finding]]:
    """The group of each row, earlier groups first; None where rows are on their own."""
    moments: pl.Series | None = None
    findings: list[Finding] = []
    if about.time in cells and looks_like_time(cells[about.time]):
        moments, findings = times(cells[about.time], about.time, table.line)
        refuse(findings)
    if about.group:
        names = cells[about.group].cast(pl.String)
        empty = names.is_null().arg_true()
        findings += found_at(((table.line(i), about.group, "an empty cell") for i in empty), len(empty), "a group")
        order = moments if moments is not None else pl.int_range(len(names), eager=True)
        first = pl.DataFrame({"name": names, "at": order}).group_by("name").agg(pl.col("at").min()).sort("at", "name")
        rank = {name: place for place, name in enumerate(first["name"])}
        return np.array([rank[name] for name in names], np.int64), findings
    if moments is None:
        return None, findings
    days = moments.dt.date().rank("dense").cast(pl.Int64)
    apart = days if days.n_unique() >= MIN_DAYS else moments.rank("dense").cast(pl.Int64)
    return apart.to_numpy() - 1, [finding for finding in findings if finding.severity == "error"]


def _copies(x: NDArray[np.float32], target: NDArray[np.float64]) -> list[Finding]:
    """Rows that are there twice: one may be learned from and the other judged."""
    rows = np.nan_to_num(np.column_stack([x, target]), nan=-9.87e30)
    num_copies = len(rows) - len(np.unique(rows, axis=0))
    return [Finding("all", "all", "rows that differ", "exact copies", num_copies, "warning")] if num_copies else []


def _card(raw: RawExamples, labels: Sequence[str], about: Rows, by_time: bool) -> DatasetCard:
    x, unit = raw.inputs["x"], about.unit or "unknown"
    known = int((~np.isnan(raw.target)).sum())
    how = "split in the order of time" if by_time else f"split by {about.group}" if about.group else "split at random"
    spec = TensorSpec(name="x", shape=(len(labels),), labels=tuple(labels), can_miss=bool(np.isnan(x).any()))
    contract = Contract(
        inputs=(spec,),
        target=TensorSpec(name=about.target, shape=(1,), unit=unit, labels=(about.target,)),
        max_missing_share=about.max_missing_share,
    )
    return DatasetCard(
        name=about.name,
        task="regress",
        title=f"{about.target} from {len(labels)} features",
        source="brought by the user",
        licence="unknown",
        span=f"{len(x)} rows, the target of {known} known, {how}",
        missing_share=round(float(np.isnan(x).mean()), 6),
        contract=contract,
    )
