"""What a backup of a home consists of: files, ledgers, objects; and what is left out.

Everything below HOME belongs to it but what is named here, so that what is added to a home later is not forgotten.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from filelock import FileLock

from infra import seals
from infra.backup import Item
from infra.backup_blobs import Blobs
from infra.objects import NotThereError, Store
from infra.settings import Settings
from infra.storage import FolderStore

if TYPE_CHECKING:
    from infra.backup_s3 import Found
    from infra.s3_client import Bucket

LEFT_OUT = {
    "cache": "can be fetched or computed again", "run": "belongs to the processes of this machine",
    "work": "what is whole of it is in the store", "containers": "images are built from Bentos",
    "tools": "programs, fetched", "postgres": "dumped", "s3": "its objects are read through its door",
    "store": "its objects are read one by one", "quarantine": "is to be removed", "ops": "facts about backups",
    "prometheus": "measurements of this machine", "profile.json": "ports of this machine",
    "mlflow/mlflow.db": "copied by SQLite", "mlflow/mlflow.db.moved": "is in PostgreSQL",
    "prefect/prefect.db": "copied by SQLite", "bentoml/tmp": "scratch",
}  # fmt: skip
PASSING = (".lock", ".tmp", ".part", ".sock", ".pid", "-wal", "-shm", ".log")
PUBLIC_KEYS = ("*.pub", "trusted/*", "api_keys.json")  # of HOME/keys; all else there is secret
STATE = ".restore"  # a home being restored
Opener = Callable[[], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class Source:
    """One thing to keep under `name`. `tag` changes whenever its content does; empty: it must be read to know."""

    name: str
    tag: str
    size: int
    mode: int
    open: Opener


def home_files(config: Settings, *, below: str = "", with_secrets: bool = False) -> list[Source]:
    """The files of HOME or a folder in it, without ledgers (`ledger_files`); secret keys only where asked."""
    ledgers = set(ledger_names(config.folder))
    return [
        _file(path, name)
        for path, name in _walk(config.folder, below)
        if name not in ledgers and (with_secrets or not is_secret(name))
    ]


def secrets_of(home: Path) -> list[str]:
    """Names of the secret files of a home."""
    return [name for path, name in _walk(home) if is_secret(name)]


def is_secret(name: str) -> bool:
    """Whether a file of HOME is one that only a sealed backup holds."""
    parts = Path(name)
    return parts.parts[0] == "keys" and not any(parts.match(f"keys/{pattern}") for pattern in PUBLIC_KEYS)


def ledger_names(home: Path) -> list[str]:
    """The ledgers with their heads, and the seals over them."""
    found = [name for path in seals.ledgers(home) for name in (path, path.with_suffix(".head"))]
    return [path.relative_to(home).as_posix() for path in (home / seals.SEALS, *found) if path.is_file()]


def ledger_files(home: Path) -> list[Source]:
    """Each ledger with the head that fits it. The seals are read first: they never say more than the ledgers hold."""
    return [source for name in ledger_names(home) if not name.endswith(".head") for source in _ledger(home, name)]


def objects(config: Settings, store: Store) -> Iterator[Source]:
    """The objects of this home's store, also those that MLflow put there."""
    if isinstance(store, FolderStore):
        for found in store.list():
            if not found.key.startswith("quarantine/"):
                yield Source(found.key, found.sha256, found.size, 0o644, _opener(store.root / found.key))
        return
    from infra.backup_s3 import bucket_of, listed

    bucket, start = bucket_of(config)
    for one in listed(bucket, start):
        if not one.key.startswith("quarantine/"):
            tag = f"{one.etag} {one.modified_s:.6f}"
            yield Source(one.key, tag, one.size, 0o644, _s3_opener(bucket, one))


def keep(source: Source, blobs: Blobs, before: Item | None) -> Item | None:
    """The item of a source, read only where it may have changed; None for what is gone meanwhile."""
    is_same = before and source.tag and (before.tag, before.size) == (source.tag, source.size)
    if before and is_same and all(blobs.has(piece) for piece in before.pieces):
        return before.model_copy(update={"mode": source.mode})
    try:
        with source.open() as file:
            pieces = blobs.put_all(file)
            size = file.tell()
    except (FileNotFoundError, NotThereError):
        return None
    return Item(size=size, pieces=pieces, tag=source.tag, mode=source.mode)


def _walk(home: Path, below: str = "") -> Iterator[tuple[Path, str]]:
    for folder, subfolders, names in os.walk(home / below):
        here = Path(folder).relative_to(home)
        subfolders[:] = sorted(name for name in subfolders if not _is_left_out(here / name))
        for name in sorted(names):
            path = Path(folder) / name
            if not _is_left_out(here / name) and not name.endswith(PASSING) and path.is_file():
                yield path, (here / name).as_posix()


def _is_left_out(path: Path) -> bool:
    """Of a deployment only the record is kept; names with a leading dot are scratch."""
    in_deployment = len(path.parts) == 3 and path.parts[0] == "deployments"
    return path.as_posix() in LEFT_OUT or path.parts[0] == STATE or (in_deployment and path.name != "deployment.json")


def _file(path: Path, name: str) -> Source:
    status = path.stat()
    tag = f"{status.st_mtime_ns} {status.st_ino} {status.st_ctime_ns}"
    return Source(name, tag, status.st_size, status.st_mode & 0o777, _opener(path))


def _opener(path: Path) -> Opener:
    return lambda: path.open("rb")


def _ledger(home: Path, name: str) -> Iterator[Source]:
    path = home / name
    with FileLock(path.with_suffix(".lock")):
        pair = [(one, one.read_bytes()) for one in (path, path.with_suffix(".head")) if one.is_file()]
    for one, data in pair:
        yield Source(one.relative_to(home).as_posix(), "", len(data), 0o644, _bytes_opener(data))


def _bytes_opener(data: bytes) -> Opener:
    return lambda: BytesIO(data)


def _s3_opener(bucket: "Bucket", found: "Found") -> Opener:
    from infra.backup_s3 import ObjectReader

    return lambda: cast(AbstractContextManager[BinaryIO], ObjectReader(bucket, found))
