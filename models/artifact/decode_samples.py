"""Decodes a table of samples: a row a sample, a column for each named entry of the inputs.

Columns come in any order. A table is answered by a list, even where it has one row. An empty cell is a missing value,
and so is every cell of an absent column, where the contract lets that input miss.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import tensors, wire
from models.artifact.checks import InputError, check_batch
from models.artifact.decode_table import Table, named, numbers_of
from models.artifact.manifest import Manifest
from models.data.card import TensorSpec


def decode_samples(manifest: Manifest, table: Table) -> wire.Request:
    """The checked samples of a table; raises InputError."""
    known = [label for spec in manifest.inputs for label in spec.labels]
    for name in table.columns:
        if name not in known:
            raise InputError("unknown column", "header", f"columns among {named(known)}", repr(name[:60]))
    check_batch(manifest, table.num_rows, "table")
    arrays = {spec.name: _array(spec, table, known) for spec in manifest.inputs}
    return wire.Request(tensors.inputs(manifest, arrays), is_list=True)


def _array(spec: TensorSpec, table: Table, known: list[str]) -> NDArray[Any]:
    """One input [B, F] of its columns; raises InputError that names the first cell at fault."""
    values = np.full((table.num_rows, len(spec.labels)), np.nan)
    for place, label in enumerate(spec.labels):
        if label in table.columns:
            values[:, place] = numbers_of(table, label)
            _check_column(spec, table, label, values[:, place])
        elif not spec.can_miss:
            raise InputError("missing column", "header", f"all of {named(known)}", f"no {label[:60]}")
    with np.errstate(over="ignore"):  # what is too large for a float32 becomes infinite, and so out of range
        return values.astype(spec.dtype)


def _check_column(spec: TensorSpec, table: Table, label: str, values: NDArray[np.float64]) -> None:
    low = -np.inf if spec.minimum is None else spec.minimum
    high = np.inf if spec.maximum is None else spec.maximum
    bad = np.isinf(values) | (values < low) | (values > high)
    if not spec.can_miss:
        bad |= np.isnan(values)
    if spec.dtype == "int64":
        bad |= values != np.rint(values)
    if bad.any():
        row = int(bad.argmax())
        kind = "whole number" if spec.dtype == "int64" else "number"
        expected = f"a finite {kind} from {low:g} to {high:g} {spec.unit}".rstrip()
        raise InputError("not a fitting value", table.place(row, label), expected, f"{values[row]:g}")
