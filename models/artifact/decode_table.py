"""Decodes a table of the last past steps, one row a step or one row a reading, in any order.

Wide: `time` and one column for each node (`S01`, or `S01:speed_kmh` where there are several channels). Long: `time`,
`node` and one column for each channel (or `value` where there is one). Rows and columns come in any order; an empty
cell is a missing value. A column `window`, of any labels, makes one table several windows, answered as a list.
"""

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import tensors, wire
from models.artifact.checks import InputError, check_batch, check_count, check_time, check_window
from models.artifact.manifest import Manifest

TIME, NODE, WINDOW, VALUE = "time", "node", "window", "value"
NO_VALUE = ("", "na", "n/a", "nan", "null", "none", "-", "--")  # as in training
_NUM_NAMED = 8
_NUM_LABELS = 3  # columns of a long table beside its readings


@dataclass(frozen=True)
class Table:
    """Columns of equal length by name, cells as they came (text, numbers, times, None), and what row 0 is called."""

    columns: dict[str, list[Any]]
    first_row: int = 0
    row_word: str = "row"

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.columns.values()), []))

    def place(self, row: int, column: str) -> str:
        """Where a cell is, as a message says it."""
        return f"{self.row_word} {row + self.first_row}, column {column[:60]}"


def num_columns(manifest: Manifest) -> int:
    """The most columns that a table may have."""
    if manifest.inputs:
        return sum(math.prod(spec.shape) for spec in manifest.inputs)
    return 2 + len(manifest.nodes) * len(manifest.channels)


def check_size(manifest: Manifest, names: Sequence[str], num_rows: int) -> None:
    """Refuse more columns or rows than a table with this header can have; raises InputError."""
    num_nodes, most_columns = len(manifest.nodes), num_columns(manifest)
    most_rows = manifest.max_batch * manifest.past_steps * (num_nodes if NODE in names else 1)
    if manifest.inputs:
        most_rows = manifest.max_batch
    if len(names) > most_columns or num_rows > most_rows:
        expected = f"at most {most_rows} rows of {most_columns} cells"
        raise InputError("table too large", "table", expected, f"{num_rows} rows of {len(names)}")


def table_of(names: Sequence[str], columns: Sequence[list[Any]], first_row: int, row_word: str) -> Table:
    """A table; raises InputError when a name stands twice or there are no rows."""
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("repeated column", "table", "every name once", f"{repeated[0][:60]!r} more than once")
    table = Table(dict(zip(names, columns, strict=True)), first_row, row_word)
    if not table.num_rows:
        raise InputError("empty table", "table", "rows below the header", "none")
    return table


def read_csv(manifest: Manifest, body: bytes) -> Table:
    """The cells of a CSV in UTF-8, separated by comma, semicolon or tab; raises InputError."""
    rows: list[list[str]] = []
    try:  # the csv module and the decoder say what is wrong by raising; a client needs it as an InputError
        text = body.decode("utf-8-sig")
        separator = max(",;\t", key=text.partition("\n")[0].count)
        check_count(body, _most_cells(manifest), "table", separator.encode())
        for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            rows.append(row)
            check_size(manifest, [name.strip() for name in rows[0]], len(rows) - 1)
    except UnicodeDecodeError as error:
        raise InputError("not text", f"body, byte {error.start}", "CSV in UTF-8", error.reason) from error
    except csv.Error as error:
        raise InputError("not CSV", "body", "CSV, quotation marks closed", str(error)[:120]) from error
    while rows and not rows[-1]:
        rows.pop()  # blank lines at the end
    if not rows:
        raise InputError("empty table", "table", "a header and rows", "nothing")
    for index, row in enumerate(rows):
        if len(row) != len(rows[0]):
            expected = f"{len(rows[0])} cells, as in the header"
            raise InputError("ragged table", f"line {index + 1}", expected, f"{len(row)} cells")
    columns = [list(cells) for cells in zip(*rows[1:], strict=True)] or [[] for _ in rows[0]]
    return table_of([name.strip() for name in rows[0]], columns, 2, "line")


def _most_cells(manifest: Manifest) -> int:
    if manifest.inputs:
        return (manifest.max_batch + 1) * num_columns(manifest)
    num_readings = manifest.max_batch * manifest.past_steps * len(manifest.nodes)
    return num_readings * (len(manifest.channels) + _NUM_LABELS)


def decode_table(manifest: Manifest, table: Table) -> wire.Request:
    """The checked windows of a table; raises InputError."""
    if TIME not in table.columns:
        raise InputError("missing column", "table", f"a column `{TIME}`", named(list(table.columns)))
    times = _times(manifest, table)
    labels = table.columns.get(WINDOW)
    groups: dict[Any, list[int]] = {}
    for row in range(table.num_rows):
        groups.setdefault(None if labels is None else str(labels[row]), []).append(row)
    check_batch(manifest, len(groups), f"column {WINDOW}" if labels is not None else "table")
    read = _long if NODE in table.columns else _wide
    values, nodes = read(manifest, table)  # [R, N, C], or [R, C] with the node of each row
    windows, clocks = [], []
    for label, rows in groups.items():
        at = "table" if label is None else f"window {label[:60]}"
        window, clock = _window(manifest, table, rows, values[rows], nodes, times, at)
        windows.append(check_window(manifest, window.tolist(), None, at, "header"))
        clocks.append(clock)
    x = np.stack(windows)  # [B, T, N, C], NaN where missing
    arrays: dict[str, NDArray[Any]] = {"x": x, "clock": np.array(clocks, np.int64)}
    return wire.Request(tensors.inputs(manifest, arrays), is_list=labels is not None)


