"""Reads Thrift's compact protocol, as Parquet writes it, from bytes that nobody vouches for.

Only what a Parquet footer needs: structures, lists, integers and bytes, each bounded by the bytes that are there.
Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from typing import Any

_MAX_ITEMS, _MAX_DEPTH, _MAX_VARINT = 1 << 16, 16, 10
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _STRUCT = 1, 2, 3, 7, 8, 9, 10, 12
_INTEGERS = (4, 5, 6)


class ThriftError(ValueError):
    """Bytes that are not what they should be, or that claim more than there is."""


class Thrift:
    """A reader of Thrift's compact protocol over some bytes; raises ThriftError past their end."""

    def __init__(self, content: bytes | memoryview, at: int = 0) -> None:
        self.content, self.at = content, at

    def byte(self) -> int:
        if not 0 <= self.at < len(self.content):
            raise ThriftError("cut short")
        self.at += 1
        return self.content[self.at - 1]

    def varint(self) -> int:
        value = 0
        for position in range(_MAX_VARINT):
            byte = self.byte()
            value |= (byte & 0x7F) << (7 * position)
            if byte < 0x80:
                return value
        raise ThriftError("a number of more than 64 bits")

    def integer(self) -> int:
        value = self.varint()
        return (value >> 1) ^ -(value & 1)

    def structure(self, depth: int = 0) -> dict[int, Any]:
        """The fields by their number."""
        if depth > _MAX_DEPTH:
            raise ThriftError("too deep")
        fields: dict[int, Any] = {}
        number = 0
        while head := self.byte():
            number = number + (head >> 4) if head >> 4 else self.integer()
            kind = head & 0x0F
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return self.integer()
        if kind == _STRUCT:
            return self.structure(depth + 1)
        if kind in (_LIST, _SET):
            return self._list(depth)
        if kind not in (_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY):
            raise ThriftError(f"field of unknown kind {kind}")
        size = self.varint() if kind == _BINARY else 8 if kind == _DOUBLE else 1
        self.at += size
        if self.at > len(self.content):
            raise ThriftError("cut short")
        return self.content[self.at - size : self.at]

    def _list(self, depth: int) -> list[Any]:
        head = self.byte()
        size = self.varint() if head >> 4 == 0x0F else head >> 4
        if size > min(_MAX_ITEMS, len(self.content) - self.at):
            raise ThriftError(f"a list of {size} items")
        if depth > _MAX_DEPTH:
            raise ThriftError("too deep")
        return [self._value(head & 0x0F, depth + 1) for _ in range(size)]
