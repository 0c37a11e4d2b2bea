"""Bounds what a packed page would become, for the codecs whose decoders write more than a page claims.

Rust's parquet unpacks Snappy and raw LZ4 into a buffer of the claimed size, but reads gzip and zstd to their end: a few
kilobytes could fill the memory. gzip is tried here up to the claim. Of zstd the blocks are counted: none holds more
than the smaller of the window and 128 KiB (RFC 8878, 3.1.1.2). Brotli, LZO and Hadoop's LZ4 are refused.
"""

import zlib

_PLAIN, _SNAPPY, _GZIP, _ZSTD, _LZ4_RAW = 0, 1, 2, 6, 7
_ZSTD_MAGIC, _ZSTD_SKIPPED = 0xFD2FB528, 0x184D2A5
_ZSTD_BLOCK = 1 << 17
_RUN_BLOCK, _LAST_KIND = 1, 2


class CodecError(ValueError):
    """A page in a codec that is not taken, or that would become larger than it says."""


def check_unpacked(codec: int, packed: bytes, num_bytes: int) -> None:
    """Raise CodecError unless `packed` becomes `num_bytes` or less; for zstd, one block of 128 KiB more at most."""
    if codec == _GZIP:
        _check_gzip(packed, num_bytes)
    elif codec == _ZSTD:
        if _zstd_bound(packed) > num_bytes + _ZSTD_BLOCK:
            raise CodecError("a zstd page that becomes larger than it says")
    elif codec not in (_PLAIN, _SNAPPY, _LZ4_RAW):
        raise CodecError(f"codec {codec}; write it plain, or with snappy, gzip, zstd or lz4_raw")


def _check_gzip(packed: bytes, num_bytes: int) -> None:
    num_left = num_bytes
    while packed:
        member = zlib.decompressobj(wbits=31)
        try:  # zlib says only by raising that bytes are damaged
            num_left -= len(member.decompress(packed, num_left + 1))
        except zlib.error as error:
            raise CodecError(f"damaged gzip: {error}") from error
        if num_left < 0:
            raise CodecError("a gzip page that becomes larger than it says")
        packed = member.unused_data


def _zstd_bound(packed: bytes) -> int:
    """The most bytes that these frames can become."""
    at, bound = 0, 0
    while at < len(packed):
        magic = int.from_bytes(packed[at : at + 4], "little")
        if magic >> 4 == _ZSTD_SKIPPED:
            at += 8 + int.from_bytes(packed[at + 4 : at + 8], "little")
            continue
        if magic != _ZSTD_MAGIC or at + 6 > len(packed):
            raise CodecError("damaged zstd")
        at, window, has_checksum = _zstd_header(packed, at + 4)
        is_last = False
        while not is_last:
            head = int.from_bytes(packed[at : at + 3], "little")
            is_last, kind, size = bool(head & 1), head >> 1 & 3, head >> 3
            if at + 3 > len(packed) or kind > _LAST_KIND:
                raise CodecError("damaged zstd")
            bound += min(window, _ZSTD_BLOCK) if kind == _LAST_KIND else size
            at += 3 + (1 if kind == _RUN_BLOCK else size)
        at += 4 * has_checksum
    return bound


def _zstd_header(packed: bytes, at: int) -> tuple[int, int, bool]:
    """Where the blocks begin, the window in bytes, and whether a checksum ends the frame."""
    descriptor = packed[at]
    is_single, has_checksum = bool(descriptor & 0x20), bool(descriptor & 0x04)
    dictionary = (0, 1, 2, 4)[descriptor & 3]
    content = (1 if is_single else 0, 2, 4, 8)[descriptor >> 6]
    window_at = at + 1
    start = window_at + (0 if is_single else 1) + dictionary
    if is_single:
        size = int.from_bytes(packed[start : start + content], "little") + (256 if content == 2 else 0)
        return start + content, size, has_checksum
    exponent, mantissa = packed[window_at] >> 3, packed[window_at] & 7
    base = 1 << (10 + exponent)
    return start + content, base + (base >> 3) * mantissa, has_checksum
