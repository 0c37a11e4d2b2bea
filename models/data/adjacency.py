"""Which nodes are neighbours: a matrix with or without a header, or a list of edges."""

from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.data.findings import BadDataError, Finding, capped, found_at, refuse
from models.data.parse import bad_numbers, numbers
from models.data.tables import Table, read_table

FROM, TO = ("from", "source"), ("to", "target")
WEIGHT = ("weight", "cost", "distance")


def read_adjacency(path: Path, nodes: tuple[str, ...]) -> NDArray[np.float32]:
    """Weights (N, N) in the order of `nodes`, 0 where there is no link; raises BadDataError.

    The file is N × N numbers in the order of `nodes`; or the same under a header that names them, in any order, perhaps
    with a first column that names them again; or a table of edges with columns from, to and, if wished, weight.
    """
    table = read_table(path, has_header=False)
    names = table.names if table.has_names else tuple((cell or "").strip() for cell in table.frame.row(0))
    lower = [name.lower() for name in names]
    if set(lower) & set(FROM) and set(lower) & set(TO):
        return _edges(table if table.has_names else table.below_header(), lower, nodes, path.name)
    if table.frame.shape == (len(nodes), len(nodes)) and not table.has_names:
        return _weights(table, list(range(len(nodes))), path.name)
    table = table if table.has_names else table.below_header()
    first = len(names) - len(nodes)
    if first not in (0, 1) or table.frame.height != len(nodes) or set(names[first:]) != set(nodes):
        got = f"{table.frame.height} × {len(names)}, under {', '.join(names[:3])}, …"
        expected = f"{len(nodes)} × {len(nodes)} weights, or these under the data's sensor names"
        raise BadDataError([Finding("all", "all", expected, got)], path.name)
    rows = [str(name) for name in table.frame["0"]] if first else list(names)
    if set(rows) != set(nodes):
        raise BadDataError([Finding("all", "column 1", "the data's sensor names", ", ".join(rows[:3]))], path.name)
    weights = _weights(table, list(range(first, len(names))), path.name)
    return weights[np.ix_([rows.index(node) for node in nodes], [names[first:].index(node) for node in nodes])]


def _weights(table: Table, columns: list[int], what: str) -> NDArray[np.float32]:
    """These columns as numbers of at least 0; an empty cell is no link."""
    weights, findings = [], []
    for i in columns:
        cells = table.frame[str(i)]
        values, bad = numbers(cells)
        wrong = bad | (~values.is_finite() | (values < 0)).fill_null(False)
        findings += bad_numbers(cells, wrong, table.line, f"column {i + 1}", "a weight of at least 0")
        weights.append(values.fill_null(0).to_numpy())
    refuse(capped(findings), what)
    return np.stack(weights, axis=1).astype(np.float32)


def _edges(table: Table, lower: list[str], nodes: tuple[str, ...], what: str) -> NDArray[np.float32]:
    """A list of edges as a matrix; an edge without a weight weighs 1."""
    place = {name: i for i, name in enumerate(nodes)}
    ends = [table.frame[str(next(i for i, name in enumerate(lower) if name in side))] for side in (FROM, TO)]
    findings = []
    for cells, side in zip(ends, ("from", "to"), strict=True):
        unknown = (~cells.cast(pl.String).str.strip_chars().is_in(list(nodes))).fill_null(True)
        places = ((table.line(i), side, repr(cells[i])) for i in unknown.arg_true())
        findings += found_at(places, int(unknown.sum()), "a sensor of the data")
    refuse(findings, what)
    weight = [i for i, name in enumerate(lower) if name in WEIGHT]
    weights = _weights(table, weight[:1], what)[:, 0] if weight else np.ones(table.frame.height, np.float32)
    rows, columns = ([place[str(name).strip()] for name in cells] for cells in ends)
    matrix = np.zeros((len(nodes), len(nodes)), np.float32)
    matrix[rows, columns] = weights
    return matrix
