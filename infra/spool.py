"""The spool of captured predictions: append-only segments of checked records on disk.

A segment is `<microseconds of its first record>-<random>.open` while its process writes it and `.ready` afterwards; a
record is its length, its CRC-32 and msgpack. The writer holds a lock on its open segment, so whoever ships knows one
that a killed process left behind. No store and no Parquet here: a serving process imports this file.
"""

import fcntl
import os
import secrets
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from infra.atomic import sync_folder

OPEN, READY = ".open", ".ready"
MAGIC = b"RWSPOOL1"
_HEAD = struct.Struct("<II")  # length and CRC-32 of what follows


class Tensor(msgspec.Struct, frozen=True):
    """One named array as raw little-endian bytes in C order; `data` is None where it was masked."""

    dtype: str
    shape: tuple[int, ...]
    data: bytes | None

    def array(self) -> NDArray[Any]:
        """The array, read-only. Raises ValueError where it was masked."""
        if self.data is None:
            raise ValueError(f"a masked tensor of shape {self.shape} has no values")
        return np.frombuffer(self.data, np.dtype(self.dtype)).reshape(self.shape)


class Member(msgspec.Struct, frozen=True):
    """One model of an ensemble and its weight."""

    product: str
    version: int
    parcel_digest: str
    weight: float


class Record(msgspec.Struct, frozen=True, kw_only=True, tag="prediction"):
    """One captured prediction.

    `time_us` counts microseconds from 1970, UTC; `release` is JSON, the release that answered; `environment` is the
    digest of what the process was made of; `masked` names what was left out. No address and no secret.
    """

    prediction_id: str
    time_us: int
    product: str
    version: int
    parcel_digest: str
    protocol: str
    tenant: str
    key_id: str
    release: str
    environment: str
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    masked: tuple[str, ...] = ()
    members: tuple[Member, ...] = ()


class Made(msgspec.Struct, frozen=True, tag="environment"):
    """What the writing process was made of; the first record of every segment."""

    digest: str
    facts: dict[str, str]


@dataclass(frozen=True)
class Segment:
    """What could be read; `num_damaged` records failed their check, `num_torn_bytes` were cut off by a kill."""

    records: tuple[Record, ...] = ()
    made: tuple[Made, ...] = ()
    num_damaged: int = 0
    num_torn_bytes: int = 0


def tensor_of(array: NDArray[Any], *, masked: bool = False) -> Tensor:
    """The tensor of a numeric array. Raises ValueError for an array of objects."""
    if array.dtype.hasobject:
        raise ValueError(f"expected numbers or fixed-width text, got {array.dtype}")
    data = None if masked else array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
    return Tensor(array.dtype.newbyteorder("<").str, array.shape, data)


def frame(item: Record | Made) -> bytes:
    """The bytes of one record in a segment."""
    body = msgspec.msgpack.encode(item)
    return _HEAD.pack(len(body), zlib.crc32(body)) + body


class SegmentWriter:
    """One open segment. Every method raises OSError when the disk refuses."""

    def __init__(self, folder: Path, first_us: int, made: Made) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{first_us:016d}-{secrets.token_hex(6)}"
        hidden = folder / f".{name}"  # until it is locked, nobody may take it for one left behind
        self._descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        self._path = folder / f"{name}{OPEN}"
        self.num_bytes = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
            self.append(MAGIC + frame(made))
            hidden.rename(self._path)
            sync_folder(folder)
        except OSError:
            os.close(self._descriptor)
            hidden.unlink(missing_ok=True)
            raise

    def append(self, data: bytes) -> None:
        """Add whole frames, on the disk when this returns; after a failure nothing of `data` stays."""
        try:
            rest = memoryview(data)
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, self.num_bytes)
            os.lseek(self._descriptor, 0, os.SEEK_END)
            raise
        self.num_bytes += len(data)

    def close(self) -> None:
        """Nothing more comes: the segment may be shipped."""
        try:
            self._path.rename(self._path.with_suffix(READY))
            sync_folder(self._path.parent)
        finally:
            os.close(self._descriptor)


def segments(folder: Path, *suffixes: str) -> list[Path]:
    """The segments of a spool with one of these suffixes, the oldest first; none where there is no spool."""
    found = (path for path in folder.glob("*-*") if path.suffix in suffixes and not path.name.startswith("."))
    return sorted(found)


def num_bytes_in(folder: Path) -> int:
    """Size of all segments that are there."""
    total = 0
    for path in segments(folder, OPEN, READY):
        try:
            total += path.stat().st_size
        except FileNotFoundError:  # shipped a moment ago
            continue
    return total


def is_being_written(path: Path) -> bool:
    """Whether a living process holds this open segment."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:  # closed a moment ago
        return False
    return False


def adopt(folder: Path) -> None:
    """Make ready what killed processes left open."""
    for path in segments(folder, OPEN):
        if not is_being_written(path) and path.exists():
            path.rename(path.with_suffix(READY))


def read_segment(path: Path) -> Segment:
    """Everything whole in a segment, open ones included. Raises FileNotFoundError when it was shipped meanwhile."""
    data = path.read_bytes()
    if not data.startswith(MAGIC):
        return Segment(num_torn_bytes=len(data))
    frames = list(_frames(data))
    bodies = [body for body, _ in frames if body is not None]
    items = list(_decoded(bodies))
    return Segment(
        records=tuple(item for item in items if isinstance(item, Record)),
        made=tuple(item for item in items if isinstance(item, Made)),
        num_damaged=len(frames) - len(items),
        num_torn_bytes=len(data) - (frames[-1][1] if frames else len(MAGIC)),
    )


def _frames(data: bytes) -> Iterator[tuple[bytes | None, int]]:
    """Each whole frame's body (None where its check fails) and where it ends."""
    place = len(MAGIC)
    while place + _HEAD.size <= len(data):
        length, check = _HEAD.unpack_from(data, place)
        end = place + _HEAD.size + length
        if end > len(data):
            return
        body = data[place + _HEAD.size : end]
        yield (body if zlib.crc32(body) == check else None), end
        place = end


def _decoded(bodies: Iterable[bytes]) -> Iterator[Record | Made]:
    decoder = msgspec.msgpack.Decoder(Record | Made)
    for body in bodies:
        try:
            yield decoder.decode(body)
        except msgspec.DecodeError:  # whole, but of another version
            continue
