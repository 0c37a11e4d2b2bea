"""Object storage as one small interface: a folder, or S3 (`infra.storage_s3`).

In a folder store every key is a relative symbolic link to a file of its own that is named by its SHA-256:
`<key> -> .objects/<hash of key>/<hash of content>`. The rename of the link changes content and recorded hash in one
step, and ordinary tools can read the store. A lock per group of keys keeps writers apart, also between processes.
"""

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock

from infra.atomic import exclusive, sync_file, sync_folder
from infra.objects import (
    BLOCK_BYTES,
    TREE,
    AlreadyThereError,
    IntegrityError,
    NotThereError,
    StorageError,
    Store,
    StoredObject,
    check_key,
    compare,
    hash_file,
    hash_of,
)
from infra.settings import Settings

__all__ = [
    "TREE", "AlreadyThereError", "FolderStore", "IntegrityError", "NotThereError", "StorageError", "Store",
    "StoredObject", "check_key", "hash_file", "hash_of", "open_store",
]  # fmt: skip

OBJECTS = ".objects"


@contextmanager
def _explained(what: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{what}: {error.strerror or error}; look at the folder's owner, mode and free space"
        ) from error


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy to the end; returns the SHA-256 of what was copied."""
    digest = hashlib.sha256()
    while block := source.read(BLOCK_BYTES):
        digest.update(block)
        target.write(block)
    sync_file(target)
    return digest.hexdigest()


class FolderStore(Store):
    """Objects in a folder of this machine."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.uri = str(self.root)

    def put(self, key: str, source: Path, *, if_absent: bool = False) -> StoredObject:
        with source.open("rb") as file:
            return self._put(key, file, if_absent)

    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        return self._put(key, BytesIO(data), if_absent)

    def get(self, key: str, target: Path) -> Path:
        with self._open(key) as (source, sha256), exclusive(target.with_name(f".{target.name}.part")) as part:
            part.truncate(0)
            got = _copy(source, part)
            path = Path(part.name)
            if got != sha256:
                path.unlink()
            compare(f"{self.uri}: {key}", sha256, got)
            path.replace(target)
        sync_folder(target.parent)
        return target

    def get_bytes(self, key: str) -> bytes:
        with self._open(key) as (source, sha256):
            data = source.read()
        compare(f"{self.uri}: {key}", sha256, hash_of(data))
        return data

    def stat(self, key: str) -> StoredObject:
        with self._open(key) as (file, sha256):
            return StoredObject(key, os.fstat(file.fileno()).st_size, sha256)

    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        for folder, subfolders, names in os.walk(self.root / check_key(prefix) if prefix else self.root):
            if Path(folder) == self.root:
                subfolders[:] = [name for name in subfolders if name != OBJECTS]
            for name in names:
                key = (Path(folder) / name).relative_to(self.root).as_posix()
                if self._home(key).exists() and self.exists(key):
                    yield self.stat(key)

    def delete(self, key: str) -> None:
        link, home = self.root / check_key(key), self._home(key)
        with _explained(f"{self.uri}: delete {key}"), self._lock(key):
            if link.is_symlink():
                link.unlink()
                sync_folder(link.parent)
            for content in home.iterdir() if home.exists() else ():
                content.unlink()
            if home.exists():
                home.rmdir()

    def _home(self, key: str) -> Path:
        return self.root / OBJECTS / hash_of(key.encode())

    @contextmanager
    def _lock(self, key: str) -> Iterator[None]:
        folder = self.root / OBJECTS / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / hash_of(key.encode())[:2]):
            yield

    def _put(self, key: str, source: BinaryIO, if_absent: bool) -> StoredObject:
        link, home = self.root / check_key(key), self._home(key)
        with _explained(f"{self.uri}: put {key}"), self._lock(key):
            home.mkdir(exist_ok=True)
            link.parent.mkdir(parents=True, exist_ok=True)
            part = home / "part"  # one name, under the lock: what a killed writer left is overwritten
            with part.open("wb") as file:
                sha256 = _copy(source, file)
            stored = StoredObject(key, part.stat().st_size, sha256)
            if if_absent and link.is_symlink():
                part.unlink()
                there = self.stat(key)
                if there.sha256 != sha256:
                    raise AlreadyThereError(f"{self.uri}: {key}: expected no object, got one with other content")
                return there
            part.replace(home / sha256)
            sync_folder(home)
            new_link = home / "link"
            new_link.unlink(missing_ok=True)
            new_link.symlink_to(os.path.relpath(home / sha256, link.parent))
            new_link.replace(link)
            sync_folder(link.parent)
            for old in home.iterdir():
                if old.name != sha256:
                    old.unlink()
        return stored

    @contextmanager
    def _open(self, key: str) -> Iterator[tuple[BinaryIO, str]]:
        """The content and its recorded SHA-256, which stay together when the key is replaced meanwhile."""
        link = self.root / check_key(key)
        for _ in range(100):
            try:
                content = link.parent / link.readlink()
                file = content.open("rb")
            except FileNotFoundError:
                if not link.is_symlink():
                    break
                continue  # replaced between the two
            except OSError as error:
                if error.errno in (errno.EINVAL, errno.ENOTDIR):
                    break
                raise StorageError(
                    f"{self.uri}: {key}: {error.strerror}; look at the folder's owner and mode"
                ) from error
            with file:
                yield file, content.name
            return
        if link.is_symlink():
            raise IntegrityError(f"{self.uri}: {key}: expected its content, got none: it was removed; put it again")
        raise NotThereError(f"{self.uri}: expected an object {key}, got none")


def open_store(config: Settings) -> Store:
    """The store of the settings: `s3://bucket/prefix`, or a folder. Raises StorageError for any other address."""
    uri = config.store_uri
    if uri.startswith("s3://"):
        from infra.storage_s3 import S3Store  # boto3 takes a third of a second to import

        return S3Store(config)
    if "://" in uri:
        raise StorageError(
            f"ROADWORTHY_STORE={uri}: expected a folder or s3://bucket/prefix, got another kind of address"
        )
    return FolderStore(Path(uri))
