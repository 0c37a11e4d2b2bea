"""Reads the values of a Parquet column, page by page, each held against what is there.

Encodings: plain, dictionary, runs of booleans, deltas of integers; those that writers use unless told otherwise.
Source: apache/parquet-format, Encodings.md. Texts of a dictionary are shared, so that none can multiply in memory.
"""

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.parquet_codecs import unpacked
from models.artifact.parquet_footer import BOOLEAN, BYTE_ARRAY, DOUBLE, FLOAT, INT32, INT64, Chunk, Column, FooterError
from models.artifact.thrift import Thrift

MAX_TEXT = 256  # bytes of one cell
_DTYPES = {INT32: "<i4", INT64: "<i8", FLOAT: "<f4", DOUBLE: "<f8"}
_UNITS = {"date": "D", "ms": "ms", "us": "us", "ns": "ns"}
_UNPACKED, _PACKED, _DATA, _DICTIONARY, _NEW_DATA = 2, 3, 5, 7, 8  # fields of a page's header
_LEVELS, _RUNS, _PLAIN, _DELTAS, _INDEXED = (5, 6), 3, 0, 5, (2, 8)

Values = NDArray[Any] | list[Any]


def values(content: bytes, column: Column, max_bytes: int) -> list[Any]:
    """The cells of a column: numbers, texts, times without zone, None; raises ValueError for what is damaged.

    max_bytes: how large all its pages may be together, unpacked
    """
    cells: list[Any] = []
    for chunk in column.chunks:
        part, max_bytes = _chunk(content, column, chunk, max_bytes)
        cells += part
    return cells


def _chunk(content: bytes, column: Column, chunk: Chunk, max_bytes: int) -> tuple[list[Any], int]:
    """The cells of a chunk, and how many bytes may still come."""
    if not chunk.num_values:
        return [], max_bytes
    reader, dictionary = Thrift(memoryview(content)[: chunk.stop], chunk.start), None
    cells: list[Any] = []
    while reader.at < chunk.stop:
        page = reader.structure()
        size, packed = page.get(_UNPACKED), page.get(_PACKED)
        if type(size) is not int or type(packed) is not int or min(size, packed) < 0 or size > max_bytes:
            raise FooterError(f"a page of {size} bytes")
        max_bytes -= size
        body = content[reader.at : reader.at + packed]
        reader.at += packed
        if reader.at > chunk.stop:
            raise FooterError("a page larger than its column")
        if isinstance(page.get(_DICTIONARY), dict):
            if dictionary is not None:
                raise FooterError("two dictionaries for one column")
            count = _count(page[_DICTIONARY], chunk.num_values)
            dictionary = _plain(column, unpacked(chunk.codec, body, size), count)
        else:
            part = _page(page, column, chunk, body, size, dictionary)
            if not part:  # a body could hold a million of them, and every column could point at all of these
                raise FooterError("a page without values")
            cells += part
    if len(cells) != chunk.num_values:
        raise FooterError(f"{len(cells)} values where {chunk.num_values} are said to be")
    return cells, max_bytes


def _page(
    page: dict[int, Any], column: Column, chunk: Chunk, body: bytes, size: int, dictionary: Values | None
) -> list[Any]:
    """The cells of one page of data, of either version."""
    is_new = isinstance(page.get(_NEW_DATA), dict)
    header = page.get(_NEW_DATA if is_new else _DATA)
    if not isinstance(header, dict):
        raise FooterError("a page of unknown kind")
    count = _count(header, chunk.num_values)
    if is_new:
        levels = [header.get(field, 0) for field in _LEVELS]
        if not all(type(each) is int and each >= 0 for each in levels) or levels[1] or levels[0] > len(body):
            raise FooterError("levels that are not those of a flat table")
        seen = _runs(body[: levels[0]], 1, count) if column.is_optional else np.ones(count, np.int64)
        content = body[levels[0] :]
        if header.get(7) is not False:
            content = unpacked(chunk.codec, content, max(size - levels[0], 0))
        encoding = header.get(4)
    else:
        content, encoding = unpacked(chunk.codec, body, size), header.get(2)
        seen = np.ones(count, np.int64)
        if column.is_optional:
            length = _length(content)
            seen, content = _runs(content[4 : 4 + length], 1, count), content[4 + length :]
    found = iter(_cells(column, _decoded(column, encoding, content, int(seen.sum()), dictionary)))
    return [next(found) if one else None for one in seen]


def _decoded(column: Column, encoding: Any, content: bytes, count: int, dictionary: Values | None) -> Values:
    if encoding == _PLAIN:
        return _plain(column, content, count)
    if encoding in _INDEXED and dictionary is not None:
        if not count:
            return []
        indices = _runs(content[1:], content[0] if content else 0, count)
        if len(indices) and indices.max() >= len(dictionary):
            raise FooterError("an index beyond its dictionary")
        return [dictionary[index] for index in indices] if isinstance(dictionary, list) else dictionary[indices]
    if encoding == _RUNS and column.kind == BOOLEAN:
        return _runs(content[4 : 4 + _length(content)], 1, count)
    if encoding == _DELTAS and column.kind in (INT32, INT64):
        return _deltas(content, count)
    raise FooterError(f"a page in encoding {encoding}; write it plain or with a dictionary")


