"""Keeps the audit ledger: append-only JSON Lines, each entry hash-chained to the one before.

What changes what is on the road (a promotion, a rollback, a restore) is written here before it takes effect, so the
ledger is the commit point and the witness. A head file beside it holds the last digest: a tail cut off is found too.
"""

import hashlib
import json
import mmap
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.atomic import sync_folder, write_atomic

GENESIS = "0" * 64
TORN = "ledger.torn_tail"  # records bytes that a crash in the middle of an append left behind, now in a file aside


class LedgerError(Exception):
    """The chain does not hold; the message says at which line, what was expected and what was found."""


class Entry(BaseModel):
    """One line. `seq` counts from 1, `time` is ISO 8601 in UTC, `digest` covers every other field."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    seq: int
    time: str
    action: str
    product: str
    details: dict[str, Any]
    previous: str
    digest: str

    @property
    def moment(self) -> datetime:
        """`time`, aware."""
        return datetime.fromisoformat(self.time)


class _Head(NamedTuple):
    seq: int
    digest: str


class _Tail(NamedTuple):
    last_line: bytes
    num_whole_bytes: int
    torn: bytes


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def canonical(content: dict[str, Any]) -> bytes:
    """The one JSON spelling that is hashed: sorted keys, no spaces, no NaN. Raises TypeError or ValueError."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return text.encode()


def _digest(entry: Entry) -> str:
    return hashlib.sha256(canonical(entry.model_dump(exclude={"digest"}))).hexdigest()


def _parse(line: bytes, where: str) -> Entry:
    """An entry in exactly the bytes that `append` writes. Raises LedgerError."""
    try:
        entry = Entry.model_validate(json.loads(line))
        spelled = canonical(entry.model_dump()) + b"\n"
    except (ValidationError, ValueError, RecursionError) as error:
        raise LedgerError(f"{where}: expected an entry, got {line[:80]!r}") from error
    if spelled != line:
        raise LedgerError(f"{where}: expected the canonical spelling of entry {entry.seq}, got other bytes")
    if entry.digest != _digest(entry):
        raise LedgerError(f"{where}: expected digest {_digest(entry)[:12]}, got {entry.digest[:12]}: it was changed")
    return entry


