"""Recognises API keys while serving.

Microseconds for one seen before, argon2 off the event loop for a new one.

A verified key is remembered by a digest keyed with this process's own random bytes, never by its text. The file of
keys is looked at on every call (one `stat`, 2 µs) and read again when it is another one: a revocation acts at once.
"""

import asyncio
import logging
import os
import re
import secrets
from hashlib import blake2b
from pathlib import Path

from argon2.exceptions import InvalidHashError, VerificationError

from infra.api_keys import HASHER, NUM_SECRET_BYTES, ApiKeyError, Grant, parse_records

LOG = logging.getLogger("roadworthy.keys")

MAX_WAITING = 16  # different keys that may wait for argon2 at once; more are told to come back
SHAPE = re.compile(r"rw_([0-9a-f]{8})_([A-Za-z0-9_-]{32})")

_Stamp = tuple[int, int, int, int]  # times of the last change of content and of mode in ns, inode, size
_NO_FILE: _Stamp = (0, 0, 0, 0)


class BusyError(RuntimeError):
    """Too many keys wait to be checked; ask again in a second."""


class KeyRing:
    """The keys of a file, as they are now. One event loop uses it; without the file, or with a broken one, no key."""

    def __init__(self, path: Path) -> None:
        """`path` need not exist yet."""
        self._path = path
        self._stamp: _Stamp | None = None
        self._grants: dict[str, tuple[Grant, str]] = {}  # by id, with the hash
        self._verified: dict[bytes, tuple[str, str]] = {}  # id and hash by digest of the key; at most one per record
        self._digest_key = secrets.token_bytes(32)
        self._no_hash = HASHER.hash(secrets.token_urlsafe(NUM_SECRET_BYTES))  # as dear to check as a real one
        self._in_flight: dict[bytes, asyncio.Task[Grant | None]] = {}
        self._one_at_a_time = asyncio.Lock()

    def known(self, raw_key: str) -> Grant | None:
        """The grant of a key that was verified before, None for every other; does not block. It may have ended."""
        self._refresh()
        key_id, stored = self._verified.get(self._digest(raw_key), ("", ""))
        grant, current = self._grants.get(key_id, (None, ""))
        return grant if stored == current else None

    async def find(self, raw_key: str) -> Grant | None:
        """The grant of a key, None for one that is not right; it may have ended or be revoked.

        An unknown id costs as much as a wrong secret. Raises BusyError when too many wait.
        """
        grant = self.known(raw_key)
        if grant is not None or not SHAPE.fullmatch(raw_key):
            return grant
        digest = self._digest(raw_key)
        task = self._in_flight.get(digest)
        if task is None:  # one check for all who bring the same key at once
            if len(self._in_flight) >= MAX_WAITING:
                raise BusyError
            task = self._in_flight[digest] = asyncio.create_task(self._verify(raw_key, digest))
            task.add_done_callback(lambda _: self._in_flight.pop(digest, None))
        return await asyncio.shield(task)

    async def _verify(self, raw_key: str, digest: bytes) -> Grant | None:
        _, key_id, secret = raw_key.split("_", 2)
        grant, stored = self._grants.get(key_id, (None, self._no_hash))
        async with self._one_at_a_time:
            is_right = await asyncio.to_thread(_matches, stored, secret)
        if grant is None or not is_right:
            return None
        self._verified[digest] = (key_id, stored)
        return self.known(raw_key)  # the file may have changed meanwhile

    def _digest(self, raw_key: str) -> bytes:
        return blake2b(raw_key.encode("utf-8", "surrogatepass"), key=self._digest_key, digest_size=16).digest()

    def _refresh(self) -> None:
        try:
            stamp = _stamp_of(os.stat(self._path))  # noqa: PTH116 - half the time of Path.stat, on every call
        except OSError:
            stamp = _NO_FILE
        if stamp != self._stamp:
            self._stamp, self._grants = stamp, {}
            if stamp != _NO_FILE:
                self._read()
            self._verified = {
                digest: held
                for digest, held in self._verified.items()
                if self._grants.get(held[0], ("", ""))[1] == held[1]
            }

    def _read(self) -> None:
        try:  # fail closed: a file that cannot be read opens nothing
            with self._path.open("rb") as file:
                self._stamp = _stamp_of(os.fstat(file.fileno()))
                records = parse_records(file.read(), str(self._path))
        except (OSError, ApiKeyError) as error:
            LOG.error("no API key is accepted: %s", error)
            return
        self._grants = {record.id: (record.grant(), record.hash) for record in records}


def _stamp_of(status: os.stat_result) -> _Stamp:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size


def _matches(stored: str, secret: str) -> bool:
    try:  # argon2 says no by raising
        return HASHER.verify(stored, secret)
    except (VerificationError, InvalidHashError):
        return False
