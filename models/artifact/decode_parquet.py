"""Reads a Parquet table whose every claim of size was checked before it is unpacked.

With arro3 (Rust's parquet, 33 MB): pyarrow would be half the serving image.
"""

import io
from typing import Any

from models.artifact.checks import InputError
from models.artifact.decode_table import NODE, TIME, WINDOW, Table, check_size, table_of
from models.artifact.manifest import Manifest
from models.artifact.parquet_footer import FooterError, read_footer

_FOOTER_BYTES, _BYTES_PER_COLUMN = 65_536, 4_096  # of a footer: pandas' and Arrow's own notes, then each column
_BYTES_PER_CELL = 64
_NUMBERS = ("Int", "UInt", "Float", "Bool", "Decimal", "Null")
_TEXTS = ("Utf8", "LargeUtf8", "Utf8View", "Timestamp", "Date", "Int", "UInt")
# A row may repeat the longest text of a dictionary: few rows at once, so that their sum stays small.
_ROWS_AT_ONCE, _MAX_TEXT = 16, 256
_PANIC = "PanicException"


def read_parquet(manifest: Manifest, body: bytes) -> Table:
    """The cells of a Parquet file of flat columns; raises InputError, also where Rust panics."""
    num_columns = 2 + len(manifest.nodes) * len(manifest.channels)
    try:  # these readers say what is wrong by raising; a client needs it as an InputError
        footer = read_footer(body, _FOOTER_BYTES + num_columns * _BYTES_PER_COLUMN)
    except FooterError as error:
        raise InputError("unreadable Parquet", "body", "a whole Parquet file", str(error)) from error
    most_bytes = _FOOTER_BYTES + _BYTES_PER_CELL * footer.num_rows * footer.num_columns
    if footer.num_columns > num_columns or footer.num_bytes > most_bytes:
        expected = f"at most {num_columns} columns and {most_bytes} bytes unpacked"
        raise InputError("table too large", "body", expected, f"{footer.num_columns} and {footer.num_bytes}")
    try:
        return _cells(manifest, body, footer.num_rows)
    except InputError:
        raise
    except BaseException as error:  # a panic of Rust is no Exception, and must not end the process
        if type(error).__name__ != _PANIC and not isinstance(error, Exception):
            raise
        raise InputError("unreadable Parquet", "body", "a whole Parquet file", type(error).__name__) from error


def _cells(manifest: Manifest, body: bytes, num_rows: int) -> Table:
    from arro3.io import read_parquet as read

    reader = read(io.BytesIO(body), batch_size=_ROWS_AT_ONCE)
    names = list(reader.schema.names)
    check_size(manifest, names, num_rows)
    for name in names:
        kind, is_label = _kind(reader.schema.field(name).type), name in (TIME, NODE, WINDOW)
        if not kind.startswith(_TEXTS if is_label else _NUMBERS):
            expected = "text or times" if is_label else "numbers"
            raise InputError("wrong type of column", f"column {name[:60]}", expected, kind[:60])
    columns: list[list[Any]] = [[] for _ in names]
    for batch in reader:
        for name, cells, column in zip(names, columns, batch.columns, strict=True):
            cells += [cell.as_py() for cell in column]
            if any(isinstance(cell, str) and len(cell) > _MAX_TEXT for cell in cells[-_ROWS_AT_ONCE:]):
                raise InputError("text too long", f"column {name[:60]}", f"at most {_MAX_TEXT} characters", "more")
    return table_of(names, columns, 0, "row")


def _kind(data_type: Any) -> str:
    """`Float64` of `arro3.core.DataType<Float64>`; of a dictionary the kind of its values."""
    text = str(data_type).partition("<")[2].strip().removesuffix(">")
    return text.removeprefix("Dictionary(").partition(", ")[2].rstrip(")") if text.startswith("Dictionary(") else text
