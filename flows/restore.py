"""Puts a backup back onto an empty home: checked whole first, in effect last.

Nothing is put in place before the signature and every piece hold. The ledger comes last, with an entry that says so:
before it nothing is live, and a restore that was killed goes on when it is asked for again.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from filelock import FileLock

from flows import console
from flows.backup_place import find, note, sealing
from flows.options import UsageError
from flows.restore_check import compare_answers, compare_ids
from flows.restore_servers import databases_and_store, settle_ports, settle_profile
from flows.workshop import Workshop, now
from infra import backup_databases, seals
from infra.atomic import sync_folder, write_atomic
from infra.backup import BackupError, BackupPlace, Item, Manifest, Statement
from infra.backup_blobs import Blobs
from infra.backup_sources import STATE, is_secret
from infra.ledger import Ledger
from infra.objects import NUM_THREADS, Store, hash_file, in_threads
from infra.settings import Settings
from models.artifact.signature import key_id, trusted_keys

RESTORE = "restore"
IGNORED = {STATE, f"{STATE}.lock", "cache", "run"}  # what a home may hold and still be empty


@dataclass(frozen=True)
class Wish:
    """What is asked for: which backup, whose word for it, and where its servers shall listen."""

    backup: str
    place: str = ""
    backup_id: str = ""
    key_file: Path | None = None
    trusted: Path | None = None
    free_ports: bool = False


def restore(config: Settings, wish: Wish) -> dict[str, Any]:
    """Make the empty HOME of these settings what the backup holds; returns what was held against what.

    Raises UsageError for a home that is not empty, BackupError, IntegrityError, StorageError, KeyFileError.
    """
    began = time.perf_counter()
    place, statement = find(config, wish.backup, wish.place, wish.backup_id)
    _believe(statement, wish.trusted)
    blobs = Blobs(place.store, sealing(config, place, wish.key_file) if statement.encrypted else None)
    manifest = place.manifest(statement, blobs.cipher)
    with _alone(config.folder, statement.id) as state:
        record = _put_in_place(config, wish, place, manifest, blobs, state)
    facts = {"id": statement.id, "place": place.store.uri, "signed_by": statement.key_id}
    trusted = {"signature_trusted": wish.trusted is not None, "seconds": round(time.perf_counter() - began, 3)}
    return note(config, RESTORE, **facts, **trusted, **record)


def _put_in_place(
    config: Settings, wish: Wish, place: BackupPlace, manifest: Manifest, blobs: Blobs, state: Path
) -> dict[str, Any]:
    if not (state / "checked").exists():
        num_pieces = place.check(manifest, blobs)
        console.say(f"backup {manifest.id}: {num_pieces} pieces are as they were signed")
        (state / "checked").touch()
    ledgers = {name for name in manifest.files if _is_ledger(name)}
    in_threads(
        lambda name: _put_file(config.folder, name, manifest.files[name], manifest, blobs),
        sorted(manifest.files.keys() - ledgers), NUM_THREADS,
    )  # fmt: skip
    _trust_old_key(config.folder, place.statement(manifest.id), manifest)
    config = settle_profile(config, manifest.profile, state, free=wish.free_ports)
    shop = Workshop(config)
    with databases_and_store(shop):
        num_objects = _put_objects(shop.store, manifest, blobs, state)
        ids = [row for name in manifest.databases for row in _put_database(config, name, manifest, blobs, state)]
        answers = compare_answers(shop, manifest.live)
    settle_ports(shop.home, state)
    failed = [row for row in (*ids, *answers) if not row["ok"]]
    if failed:
        raise BackupError(f"backup {manifest.id}: what was put back is not the same: {failed[0]}; nothing took effect")
    entry = _put_ledgers(shop, manifest, blobs, state, sorted(ledgers))
    return {
        "ok": True, "home": str(shop.home), "profile": manifest.profile, "ids": ids, "golden": answers,
        "files": len(manifest.files), "objects": num_objects, "made_anew": list(manifest.lacks), "ledger_entry": entry,
    }  # fmt: skip


def _believe(statement: Statement, trusted: Path | None) -> None:
    """Raises UsageError when the backup is signed with a key that is not among those named."""
    if trusted is None:
        return
    known = {key_id(key) for key in trusted_keys(trusted)}
    if statement.key_id not in known:
        raise UsageError(
            f"backup {statement.id}: signed with key {statement.key_id[:12]}, not among those of {trusted}"
        )


@contextmanager
def _alone(home: Path, backup_id: str) -> Iterator[Path]:
    """The scratch folder of this restore, gone when it has ended well. Raises UsageError for a home in use."""
    found = _in_use(home)
    state = home / STATE
    begun = (state / "backup").read_text() if (state / "backup").exists() else ""
    if found and begun != backup_id:
        named = ", ".join(found[:5])
        raise UsageError(
            f"{home}: expected an empty home, got {named}"
            + (f", of the unfinished restore of {begun}; end that one, or remove the folder" if begun else "")
        )
    state.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(home / f"{STATE}.lock"):
        for path in home.rglob(".*.tmp") if begun else ():  # a file that was being written when it was killed
            path.unlink()
        write_atomic(state / "backup", backup_id.encode())
        yield state
        shutil.rmtree(state)
    (home / f"{STATE}.lock").unlink(missing_ok=True)


def _in_use(home: Path) -> list[str]:
    """What a home holds that a restore would mix with its own: any file but locks and scratch."""
    there = [path for path in home.iterdir() if path.name not in IGNORED] if home.is_dir() else []
    files = ((one, [one] if one.is_file() else one.rglob("*")) for one in there)
    return sorted(one.name for one, below in files if any(file.is_file() and file.suffix != ".lock" for file in below))


def _put_file(home: Path, name: str, item: Item, manifest: Manifest, blobs: Blobs) -> None:
    target, mode = home / name, 0o600 if is_secret(name) else item.mode
    if len(item.pieces) <= 1:
        data = blobs.get(item.pieces[0]) if item.pieces else b""
        if name.startswith("deployments/"):  # it names Bentos by their place
            data = data.replace(f'"{manifest.home}/'.encode(), f'"{home}/'.encode())
        if is_secret(name):
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        write_atomic(target, data, mode)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _joined(item, blobs, target.with_name(f".{target.name[:100]}.part")).replace(target)
    target.chmod(mode)


def _joined(item: Item, blobs: Blobs, target: Path) -> Path:
    with target.open("wb") as file:
        for piece in item.pieces:
            file.write(blobs.get(piece))
    return target


def _put_objects(store: Store, manifest: Manifest, blobs: Blobs, state: Path) -> int:
    """Every object that is not there; one that is there with other content is not ours to replace."""
    there = {found.key: found for found in store.list()}

    def put(key: str) -> None:
        item = manifest.objects[key]
        if len(item.pieces) <= 1:
            data = blobs.get(item.pieces[0]) if item.pieces else b""
            store.put_bytes(key, data, if_absent=key in there)
            return
        with TemporaryDirectory(dir=state) as scratch:
            whole = _joined(item, blobs, Path(scratch) / "object")
            if key not in there or store.stat(key).sha256 != hash_file(whole):
                store.put(key, whole, if_absent=key in there)

    in_threads(put, sorted(manifest.objects), NUM_THREADS)
    return len(manifest.objects)


def _put_database(config: Settings, name: str, manifest: Manifest, blobs: Blobs, state: Path) -> list[dict[str, Any]]:
    dump = _joined(manifest.databases[name].item, blobs, state / f"{name}.dump")
    is_new = bool(manifest.lacks)
    found = backup_databases.put_back(config, name, dump, manifest.home, has_new_secrets=is_new)
    return compare_ids(name, manifest.databases[name].ids, found)


def _trust_old_key(home: Path, statement: Statement, manifest: Manifest) -> None:
    """Signatures and seals made with the old key go on holding where the private half is made anew."""
    write_atomic(home / "keys" / "trusted" / f"{statement.key_id[:16]}.pub", statement.public_key.encode())
    if "keys/signing.key" in manifest.lacks:
        (home / "keys" / "signing.pub").unlink(missing_ok=True)


def _put_ledgers(shop: Workshop, manifest: Manifest, blobs: Blobs, state: Path, names: list[str]) -> int:
    """The ledgers, the main one last and with its entry about the restore, whose number is returned."""
    main = shop.ledger.path.relative_to(shop.home)
    if shop.ledger.path.exists():  # killed after all was done
        return max(entry.seq for entry in shop.ledger.entries() if entry.action == RESTORE)
    for name in names:
        if Path(name).parent != main.parent:
            _put_file(shop.home, name, manifest.files[name], manifest, blobs)
    staged = state / main.parent.name
    for name in names:
        if Path(name).parent == main.parent:
            _put_file(state, f"{staged.name}/{Path(name).name}", manifest.files[name], manifest, blobs)
    entry = Ledger(staged / main.name, clock=now).append(
        RESTORE, "", backup=manifest.id, made=manifest.made, home=manifest.home, entries=manifest.num_entries,
        made_anew=list(manifest.lacks),
    )  # fmt: skip
    shutil.rmtree(shop.ledger.path.parent, ignore_errors=True)  # a lock at most: there is no ledger yet
    staged.rename(shop.ledger.path.parent)
    sync_folder(shop.home)
    return entry.seq


def _is_ledger(name: str) -> bool:
    return Path(name).parts[0] == "ledger" or Path(name) == seals.SEALS or Path(name).parts[0] == "audit"
