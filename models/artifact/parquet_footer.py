"""Reads what a Parquet file says of its own size, before a byte of it is unpacked.

arro3 has no metadata without reading, panics on what is damaged, and allocates what a header claims. So the footer and
every page header are read here first (apache/parquet-format, parquet.thrift), and refused when they claim more than
the contract's table can hold, or when a page would unpack to more than it claims.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from models.artifact.parquet_codecs import CodecError, check_unpacked
from models.artifact.thrift import Thrift, ThriftError

MAGIC = b"PAR1"
# Fields of parquet.thrift by their number.
_SCHEMA, _NUM_ROWS, _ROW_GROUPS = 2, 3, 4
_GROUP_COLUMNS, _GROUP_ROWS = 1, 3
_COLUMN_META, _CODEC, _NUM_VALUES, _PACKED_BYTES, _DATA_OFFSET, _DICTIONARY_OFFSET = 3, 4, 5, 7, 9, 11
_PAGE_UNPACKED, _PAGE_PACKED = 2, 3
_PLAIN_PAGE, _DICTIONARY_PAGE, _NEW_PAGE = 5, 7, 8  # the header of a page by its kind
_ENCODING = {_PLAIN_PAGE: 2, _DICTIONARY_PAGE: 2, _NEW_PAGE: 4}
_LEVEL_BYTES, _IS_PACKED = (5, 6), 7  # of a new page: its levels stand before what is packed
# Plain, dictionaries, runs, deltas of integers, split streams. Not deltas of text: a prefix may repeat without end.
_ENCODINGS = (0, 2, 3, 5, 8, 9)
_MAX_DICTIONARY_BYTES = 1 << 18  # each row may repeat the longest text of a dictionary


class FooterError(ValueError):
    """Bytes that are no Parquet file, or one that claims too much."""


@dataclass(frozen=True)
class Footer:
    """What a file says of itself; `num_bytes` is the size of all its pages unpacked."""

    num_rows: int
    num_columns: int
    num_bytes: int


def read_footer(content: bytes, max_footer_bytes: int) -> Footer:
    """What a whole Parquet file claims; raises FooterError for any other bytes, and for claims that do not fit them."""
    if len(content) < 12 or content[:4] != MAGIC or content[-4:] != MAGIC:
        raise FooterError("no PAR1 at both ends")
    size = struct.unpack("<I", content[-8:-4])[0]
    if size > min(max_footer_bytes, len(content) - 12):
        raise FooterError(f"a footer of {size} bytes")
    try:  # one kind of error for a caller that cannot mend any of them
        return _checked(content[: len(content) - 8 - size], Thrift(content[-8 - size : -8]).structure())
    except (ThriftError, CodecError) as error:
        raise FooterError(str(error)) from error


def _checked(content: bytes, footer: dict[int, Any]) -> Footer:
    num_rows, groups, schema = footer.get(_NUM_ROWS, 0), footer.get(_ROW_GROUPS), footer.get(_SCHEMA)
    if not isinstance(num_rows, int) or not _are_structures(groups) or not _are_structures(schema):
        raise FooterError("no rows, row groups and schema in the footer")
    counts = [group.get(_GROUP_ROWS) for group in groups]
    if not all(isinstance(count, int) and count >= 0 for count in counts) or sum(counts) != num_rows:
        raise FooterError(f"{num_rows} rows, and row groups of other sizes")
    pages = [page for group in groups for page in _pages(content, group, num_rows)]
    return Footer(num_rows, len(schema) - 1, sum(pages))


def _pages(content: bytes, group: dict[int, Any], num_rows: int) -> Iterator[int]:
    """Unpacked size of each page of a row group."""
    columns = group.get(_GROUP_COLUMNS)
    if not _are_structures(columns):
        raise FooterError("a row group without columns")
    for column in columns:
        meta = column.get(_COLUMN_META)
        if not isinstance(meta, dict):
            raise FooterError("a column without metadata")
        numbers = [meta.get(field) for field in (_CODEC, _NUM_VALUES, _PACKED_BYTES, _DATA_OFFSET)]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise FooterError("a column without sizes")
        codec, num_values, num_packed, start = numbers
        dictionary = meta.get(_DICTIONARY_OFFSET)
        start = min(start, dictionary) if isinstance(dictionary, int) and dictionary > 0 else start
        if num_values > num_rows or start + num_packed > len(content):
            raise FooterError("a column larger than the file")
        yield from _page_sizes(content[: start + num_packed], start, codec, num_rows)


def _page_sizes(content: bytes, start: int, codec: int, num_rows: int) -> Iterator[int]:
    reader = Thrift(content, start)
    while reader.at < len(content):
        page = reader.structure()
        unpacked, packed = page.get(_PAGE_UNPACKED), page.get(_PAGE_PACKED)
        if not isinstance(unpacked, int) or not isinstance(packed, int) or min(unpacked, packed) < 0:
            raise FooterError("a page without sizes")
        if reader.at + packed > len(content):
            raise FooterError("a page larger than its column")
        skipped = _check_page(page, unpacked, num_rows)
        if skipped is not None:
            body = content[reader.at + skipped : reader.at + packed]
            check_unpacked(codec, body, max(unpacked - skipped, 0))
        reader.at += packed
        yield unpacked


def _check_page(page: dict[int, Any], unpacked: int, num_rows: int) -> int | None:
    """How many bytes stand unpacked before the packed ones, None where nothing is packed; raises FooterError."""
    kinds = [kind for kind in _ENCODING if isinstance(page.get(kind), dict)]
    if len(kinds) != 1:
        raise FooterError("a page of unknown kind")
    kind, header = kinds[0], page[kinds[0]]
    num_values = header.get(1)
    if not isinstance(num_values, int) or not 0 <= num_values <= num_rows:
        raise FooterError("a page of more values than rows")
    if header.get(_ENCODING[kind]) not in _ENCODINGS:
        raise FooterError(f"a page in encoding {header.get(_ENCODING[kind])}; write it plain or with a dictionary")
    if kind == _DICTIONARY_PAGE and unpacked > _MAX_DICTIONARY_BYTES:
        raise FooterError(f"a dictionary of {unpacked} bytes")
    if kind != _NEW_PAGE:
        return 0
    levels = [header.get(field, 0) for field in _LEVEL_BYTES]
    if not all(isinstance(size, int) and 0 <= size <= unpacked for size in levels):
        raise FooterError("levels larger than their page")
    return None if header.get(_IS_PACKED) is False else sum(levels)


def _are_structures(items: Any) -> bool:
    return isinstance(items, list) and bool(items) and all(isinstance(item, dict) for item in items)