def _window(
    manifest: Manifest, table: Table, rows: list[int], values: NDArray[np.float64], nodes: list[int] | None,
    times: list[datetime], at: str,
) -> tuple[NDArray[np.float64], tuple[int, int]]:  # fmt: skip
    """[T, N, C], NaN where missing, of the rows of one window, put in order of time; and its clock."""
    last = max(times[row] for row in rows)
    cadence = timedelta(minutes=manifest.cadence_min)
    window = np.full((manifest.past_steps, len(manifest.nodes), len(manifest.channels)), np.nan)
    filled: set[tuple[int, int | None]] = set()
    for row, reading in zip(rows, values, strict=True):
        step = manifest.past_steps - 1 - (last - times[row]) // cadence
        cell = (step, nodes[row] if nodes else None)
        if step < 0:
            expected = f"the {manifest.past_steps} steps up to {last.isoformat()}"
            raise InputError("time outside the window", table.place(row, TIME), expected, times[row].isoformat())
        if cell in filled:
            raise InputError("repeated row", table.place(row, TIME), "every time once", times[row].isoformat())
        filled.add(cell)
        window[step if nodes is None else cell] = reading
    num_steps = len({step for step, _ in filled})
    if num_steps != manifest.past_steps:
        expected = f"{manifest.past_steps} steps of {manifest.cadence_min:g} min; leave cells empty where missing"
        raise InputError("wrong number of steps", at, expected, str(num_steps))
    return window, check_time(manifest, last.isoformat(), at)


def _times(manifest: Manifest, table: Table) -> list[datetime]:
    """The time of each row, without a zone (UTC where it had one); raises InputError."""
    known: dict[str, datetime] = {}
    times = []
    for row, cell in enumerate(table.columns[TIME]):
        text = cell.isoformat() if isinstance(cell, datetime) else str(cell).strip()
        if text not in known:
            check_time(manifest, text, table.place(row, TIME))
            time = datetime.fromisoformat(text)
            known[text] = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
        times.append(known[text])
    return times


def _wide(manifest: Manifest, table: Table) -> tuple[NDArray[np.float64], None]:
    """[R, N, C] from one column for each node and channel."""
    shape = (len(manifest.nodes), len(manifest.channels))
    wanted = {f"{node}:{channel}": (n, c) for n, node in enumerate(manifest.nodes)
              for c, channel in enumerate(manifest.channels)}  # fmt: skip
    if shape[1] == 1:
        wanted |= {node: (n, 0) for n, node in enumerate(manifest.nodes)}
    names = [name for name in table.columns if name not in (TIME, WINDOW)]
    values, found = np.full((table.num_rows, *shape), np.nan), np.zeros(shape, bool)
    usual = list(manifest.nodes) if shape[1] == 1 else list(wanted)
    for name in names:
        if name not in wanted:
            raise InputError("unknown column", "header", f"`{TIME}` and {named(usual)}", repr(name[:60]))
        if found[wanted[name]]:
            raise InputError("repeated column", "header", "every node once", f"{name[:60]!r} again")
        found[wanted[name]] = True
        values[(slice(None), *wanted[name])] = numbers_of(table, name)
    if not found.all():
        absent = [usual[index] for index in np.flatnonzero(~found)]
        raise InputError("missing columns", "header", f"all {found.size} of nodes and channels", f"no {named(absent)}")
    return values, None


def _long(manifest: Manifest, table: Table) -> tuple[NDArray[np.float64], list[int]]:
    """[R, C] from one column for each channel, and the node of each row."""
    names = [name for name in table.columns if name not in (TIME, NODE, WINDOW)]
    channels = [VALUE] if names == [VALUE] and len(manifest.channels) == 1 else list(manifest.channels)
    if sorted(names) != sorted(channels):
        expected = f"`{TIME}`, `{NODE}` and {named(channels)}"
        raise InputError("wrong columns", "header", expected, named(list(table.columns)))
    nodes = []
    for row, cell in enumerate(table.columns[NODE]):
        node = manifest.node_index.get(str(cell).strip())
        if node is None:
            raise InputError("unknown node", table.place(row, NODE), f"one of {named(manifest.nodes)}", str(cell)[:60])
        nodes.append(node)
    return np.stack([numbers_of(table, name) for name in channels], axis=1), nodes


def numbers_of(table: Table, name: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where a cell is empty; raises InputError."""
    return np.array([_number(cell, table, row, name) for row, cell in enumerate(table.columns[name])], np.float64)


def _number(cell: Any, table: Table, row: int, name: str) -> float:
    text = "" if cell is None else str(cell).strip()
    if text.lower() in NO_VALUE:
        return float("nan")
    try:  # the one parser of numbers raises; a client needs it as an InputError
        return float(text if "_" not in text else "no number")
    except ValueError as error:
        raise InputError("not a number", table.place(row, name), "a number, or empty", repr(text[:60])) from error


def named(names: Sequence[str]) -> str:
    """The first of these names, as a message says them."""
    more = len(names) - _NUM_NAMED
    return ", ".join(name[:60] for name in names[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
