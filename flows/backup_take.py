"""Takes a backup: this home at one moment; what is new of it goes to a place elsewhere.

Ledgers and databases are read while no promotion can begin; objects after them, because an object is written before
anything refers to it, and garbage collection waits. So what a restored ledger and database name is there.
"""

import shutil
import time
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from flows.backup_place import note, open_place, sealing
from flows.restore_check import live_answers
from flows.trust import own_key
from flows.workshop import Workshop, now
from infra import backup_databases, backup_sources
from infra.backup import BackupError, BackupPlace, Count, Database, Item, Manifest, Statement, new_id
from infra.backup_blobs import Blobs, Cipher
from infra.backup_sources import Source, keep
from infra.collect import collecting
from infra.keys import KeyFileError
from infra.ledger import Ledger, LedgerError
from infra.objects import NUM_THREADS, IntegrityError, StorageError, in_threads

FAULTS = (BackupError, KeyFileError, LedgerError, StorageError, OSError)


def take_backup(shop: Workshop, to: str = "", *, encrypt: bool = False, key_file: Path | None = None) -> dict[str, Any]:
    """A new backup in `to`, or in the place of the settings; returns its record, also kept in HOME/ops/backup.json.

    encrypt: sealed, and only then with the secrets of this home; so is one where a key is named here or in the settings
    Raises BackupError, KeyFileError, LedgerError, StorageError, UsageError.
    """
    place = open_place(shop.config, to)
    try:
        record = _take(shop, place, encrypt=encrypt, key_file=key_file)
    except FAULTS as error:
        note(shop.config, "backup", ok=False, place=place.store.uri, error=str(error))
        raise
    return note(shop.config, "backup", ok=True, **record)


def _take(shop: Workshop, place: BackupPlace, *, encrypt: bool, key_file: Path | None) -> dict[str, Any]:
    began = time.perf_counter()
    is_sealed = encrypt or bool(key_file or shop.config.backup_key_file)
    with collecting(shop.home), FileLock(shop.home / "ops" / "backup.lock"):
        blobs = Blobs(place.store, sealing(shop.config, place, key_file, make=True) if is_sealed else None)
        manifest = _read(shop, blobs, _before(place, blobs.cipher))
        statement = place.write(manifest, blobs, own_key(shop))
        gone = place.thin_out(shop.config.backup_num_kept, shop.config.backup_days, now())
    lacks = [*manifest.lacks, *backup_databases.left_to_others(shop.config)]
    return {
        **summary(place, statement),
        "lacks": lacks,
        "new_pieces": blobs.num_new,
        "new_bytes": blobs.num_new_bytes,
        "removed": gone,
        "seconds": round(time.perf_counter() - began, 3),
    }


def summary(place: BackupPlace, statement: Statement) -> dict[str, Any]:
    """What people want to know of a backup."""
    keys = ("id", "made", "profile", "encrypted", "num_files", "num_objects", "num_bytes", "num_entries", "live")
    found = statement.model_dump(mode="json")
    address = {"place": place.store.uri, "address": f"{place.store.uri}/{statement.id}", "signed_by": statement.key_id}
    return {**{key: found[key] for key in keys}, **address}


def _read(shop: Workshop, blobs: Blobs, before: Manifest | None) -> Manifest:
    """Everything, in the order that keeps it whole: ledgers and databases together, then files, then objects."""
    moment, home = now(), shop.home
    old_files, old_objects = (before.files, before.objects) if before else ({}, {})
    with TemporaryDirectory(dir=_cleared(home / "cache" / "backup")) as scratch:
        with FileLock(shop.ledger.path.with_name("promotion.lock")):
            ledgers = _kept(backup_sources.ledger_files(home), blobs, {})
            dumps = {name: _dump(shop, name, Path(scratch)) for name in backup_databases.databases(shop.config)}
            entries = Ledger(shop.ledger.path).entries()
            records = _kept(backup_sources.home_files(shop.config, below="deployments"), blobs, old_files)
        databases = {name: _database(shop, dump, ids, blobs) for name, (dump, ids) in dumps.items()}
    files = _kept(backup_sources.home_files(shop.config, with_secrets=blobs.cipher is not None), blobs, old_files)
    return Manifest(
        id=new_id(moment, str(home)), made=moment.isoformat(timespec="microseconds"), home=str(home),
        profile=shop.config.profile, databases=databases, files={**files, **records, **ledgers},
        objects=_kept(backup_sources.objects(shop.config, shop.store), blobs, old_objects),
        live=live_answers(shop, entries),
        lacks=() if blobs.cipher else tuple(backup_sources.secrets_of(home)),
        num_entries=len(entries), last_entry=entries[-1].digest if entries else "",
    )  # fmt: skip


def _kept(sources: Iterable[Source], blobs: Blobs, before: dict[str, Item]) -> dict[str, Item]:
    found = list(sources)
    items = in_threads(lambda source: keep(source, blobs, before.get(source.name)), found, NUM_THREADS)
    return {source.name: item for source, item in zip(found, items, strict=True) if item}


def _dump(shop: Workshop, name: str, scratch: Path) -> tuple[Path, dict[str, Count]]:
    target = scratch / name
    return target, backup_databases.snapshot(shop.config, name, target)


def _database(shop: Workshop, dump: Path, ids: dict[str, Count], blobs: Blobs) -> Database:
    with dump.open("rb") as file:
        item = Item(size=dump.stat().st_size, pieces=blobs.put_all(file))
    return Database(kind="postgres" if shop.config.is_services else "sqlite", item=item, ids=ids)


def _before(place: BackupPlace, cipher: Cipher | None) -> Manifest | None:
    """The newest backup that can be read here: what did not change since is not read again."""
    for statement in reversed(place.statements()):
        if statement.encrypted == (cipher is not None):
            try:
                return place.manifest(statement, cipher)
            except (BackupError, IntegrityError):
                return None
    return None


def _cleared(folder: Path) -> Path:
    """An empty folder: a backup that was killed left its dumps there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