def _plain(column: Column, content: bytes, count: int) -> Values:
    if column.kind == BYTE_ARRAY:
        return _texts(content, count)
    if column.kind == BOOLEAN:
        return _bits(content, 1, count)
    if column.kind not in _DTYPES:
        raise FooterError(f"a column of physical type {column.kind}")
    dtype = np.dtype(_DTYPES[column.kind])
    if len(content) < count * dtype.itemsize:
        raise FooterError("a page that ends early")
    return np.frombuffer(content, dtype, count)


def _texts(content: bytes, count: int) -> list[str]:
    texts, at = [], 0
    for _ in range(count):
        length = _length(content[at : at + 4])
        if length > MAX_TEXT or at + 4 + length > len(content):
            raise FooterError(f"a text of {length} bytes")
        texts.append(content[at + 4 : at + 4 + length].decode())  # UnicodeDecodeError is a ValueError too
        at += 4 + length
    return texts


def _runs(content: bytes, width: int, count: int) -> NDArray[np.int64]:
    """`count` numbers of `width` bits each, in runs and in groups of eight."""
    if width > 32:
        raise FooterError(f"numbers of {width} bits")
    reader, parts, found = Thrift(content), [np.zeros(0, np.int64)], 0
    while found < count:
        head = reader.varint()
        if head & 1:
            size = (head >> 1) * width
            part = _bits(content[reader.at : reader.at + size], width, min((head >> 1) * 8, count - found))
        else:
            size = (width + 7) // 8
            value = int.from_bytes(content[reader.at : reader.at + size], "little")
            part = np.full(min(head >> 1, count - found), value, np.int64)
        if not len(part):
            raise FooterError("an empty run")
        reader.at += size
        found += len(part)
        parts.append(part)
    return np.concatenate(parts)


def _bits(content: bytes, width: int, count: int) -> NDArray[np.int64]:
    """`count` numbers of `width` bits each, least significant bit first."""
    if len(content) * 8 < count * width:
        raise FooterError("a page that ends early")
    if not width:
        return np.zeros(count, np.int64)
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=count * width, bitorder="little")
    numbers: NDArray[np.int64] = bits.reshape(count, width).astype(np.int64) @ (1 << np.arange(width, dtype=np.int64))
    return numbers


def _deltas(content: bytes, count: int) -> NDArray[np.int64]:
    """Integers as differences in blocks, each less its block's smallest; sums wrap as they do in the writer."""
    reader = Thrift(content)
    block, num_minis, total, first = reader.varint(), reader.varint(), reader.varint(), reader.integer()
    if total != count or not 0 < num_minis <= 64 or block % num_minis or not 0 < block // num_minis <= 4096:
        raise FooterError("deltas of unknown form")
    size, parts = block // num_minis, [np.array([first & 0xFFFFFFFFFFFFFFFF], np.uint64)]
    left = count - 1
    while left > 0:
        least = np.uint64(reader.integer() & 0xFFFFFFFFFFFFFFFF)
        widths = [reader.byte() for _ in range(num_minis)]
        for width in widths[: -(-left // size)]:
            num_bytes = size * width // 8
            part = _wide_bits(content[reader.at : reader.at + num_bytes], width, size)[:left]
            reader.at += num_bytes
            parts.append(part + least)
            left -= len(part)
            if left <= 0:
                break
    return np.cumsum(np.concatenate(parts)[:count], dtype=np.uint64).view(np.int64)


def _wide_bits(content: bytes, width: int, count: int) -> NDArray[np.uint64]:
    if width > 64 or len(content) * 8 < count * width:
        raise FooterError("deltas that end early")
    if not width:
        return np.zeros(count, np.uint64)
    bits = np.unpackbits(np.frombuffer(content, np.uint8), count=count * width, bitorder="little")
    powers = np.uint64(1) << np.arange(width, dtype=np.uint64)
    numbers: NDArray[np.uint64] = (bits.reshape(count, width).astype(np.uint64) * powers).sum(axis=1, dtype=np.uint64)
    return numbers


def _cells(column: Column, found: Values) -> Sequence[Any]:
    """Values as what they stand for."""
    if isinstance(found, list):
        return found
    if column.kind == INT32:
        found = found.astype(np.int32) if column.meaning != "unsigned" else found.astype(np.int32).view(np.uint32)
    elif column.kind == INT64 and column.meaning == "unsigned":
        found = found.view(np.uint64)
    if column.meaning in _UNITS:
        return found.astype(np.int64).view(f"datetime64[{_UNITS[column.meaning]}]").astype("datetime64[us]").tolist()  # type: ignore[no-any-return]
    return found.tolist()  # type: ignore[no-any-return]


def _count(header: dict[int, Any], at_most: int) -> int:
    count = header.get(1)
    if type(count) is not int or not 0 <= count <= at_most:
        raise FooterError("a page of more values than rows")
    return count


def _length(content: bytes) -> int:
    if len(content) < 4:
        raise FooterError("a page that ends early")
    return int(struct.unpack("<I", content[:4])[0])