class Ledger:
    """Appends under a lock, with fsync; one file, any number of processes and threads."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = utc_now) -> None:
        self.path = path
        self.head_path = path.with_suffix(".head")
        self._clock = clock
        self._lock = FileLock(path.with_suffix(".lock"))

    def append(self, action: str, product: str, **details: Any) -> Entry:
        """Add one entry; it is on the disk when this returns. Details must be JSON.

        Raises LedgerError when the end of the chain does not fit its head, TypeError or ValueError for details that
        are not JSON.
        """
        content = json.loads(canonical(details))  # what a reader will get back: lists for tuples, text for keys
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._lock:
            last = self._checked_end()
            if self._head() != last:  # a kill or a full disk came between line and head; two behind would look forged
                self._write_head(last)
            aside = self._move_torn_tail_aside(last.seq + 1)
            if aside:
                recorded = self._write(last, TORN, "", {"files": {file.name: file.stat().st_size for file in aside}})
                last = _Head(recorded.seq, recorded.digest)
            return self._write(last, action, product, content)

    def entries(self, product: str | None = None) -> list[Entry]:
        """All entries in order, or those of one product, their chain checked; a torn tail is left out.

        Raises LedgerError naming the line.
        """
        return [entry for entry in self._walk() if product is None or entry.product == product]

    def verify(self) -> int:
        """Walk the whole chain and compare it with its head; returns the number of entries.

        Raises LedgerError naming the line that breaks, a torn tail, or a tail that was cut off.
        """
        if not self.path.exists() and not self.head_path.exists():
            return 0
        with self._lock:
            entries = list(self._walk())
            self._checked_end()
            torn = self._tail().torn
        if torn:
            raise LedgerError(
                f"{self.path}: line {len(entries) + 1}: expected a whole line, got {len(torn)} bytes of an entry that "
                "was never acknowledged; the next append moves them aside and records it"
            )
        return len(entries)

    def _walk(self) -> Iterator[Entry]:
        previous = GENESIS
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if not line.endswith(b"\n"):
                    return
                entry = _parse(line, f"{self.path}: line {number}")
                if (entry.seq, entry.previous) != (number, previous):
                    raise LedgerError(
                        f"{self.path}: line {number}: expected entry {number} after {previous[:12]}, "
                        f"got entry {entry.seq} after {entry.previous[:12]}: lines were removed, added or moved"
                    )
                previous = entry.digest
                yield entry

    def _head(self) -> _Head:
        if not self.head_path.exists() and self.path.exists():
            raise LedgerError(f"{self.head_path}: expected the head of {self.path.name}, got no file; restore a copy")
        if not self.head_path.exists():
            return _Head(0, GENESIS)
        try:
            seq, digest = self.head_path.read_text().split()
            return _Head(int(seq), digest)
        except ValueError as error:
            raise LedgerError(f"{self.head_path}: expected a number and a digest, got something else") from error

    def _tail(self) -> _Tail:
        if not self.path.exists() or not self.path.stat().st_size:
            return _Tail(b"", 0, b"")
        with self.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end = data.rfind(b"\n") + 1
            start = data.rfind(b"\n", 0, max(end - 1, 0)) + 1
            return _Tail(data[start:end], end, data[end:])

    def _checked_end(self) -> _Head:
        """The last entry, as the head has it; a crash between line and head leaves the head one entry behind."""
        head, line = self._head(), self._tail().last_line
        entry = _parse(line, f"{self.path}: last line") if line else None
        last = _Head(entry.seq, entry.digest) if entry else _Head(0, GENESIS)
        one_behind = entry is not None and head == (entry.seq - 1, entry.previous)
        if last != head and not one_behind:
            raise LedgerError(
                f"{self.path}: line {last.seq}: expected the chain to end in entry {head.seq} {head.digest[:12]} as in "
                f"{self.head_path.name}, got {last.seq} {last.digest[:12]}: lines were cut off or added; restore a copy"
            )
        return last

    def _move_torn_tail_aside(self, seq: int) -> list[Path]:
        """Files with torn bytes that entry `seq` must record, among them those that a crash left unrecorded."""
        tail = self._tail()
        if tail.torn:
            digest = hashlib.sha256(tail.torn).hexdigest()[:12]
            write_atomic(self.path.with_suffix(f".torn-{seq}-{digest}"), tail.torn)
            with self.path.open("r+b") as file:
                file.truncate(tail.num_whole_bytes)
                os.fsync(file.fileno())
        return sorted(self.path.parent.glob(f"{self.path.stem}.torn-{seq}-*"))

    def _write(self, last: _Head, action: str, product: str, details: dict[str, Any]) -> Entry:
        now = self._clock()
        if now.utcoffset() is None:
            raise ValueError(f"clock: expected an aware time, got {now!r}")
        time = now.astimezone(UTC).isoformat(timespec="microseconds")
        entry = Entry(
            seq=last.seq + 1, time=time, action=action, product=product, details=details,
            previous=last.digest, digest="",
        )  # fmt: skip
        entry = entry.model_copy(update={"digest": _digest(entry)})
        if not last.seq:
            self._write_head(last)
        self._add_line(canonical(entry.model_dump()) + b"\n")
        self._write_head(_Head(entry.seq, entry.digest))
        return entry

    def _write_head(self, head: _Head) -> None:
        write_atomic(self.head_path, f"{head.seq} {head.digest}\n".encode())

    def _add_line(self, line: bytes) -> None:
        with self.path.open("ab") as file:
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        sync_folder(self.path.parent)
