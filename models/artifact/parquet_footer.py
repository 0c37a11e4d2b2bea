"""Reads what a Parquet file says of itself: its columns, and where their pages lie.

Written here because the file comes from a stranger: pyarrow would be half of the serving image, and arro3 (Rust's
parquet) allocates what a header claims and ends the whole process on some damaged files. Only flat tables are read.
Source: apache/parquet-format, parquet.thrift, whose numbers the constants are.
"""

import struct
from dataclasses import dataclass
from typing import Any

from models.artifact.thrift import Thrift, ThriftError

MAGIC = b"PAR1"
BOOLEAN, INT32, INT64, INT96, FLOAT, DOUBLE, BYTE_ARRAY, FIXED = range(8)
_SCHEMA, _NUM_ROWS, _ROW_GROUPS = 2, 3, 4
_TYPE, _REPETITION, _NAME, _NUM_CHILDREN, _CONVERTED, _LOGICAL = 1, 3, 4, 5, 6, 10
_REQUIRED, _OPTIONAL = 0, 1
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_COLUMN_META, _PATH, _CODEC, _NUM_VALUES, _PACKED, _DATA_AT, _DICTIONARY_AT = 3, 3, 4, 5, 7, 9, 11
# What a physical type stands for, by the older and by the newer way to say so.
_TEXT, _DATE, _TIMESTAMP = "text", "date", "timestamp"
_BY_CONVERTED = {0: _TEXT, 4: _TEXT, 5: "decimal", 6: _DATE, 7: "time", 8: "time", 9: "ms", 10: "us"}
_BY_CONVERTED |= dict.fromkeys(range(11, 15), "unsigned")
_BY_LOGICAL = {1: _TEXT, 4: _TEXT, 5: "decimal", 6: _DATE, 7: "time", 8: _TIMESTAMP, 14: "uuid", 15: "float16"}
_UNITS = {1: "ms", 2: "us", 3: "ns"}


class FooterError(ValueError):
    """Bytes that are no Parquet file, or one of a kind that is not read."""


@dataclass(frozen=True)
class Chunk:
    """The pages of one column in one row group: from byte `start` to before `stop`."""

    codec: int
    start: int
    stop: int
    num_values: int


@dataclass(frozen=True)
class Column:
    """One flat column; `meaning` is text, date, ms, us, ns, unsigned, another word, or "" for the plain type."""

    name: str
    kind: int
    meaning: str
    is_optional: bool
    chunks: tuple[Chunk, ...]


@dataclass(frozen=True)
class Footer:
    """The shape of a file."""

    num_rows: int
    columns: tuple[Column, ...]


def read_footer(content: bytes, max_footer_bytes: int) -> Footer:
    """What a whole Parquet file says; raises FooterError for any other bytes, and for claims that do not fit them."""
    if len(content) < 12 or content[:4] != MAGIC or content[-4:] != MAGIC:
        raise FooterError("no PAR1 at both ends")
    size = struct.unpack("<I", content[-8:-4])[0]
    if size > min(max_footer_bytes, len(content) - 12):
        raise FooterError(f"a footer of {size} bytes")
    try:  # one kind of error for a caller that cannot mend any of them
        footer = Thrift(content[-8 - size : -8]).structure()
    except ThriftError as error:
        raise FooterError(str(error)) from error
    num_rows, groups, schema = _whole(footer, _NUM_ROWS), _structures(footer, _ROW_GROUPS), _structures(footer, _SCHEMA)
    elements = schema[1:]
    if schema[0].get(_NUM_CHILDREN) != len(elements) or not elements:
        raise FooterError("columns inside columns; write a flat table")
    chunks = [_chunks(group, elements, len(content) - 8 - size) for group in groups]
    if sum(group[_GROUP_ROWS] for group in groups) != num_rows:
        raise FooterError(f"{num_rows} rows, and row groups of other sizes")
    columns = (_column(element, each) for element, each in zip(elements, zip(*chunks, strict=True), strict=True))
    return Footer(num_rows, tuple(columns))


def _chunks(group: dict[int, Any], elements: list[dict[int, Any]], end: int) -> list[Chunk]:
    """The pages of each column of a row group."""
    columns, num_rows = _structures(group, _GROUP_COLUMNS), _whole(group, _GROUP_ROWS)
    if len(columns) != len(elements):
        raise FooterError("a row group of other columns than the schema")
    chunks = []
    for column, element in zip(columns, elements, strict=True):
        meta = column.get(_COLUMN_META)
        if not isinstance(meta, dict) or meta.get(_PATH) != [element.get(_NAME)] or meta.get(1) != element.get(_TYPE):
            raise FooterError("a column without its metadata")
        codec, num_values, num_packed, start = (
            _whole(meta, field) for field in (_CODEC, _NUM_VALUES, _PACKED, _DATA_AT)
        )
        dictionary = meta.get(_DICTIONARY_AT)
        start = min(start, dictionary) if type(dictionary) is int and dictionary > 0 else start
        if num_values != num_rows or start + num_packed > end:
            raise FooterError("a column of other size than its row group")
        chunks.append(Chunk(codec, start, start + num_packed, num_values))
    return chunks


def _column(element: dict[int, Any], chunks: tuple[Chunk, ...]) -> Column:
    name, kind, repetition = (element.get(field) for field in (_NAME, _TYPE, _REPETITION))
    if not isinstance(name, bytes) or type(kind) is not int or repetition not in (_REQUIRED, _OPTIONAL):
        raise FooterError("a column that is a list; write a flat table")
    try:  # a name in other bytes says so only by raising
        text = name.decode()
    except UnicodeDecodeError as error:
        raise FooterError("a column's name that is not UTF-8") from error
    return Column(text, kind, _meaning(element), repetition == _OPTIONAL, chunks)


def _meaning(element: dict[int, Any]) -> str:
    """What the values of a column stand for; the newer way to say it goes before the older."""
    logical, converted = element.get(_LOGICAL), element.get(_CONVERTED)
    if isinstance(logical, dict) and len(logical) == 1:
        number, details = next(iter(logical.items()))
        meaning = _BY_LOGICAL.get(number, "")
        if meaning == _TIMESTAMP and isinstance(details, dict) and isinstance(details.get(2), dict):
            return _UNITS.get(next(iter(details[2]), 0), "time")
        if meaning:
            return meaning
    return _BY_CONVERTED.get(converted, "") if isinstance(converted, int) else ""


def _whole(fields: dict[int, Any], number: int) -> int:
    """A field that must be a count or a place; raises FooterError."""
    value = fields.get(number)
    if type(value) is not int or value < 0:  # a bool is an int to isinstance
        raise FooterError(f"no number in field {number}")
    return value


def _structures(fields: dict[int, Any], number: int) -> list[dict[int, Any]]:
    """A field that must be a list of structures, at least one; raises FooterError."""
    items = fields.get(number)
    if not isinstance(items, list) or not items or not all(isinstance(item, dict) for item in items):
        raise FooterError(f"no structures in field {number}")
    return items
