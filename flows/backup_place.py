"""Where backups are: the address, whose key opens them, and facts about the last one.

A backup inside what it protects is none: HOME and the object store are refused. By default it is the folder beside HOME
that is called HOME.backups; say another disk or machine with ROADWORTHY_BACKUP_STORE.
"""

import json
from pathlib import Path
from typing import Any

from flows.options import UsageError
from flows.workshop import now
from infra.atomic import write_atomic
from infra.backup import ID, BackupPlace, Statement
from infra.backup_blobs import Blobs, Cipher, open_cipher
from infra.keys import KeyFileError, key_from_file
from infra.settings import Settings
from infra.storage import open_store

S3 = "s3://"
OWN_KEY = Path("keys") / "backup.key"


def open_place(config: Settings, to: str = "") -> BackupPlace:
    """The place of backups. Raises UsageError for one inside what it protects, StorageError."""
    address = to or config.backup_store or f"{config.folder}.backups"
    if address.startswith(S3):
        return BackupPlace(open_store(_on_s3(config, address)))
    folder = Path(address).expanduser().resolve()
    kept = [config.folder, *([] if config.store_uri.startswith(S3) else [Path(config.store_uri).resolve()])]
    if any(folder.is_relative_to(one) for one in kept):
        raise UsageError(f"{address}: expected a place outside {config.folder}, which it protects; name another")
    return BackupPlace(open_store(config.model_copy(update={"store": str(folder)})))


def _on_s3(config: Settings, address: str) -> Settings:
    """The settings of the backups' S3 server: its own, or in an embedded home the store's in another bucket."""
    bucket = address.removeprefix(S3).partition("/")[0]
    if config.backup_s3_endpoint:
        return config.model_copy(
            update={
                "store": address,
                "s3_endpoint": config.backup_s3_endpoint,
                "s3_access_key": config.backup_s3_access_key,
                "s3_secret_key": config.backup_s3_secret_key,
            }
        )
    if config.is_services:
        raise UsageError(f"{address}: expected a server other than this home's own; set ROADWORTHY_BACKUP_S3_ENDPOINT")
    if config.store_uri.startswith(f"{S3}{bucket}"):
        raise UsageError(f"{address}: expected another bucket than the store's, {config.store_uri}, which it protects")
    return config.model_copy(update={"store": address})


def split_address(text: str) -> tuple[str, str]:
    """`PLACE`, `PLACE/ID`, `PLACE/backups/ID.json` or `ID` as (place, id); each may be empty."""
    head, _, last = text.rstrip("/").rpartition("/")
    backup_id = last.removesuffix(".json")
    if ID.fullmatch(backup_id):
        return head.removesuffix("/backups") if last.endswith(".json") else head, backup_id
    return text, ""


def find(config: Settings, backup: str, place: str = "", backup_id: str = "") -> tuple[BackupPlace, Statement]:
    """The backup that is meant; the newest of its place where no id is named. Raises BackupError, UsageError."""
    named_place, named_id = split_address(backup)
    found = open_place(config, place or named_place)
    wanted = backup_id or named_id
    return found, found.statement(wanted) if wanted else found.newest()


def sealing(config: Settings, place: BackupPlace, key_file: Path | None, *, make: bool = False) -> Cipher | None:
    """What opens the sealed backups of a place: the named key, the setting's, or HOME's own; None where there is none.

    make: have a key of this home, in HOME/keys/backup.key, where no other is named
    """
    own = config.folder / OWN_KEY
    file = key_file or config.backup_key_file or (own if make or own.exists() else None)
    if file is None:
        return None
    if file == own:
        return open_cipher(place.store, key_from_file(own).hex().encode())
    if not file.is_file():
        raise KeyFileError(f"--key-file {file}: expected a file with a key or a long passphrase, got none")
    return open_cipher(place.store, file.read_bytes().strip())


def note(config: Settings, name: str, **facts: Any) -> dict[str, Any]:
    """Keep what happened last as HOME/ops/NAME.json, with the time, for status and metrics."""
    record = {"time": now().isoformat(timespec="seconds"), **facts}
    write_atomic(config.folder / "ops" / f"{name}.json", json.dumps(record, indent=1, default=str).encode())
    return record


def verify(config: Settings, backup: str, to: str = "", key_file: Path | None = None) -> dict[str, Any]:
    """Hold one backup against its signature and every hash. Raises BackupError, IntegrityError, KeyFileError."""
    place, statement = find(config, backup, to)
    blobs = Blobs(place.store, sealing(config, place, key_file) if statement.encrypted else None)
    num_pieces = place.check(place.manifest(statement, blobs.cipher), blobs)
    return {"id": statement.id, "place": place.store.uri, "pieces": num_pieces, "signed_by": statement.key_id}
