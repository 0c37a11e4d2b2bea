"""Decodes a Parquet table within the bounds of the contract.

Rows, columns, types and the size of every page are known, and refused, before a page is unpacked.
"""

from models.artifact.checks import InputError
from models.artifact.decode_table import NODE, TIME, WINDOW, Table, check_size, num_columns, table_of
from models.artifact.manifest import Manifest
from models.artifact.parquet_footer import (
    BOOLEAN,
    BYTE_ARRAY,
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    Column,
    read_footer,
)  # fmt: skip
from models.artifact.parquet_values import values

_FOOTER_BYTES, _BYTES_PER_COLUMN = 65_536, 4_096  # of a footer: pandas' and Arrow's own notes, then each column
_PAGE_BYTES, _BYTES_PER_CELL = 65_536, 64  # of a column's pages, unpacked
_NUMBERS, _TIMES = (BOOLEAN, INT32, INT64, FLOAT, DOUBLE), ("date", "ms", "us", "ns")


def read_parquet(manifest: Manifest, body: bytes) -> Table:
    """The cells of a Parquet file of flat columns; raises InputError."""
    labels = () if manifest.inputs else (TIME, NODE, WINDOW)
    try:  # a reader of bytes says what is wrong with them by raising; a client needs it as an InputError
        footer = read_footer(body, _FOOTER_BYTES + num_columns(manifest) * _BYTES_PER_COLUMN)
        names = [column.name for column in footer.columns]
        check_size(manifest, names, footer.num_rows)
        for column in footer.columns:
            _check_kind(column, labels)
        most = _PAGE_BYTES + _BYTES_PER_CELL * footer.num_rows
        return table_of(names, [values(body, column, most) for column in footer.columns], 0, "row")
    except InputError:
        raise
    except ValueError as error:  # FooterError, CodecError, ThriftError, and a text that is not UTF-8
        raise InputError("unreadable Parquet", "body", "a whole Parquet file", str(error)[:200]) from error


def _check_kind(column: Column, labels: tuple[str, ...]) -> None:
    """Columns of `labels` are text, times or whole numbers, everything else numbers; raises InputError."""
    is_text = column.kind == BYTE_ARRAY and column.meaning == "text"
    is_number = column.kind in _NUMBERS and column.meaning in ("", "unsigned")
    is_time = column.kind in (INT32, INT64) and column.meaning in _TIMES
    is_label = column.name in labels
    if not (is_text or is_time or column.kind in (INT32, INT64) if is_label else is_number):
        expected = "text, times or whole numbers" if is_label else "numbers"
        got = f"type {column.kind} {column.meaning}".rstrip()
        raise InputError("wrong type of column", f"column {column.name[:60]}", expected, got)
