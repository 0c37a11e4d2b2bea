"""Unpacks a page of Parquet into as many bytes as it claims and no more.

cramjam decompresses into a buffer of that size and stops where it is full, so a page that would become larger than it
says is refused, not unfolded.
"""

from collections.abc import Callable
from typing import Any

import cramjam

_PLAIN = 0
_INTO: dict[int, tuple[str, Callable[[bytes, bytearray], Any]]] = {
    1: ("snappy", cramjam.snappy.decompress_raw_into),
    2: ("gzip", cramjam.gzip.decompress_into),
    4: ("brotli", cramjam.brotli.decompress_into),
    6: ("zstd", cramjam.zstd.decompress_into),
    7: ("lz4", lambda packed, buffer: cramjam.lz4.decompress_block_into(packed, buffer, output_len=len(buffer))),
}


class CodecError(ValueError):
    """A page in a codec that is not read, or that is not what it says."""


def unpacked(codec: int, packed: bytes, num_bytes: int) -> bytes:
    """The `num_bytes` bytes that were packed; raises CodecError."""
    if codec == _PLAIN:
        content = packed
    elif codec not in _INTO:
        raise CodecError(f"codec {codec}; write it with {', '.join(name for name, _ in _INTO.values())} or none")
    elif num_bytes == 0:
        return b""
    else:
        name, into = _INTO[codec]
        buffer = bytearray(num_bytes)
        try:  # a decompressor says only by raising that bytes are damaged
            content = bytes(buffer[: into(packed, buffer)]) if len(packed) else b""
            content = bytes(buffer) if len(content) == num_bytes else content
        except cramjam.DecompressionError as error:
            raise CodecError(f"damaged {name}: {str(error)[:60]}") from error
    if len(content) != num_bytes:
        raise CodecError(f"a page of {len(content)} bytes that says {num_bytes}")
    return content
