"""Seals the ledgers: signed statements of where each stood; none is rewritten unseen.

A ledger's own chain shows every change but one: log and head rewritten together from some entry on. A seal is such a
statement, signed with the key of this home, and each seal covers the one before. Seals cut off at the end, together
with the entries that they sealed, are missed only by somebody who kept a copy of the last one elsewhere; so keep one.
"""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock
from pydantic import BaseModel, ConfigDict, ValidationError

from infra.atomic import write_atomic
from infra.ledger import GENESIS, Entry, Ledger, LedgerError, canonical, utc_now
from infra.signing import SigningKey, public_key_id, trusted_public_keys, verify

SEAL_TYPE = "application/vnd.roadworthy.ledger-seal+json"
SEALS = Path("audit") / "seals.jsonl"


class Seal(BaseModel):
    """One line of the seals: where a ledger stood, signed. `previous` is the SHA-256 of the line before."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    ledger: str
    seq: int
    digest: str
    time: str
    previous: str
    key: str
    signature: str

    def statement(self) -> bytes:
        """What is signed: every field but the signature."""
        return canonical(self.model_dump(exclude={"signature"}))


class SealCheck(NamedTuple):
    """One ledger held against its seals; `reason` says what is wrong and is empty where nothing is."""

    ledger: str
    num_entries: int
    num_seals: int
    sealed_until: int
    reason: str = ""


def seal_ledger(home: Path, path: Path, key: SigningKey, clock: Callable[[], datetime] = utc_now) -> Seal | None:
    """Sign where the ledger at `path` stands and append that to HOME/audit/seals.jsonl; None when nothing is new.

    Raises LedgerError when the ledger's chain does not hold, or it is not what was sealed before.
    """
    file, name = home / SEALS, path.relative_to(home).as_posix()
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(file.with_suffix(".lock")):
        seals = _read_seals(file, trusted_public_keys(home))
        stands = _check(home, name, seals)
        if stands.reason:
            raise LedgerError(stands.reason)
        if stands.num_entries == stands.sealed_until:
            return None
        lines = file.read_bytes().splitlines() if seals else []
        previous = sha256(lines[-1]).hexdigest() if lines else GENESIS
        seal = _signed(name, Ledger(path).entries()[stands.num_entries - 1], previous, key, clock())
        write_atomic(file, b"".join(line + b"\n" for line in [*lines, canonical(seal.model_dump())]))
    return seal


def verify_seals(home: Path, trusted: Sequence[bytes]) -> list[SealCheck]:
    """Each ledger of this home held against its seals, by name; an unsealed ledger has none.

    Raises LedgerError when the seals themselves are torn, changed or signed with a key that is not trusted.
    """
    seals = _read_seals(home / SEALS, trusted)
    names = {path.relative_to(home).as_posix() for path in ledgers(home)} | {seal.ledger for seal in seals}
    return [_check(home, name, seals) for name in sorted(names)]


def ledgers(home: Path) -> list[Path]:
    """The ledgers of this home: what went on the road, and every one below HOME/audit."""
    found = [
        home / "ledger" / "ledger.jsonl",
        *sorted((home / "audit").rglob("*.jsonl")),
    ]  # containers have a folder each
    return [path for path in found if path.is_file() and path != home / SEALS]


def _check(home: Path, name: str, all_seals: Sequence[Seal]) -> SealCheck:
    seals = [seal for seal in all_seals if seal.ledger == name]
    sealed_until = max((seal.seq for seal in seals), default=0)
    try:
        Ledger(home / name).verify()
        entries = Ledger(home / name).entries()
    except LedgerError as error:
        return SealCheck(name, 0, len(seals), sealed_until, str(error))
    reasons = (_difference(seal, entries) for seal in seals)
    return SealCheck(name, len(entries), len(seals), sealed_until, next(filter(None, reasons), ""))


def _difference(seal: Seal, entries: Sequence[Entry]) -> str:
    """What is wrong with the sealed entry; empty where nothing is."""
    got = entries[seal.seq - 1].digest if 0 < seal.seq <= len(entries) else "nothing"
    if got == seal.digest:
        return ""
    return (
        f"{seal.ledger}: line {seal.seq}: expected entry {seal.digest[:12]}, as sealed on {seal.time[:19]}, "
        f"got {got[:12]}: the ledger was rewritten; restore a copy"
    )


def _signed(name: str, last: Entry, previous: str, key: SigningKey, now: datetime) -> Seal:
    time = now.astimezone(UTC).isoformat(timespec="microseconds")
    seal = Seal(ledger=name, seq=last.seq, digest=last.digest, time=time, previous=previous, key=key.id, signature="")
    signature = key.sign(SEAL_TYPE, seal.statement()).hex()
    return seal.model_copy(update={"signature": signature})


def _read_seals(file: Path, trusted: Sequence[bytes]) -> list[Seal]:
    known = {public_key_id(public): public for public in trusted}
    seals, previous = [], GENESIS
    for number, line in enumerate(file.read_bytes().splitlines() if file.exists() else [], 1):
        where = f"{file}: line {number}"
        seal = _parsed(line, where)
        if seal.previous != previous:
            raise LedgerError(f"{where}: expected a seal after {previous[:12]}, got one after {seal.previous[:12]}")
        if seal.key not in known:
            raise LedgerError(f"{where}: signed with key {seal.key[:12]}, which is not among the {len(known)} trusted")
        if not verify(known[seal.key], SEAL_TYPE, seal.statement(), bytes.fromhex(seal.signature)):
            raise LedgerError(f"{where}: the signature does not hold for key {seal.key[:12]}: the seal was changed")
        seals.append(seal)
        previous = sha256(line).hexdigest()
    return seals


def _parsed(line: bytes, where: str) -> Seal:
    """A seal in exactly the bytes that `seal_ledger` writes. Raises LedgerError."""
    try:
        seal = Seal.model_validate(json.loads(line))
        bytes.fromhex(seal.signature)
        spelled = canonical(seal.model_dump())
    except (ValidationError, ValueError, RecursionError) as error:
        raise LedgerError(f"{where}: expected a seal, got {line[:80]!r}; restore a copy") from error
    if spelled != line:
        raise LedgerError(f"{where}: expected the canonical spelling of a seal, got other bytes")
    return seal
