"""The audit trail of a serving process, in a hash-chained ledger of its own.

It holds refused and privileged calls.

Serving never waits for the disk: a note is a count in memory, and a thread writes once a second. Equal notes of a
second are one entry; more different ones than `MAX_ENTRIES` are counted together, and while that lasts the pauses
grow to a minute, so that a flood from a thousand addresses costs the disk no more than a trickle from one.
An entry holds who (name and id of a key, never the key), what and why: no body, no header, no path of a stranger's.
"""

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from infra.ledger import Ledger, LedgerError
from services.answers import ANYBODY, Caller

LOG = logging.getLogger("roadworthy.audit")

MAX_ENTRIES = 32  # different notes of strangers in one pause that get an entry of their own; as many more of callers
INTERVAL_S, LONGEST_S = 1.0, 60.0
MAX_TEXT = 120
MERGED = "audit.merged"  # one entry for all notes that came when there were MAX_ENTRIES others
LOST = "audit.lost"  # how many notes could not be written before this entry could


class Note(NamedTuple):
    """What makes two calls equal; `status` is that of the answer, 0 where there is none yet."""

    event: str
    caller: Caller
    where: str
    why: str
    verb: str = ""
    model: str = ""
    status: int = 0
    address: str = ""


class _Count:
    """How often, and from when to when (seconds since 1970)."""

    __slots__ = ("first", "last", "number")

    def __init__(self, now: float) -> None:
        self.number, self.first, self.last = 0, now, now

    def add(self, now: float) -> None:
        self.number, self.last = self.number + 1, now

    def details(self) -> dict[str, object]:
        return {"count": self.number, "first": _iso(self.first), "last": _iso(self.last)}


class Audit:
    """Takes notes from any thread; `start` and `stop` its writer with the process, `stop` writes what is left."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.ledger = Ledger(path)
        self._clock = clock
        self._lock = threading.Lock()  # over the three below
        self._counts: dict[Note, _Count] = {}
        self._merged: _Count | None = None
        self._num_lost = 0  # notes that could not be written; the next entry that can be says so
        self._writing = threading.Lock()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def note(
        self, event: str, caller: Caller = ANYBODY, where: str = "", why: str = "", *, verb: str = "",
        model: str = "", status: int = 0, address: str = "",
    ) -> None:  # fmt: skip
        """Count one call; microseconds, never raises."""
        note, now = Note(event, caller, where, why, verb, model, status, address), self._clock()
        with self._lock:
            count = self._counts.get(note)
            if count is None and len(self._counts) < (2 * MAX_ENTRIES if caller.key_id else MAX_ENTRIES):
                count = self._counts[note] = _Count(now)
            if count is None:
                count = self._merged = self._merged or _Count(now)
            count.add(now)

    def record(self, event: str, caller: Caller, where: str, why: str, *, verb: str, model: str, address: str) -> bool:
        """Write one entry now and say whether it is on the disk; takes milliseconds, not for the event loop."""
        note = Note(event, caller, where, why, verb, model, 0, address)
        with self._writing:
            return self._append(note.event, note.model, _details(note))

    def start(self) -> None:
        """Begin to write, once a second."""
        self._stopped.clear()
        self._thread = threading.Thread(target=self._run, name="audit", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is left and end the thread."""
        self._stopped.set()
        if self._thread:
            self._thread.join()
            self._thread = None
        self.flush()

    def flush(self) -> bool:
        """Write all notes now; whether it worked. Those that could not be written are counted and said later."""
        with self._writing:
            with self._lock:
                counts, merged, num_lost = self._counts, self._merged, self._num_lost
                self._counts, self._merged, self._num_lost = {}, None, 0
            entries = [(note.event, note.model, _details(note), count) for note, count in counts.items()]
            if merged:
                entries.append((MERGED, "", {}, merged))
            if num_lost and self._append(LOST, "", {"count": num_lost}):
                num_lost = 0
            num_failed = sum(
                count.number
                for event, model, details, count in entries
                if num_lost or not self._append(event, model, details | count.details())
            )
            with self._lock:
                self._num_lost += num_lost + num_failed
        return not num_lost + num_failed

    def _append(self, event: str, model: str, details: dict[str, object]) -> bool:
        try:  # a full disk or a broken chain must not stop serving; who needs the entry asks whether it was written
            self.ledger.append(event, _short(model), **details)
        except (OSError, LedgerError, ValueError) as error:
            LOG.error("the audit trail cannot be written: %s", error)
            return False
        return True

    def _run(self) -> None:
        pause_s = INTERVAL_S
        while not self._stopped.wait(pause_s):
            is_flood = self._merged is not None
            self.flush()
            pause_s = min(2 * pause_s, LONGEST_S) if is_flood else INTERVAL_S


def _details(note: Note) -> dict[str, object]:
    words = {
        "key": note.caller.key_id, "name": note.caller.name, "tenant": note.caller.tenant, "where": note.where,
        "why": note.why, "verb": note.verb, "address": note.address,
    }  # fmt: skip
    return {name: _short(word) for name, word in words.items() if word} | {"status": note.status}


def _short(word: str) -> str:
    """Bounded, and such that JSON and UTF-8 take it."""
    return word[:MAX_TEXT].encode("utf-8", "backslashreplace").decode()


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
