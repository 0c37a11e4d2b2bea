"""A place with backups: each under one signed statement; found, checked, thinned out.

    blobs/<two digits>/<name>   pieces, each kept once however many backups name it (`backup_blobs`)
    backups/<id>.manifest       everything that the backup holds, each piece by its SHA-256; sealed with a key if asked
    backups/<id>.blobs          names of the stored pieces, so that old backups are removed without that key
    backups/<id>.json           the statement: signed (DSSE), put last; before it there is no backup

A backup that is killed leaves the older ones whole, and the next one finds the pieces that it had put. One place is for
the backups of one home.
"""

import base64
import json
import re
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from infra.backup_blobs import Blobs, Cipher, decoded, encoded
from infra.ledger import canonical
from infra.objects import IntegrityError, NotThereError, Store, hash_of, in_threads
from infra.signing import SigningKey, public_key_id, verify

STATEMENT_TYPE = "application/vnd.roadworthy.backup+json"
ID = re.compile(r"\d{8}T\d{9}Z-[0-9a-f]{6}")
NUM_READERS = 8


class BackupError(RuntimeError):
    """A backup cannot be found, read or believed; the message says which and what to do."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Item(_Frozen):
    """One file or object: its pieces in order. `tag` changes whenever its content does, so it need not be read."""

    size: int
    pieces: tuple[str, ...]
    tag: str = ""
    mode: int = 0o644


class Count(_Frozen):
    """So many ids, and the SHA-256 over all of them in order: equal after a restore, or something is missing."""

    num: int
    sha256: str


class Database(_Frozen):
    """A database as it was at one moment. `kind` says how it is put back."""

    kind: Literal["sqlite", "postgres"]
    item: Item
    ids: dict[str, Count]


class Answer(_Frozen):
    """What the live model of a product answered to its golden request: float32 values by shape."""

    version: int
    digest: str
    shape: tuple[int, ...]
    values: tuple[float, ...]
    tolerance: float


class Manifest(_Frozen):
    """Everything that a backup holds. `files` by their path below HOME, `objects` by their key in the store."""

    format: int = 1
    id: str
    made: str
    home: str
    profile: Literal["embedded", "services"]
    databases: dict[str, Database]
    files: dict[str, Item]
    objects: dict[str, Item]
    live: dict[str, Answer]
    lacks: tuple[str, ...] = Field(description="secrets of the home that are not in it")
    num_entries: int
    last_entry: str

    @field_validator("files")
    @classmethod
    def _below_home(cls, files: dict[str, Item]) -> dict[str, Item]:
        """A name leads nowhere but below HOME, whoever signed it."""
        for name in files:
            parts = PurePosixPath(name).parts
            if not parts or parts[0] == "/" or ".." in parts or "\0" in name:
                raise ValueError(f"expected names of files below HOME, got {name[:80]!r}")
        return files

    @property
    def pieces(self) -> list[str]:
        """Every piece that is needed, each once."""
        held = (*(one.item for one in self.databases.values()), *self.files.values(), *self.objects.values())
        return sorted({piece for item in held for piece in item.pieces})


class Statement(_Frozen):
    """The signed summary of one backup."""

    format: int = 1
    id: str
    made: str
    profile: str
    encrypted: bool
    manifest: str = Field(description="SHA-256 of the manifest")
    blobs: str = Field(description="SHA-256 of the list of stored pieces")
    num_files: int
    num_objects: int
    num_bytes: int
    live: dict[str, int]
    num_entries: int
    public_key: str

    @property
    def moment(self) -> datetime:
        return datetime.fromisoformat(self.made)

    @property
    def key_id(self) -> str:
        return public_key_id(self.public_key.encode())


class BackupPlace:
    """The backups in one store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def write(self, manifest: Manifest, blobs: Blobs, key: SigningKey) -> Statement:
        """Make a backup of pieces that are all there: it exists when this returns, and not before."""
        content = canonical(manifest.model_dump(mode="json"))
        digest = hash_of(content)
        names = zlib.compress("\n".join(blobs.key(piece) for piece in manifest.pieces).encode())
        held = [
            *(one.item for one in manifest.databases.values()),
            *manifest.files.values(),
            *manifest.objects.values(),
        ]
        statement = Statement(
            id=manifest.id, made=manifest.made, profile=manifest.profile, encrypted=blobs.cipher is not None,
            manifest=digest, blobs=hash_of(names), num_files=len(manifest.files), num_objects=len(manifest.objects),
            num_bytes=sum(item.size for item in held), num_entries=manifest.num_entries,
            live={product: one.version for product, one in manifest.live.items()}, public_key=key.public.decode(),
        )  # fmt: skip
        payload = canonical(statement.model_dump(mode="json"))
        signature = {"keyid": key.id, "sig": base64.b64encode(key.sign(STATEMENT_TYPE, payload)).decode()}
        envelope = {
            "payloadType": STATEMENT_TYPE, "payload": base64.b64encode(payload).decode(), "signatures": [signature],
        }  # fmt: skip
        self.store.put_bytes(f"backups/{manifest.id}.manifest", encoded(content, digest, blobs.cipher))
        self.store.put_bytes(f"backups/{manifest.id}.blobs", names)
        self.store.put_bytes(f"backups/{manifest.id}.json", json.dumps(envelope, indent=1).encode())
        return statement

    def statements(self) -> list[Statement]:
        """Every whole backup, oldest first, its signature checked. Raises BackupError."""
        names = sorted(found.key.removeprefix("backups/") for found in self.store.list("backups"))
        return [self.statement(name.removesuffix(".json")) for name in names if name.endswith(".json")]

    def statement(self, backup_id: str) -> Statement:
        """One backup's; signed with the key that it names, which is yours to believe. Raises BackupError."""
        try:
            raw = self.store.get_bytes(f"backups/{backup_id}.json")
        except NotThereError:
            raise BackupError(f"{self.store.uri}: expected a backup {backup_id}, got none; {self._known()}") from None
        return _opened(raw, f"{self.store.uri}: backup {backup_id}")

    def newest(self) -> Statement:
        """Raises BackupError where there is none."""
        names = sorted(found.key for found in self.store.list("backups") if found.key.endswith(".json"))
        if not names:
            raise BackupError(
                f"{self.store.uri}: expected a backup, got none; name another place, or make one: roadworthy backup"
            )
        return self.statement(names[-1].removeprefix("backups/").removesuffix(".json"))

    def manifest(self, statement: Statement, cipher: Cipher | None) -> Manifest:
        """What a backup holds. Raises BackupError, IntegrityError."""
        where = f"{self.store.uri}: backup {statement.id}"
        if statement.encrypted and cipher is None:
            raise BackupError(f"{where}: it is sealed; name its key with --key-file")
        stored = self.store.get_bytes(f"backups/{statement.id}.manifest")
        content = decoded(stored, statement.manifest, cipher if statement.encrypted else None)
        try:
            return Manifest.model_validate_json(content)
        except ValidationError as error:
            raise BackupError(f"{where}: expected a manifest of format 1, got {error.errors()[0]['msg']}") from error

    def blob_keys(self, statement: Statement) -> set[str]:
        """Keys of the stored pieces of a backup. Raises IntegrityError."""
        names = self.store.get_bytes(f"backups/{statement.id}.blobs")
        if hash_of(names) != statement.blobs:
            raise IntegrityError(
                f"{self.store.uri}: backups/{statement.id}.blobs: not the signed list; do not thin out"
            )
        return set(zlib.decompress(names).decode().split())

    def check(self, manifest: Manifest, blobs: Blobs) -> int:
        """Read every piece and hold it against its hash; returns how many there are. Raises BackupError."""

        def fault(piece: str) -> str:
            try:
                blobs.get(piece)
            except (NotThereError, IntegrityError) as error:
                return str(error)
            return ""

        pieces = manifest.pieces
        faults = [one for one in in_threads(fault, pieces, NUM_READERS) if one]
        if faults:
            raise BackupError(
                f"{self.store.uri}: backup {manifest.id}: {len(faults)} of {len(pieces)} pieces damaged or missing, "
                f"first: {faults[0]}; nothing was put in place; take another backup"
            )
        return len(pieces)

    def thin_out(self, num_kept: int, days: int, now: datetime) -> list[str]:
        """Remove backups that are neither among the last `num_kept` nor younger than `days`; returns their ids.

        Statements go first, then pieces that no backup names any more.
        """
        found = self.statements()
        young = now - timedelta(days=days)
        gone = [one for one in found[: max(0, len(found) - max(1, num_kept))] if one.moment < young]
        for one in gone:
            for kind in ("json", "blobs", "manifest"):
                self.store.delete(f"backups/{one.id}.{kind}")
        if gone:
            needed = set().union(*(self.blob_keys(one) for one in found if one not in gone))
            unneeded = [one.key for one in self.store.list("blobs") if one.key not in needed]
            in_threads(self.store.delete, unneeded, NUM_READERS)
        return [one.id for one in gone]

    def _known(self) -> str:
        ids = sorted(one.key[8:-5] for one in self.store.list("backups") if one.key.endswith(".json"))
        return f"there are: {', '.join(ids[-5:]) or 'none'}"


def new_id(now: datetime, salt: str) -> str:
    """Sorts by time, to the millisecond."""
    moment = now.astimezone(UTC)
    return f"{moment:%Y%m%dT%H%M%S}{moment.microsecond // 1000:03}Z-{hash_of(f'{moment} {salt}'.encode())[:6]}"


def _opened(raw: bytes, where: str) -> Statement:
    try:
        envelope: dict[str, Any] = json.loads(raw)
        payload = base64.b64decode(envelope["payload"])
        statement = Statement.model_validate_json(payload)
        signature = base64.b64decode(envelope["signatures"][0]["sig"])
        holds = verify(statement.public_key.encode(), STATEMENT_TYPE, payload, signature)
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise BackupError(f"{where}: expected a signed statement, got something else; take another backup") from error
    if not holds:
        raise BackupError(f"{where}: its signature does not hold: it was changed; take another backup")
    return statement
