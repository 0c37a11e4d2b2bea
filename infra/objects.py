"""What an object store promises, and whole folders on top of it.

Objects are verified: SHA-256 is stored on put and compared on get. A folder becomes visible with its last object, the
tree file that lists the others, so half an upload is never mistaken for a whole one.
"""

import hashlib
import json
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from infra.atomic import exclusive, sync_folder

TREE = ".tree.json"
BLOCK_BYTES = 1 << 20
LARGE_BYTES = 16 << 20  # larger objects move in parts, one object at a time
NUM_THREADS = 16  # small objects in flight: three times as fast as one after the other

T = TypeVar("T")
R = TypeVar("R")


class StorageError(Exception):
    """The store refused or could not be reached; the message says what, where and what to do."""


class NotThereError(StorageError):
    """No object has this key."""


class AlreadyThereError(StorageError):
    """A conditional put met an object with other content."""


class IntegrityError(StorageError):
    """The bytes are not those that were put."""


@dataclass(frozen=True)
class StoredObject:
    """`sha256` is hex; empty in listings of S3, which do not carry it (ask `stat`)."""

    key: str
    size: int
    sha256: str


def check_key(key: str) -> str:
    """The key itself, if it is one: parts joined by `/`, 512 bytes at most. Raises StorageError."""
    parts = key.split("/")
    longest = max(len(part.encode(errors="replace")) for part in parts)
    if not key or longest > 200 or len(key.encode(errors="replace")) > 512:
        fault = "1 to 512 bytes, 200 at most between slashes"
    elif key.startswith("/"):
        fault = "a relative key, without a leading slash"
    elif any(part in ("", ".", "..") for part in parts):
        fault = "no empty, `.` or `..` part"
    elif "\\" in key or not key.isprintable():
        fault = "no backslash and only printable characters"
    elif parts[0].startswith("."):
        fault = "no leading dot: such names are kept for the store itself"
    else:
        return key
    raise StorageError(f"key {key[:80]!r}: expected {fault}")


def hash_file(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_of(data: bytes) -> str:
    """SHA-256, hex."""
    return hashlib.sha256(data).hexdigest()


def compare(what: str, expected: str, got: str) -> None:
    """Raises IntegrityError when two SHA-256 differ."""
    if expected != got:
        raise IntegrityError(
            f"{what}: expected sha256 {expected or 'on record, found none'}, got {got}: the bytes were changed or "
            "damaged; delete the object and put it again"
        )


class Store(ABC):
    """Objects under keys. All methods raise StorageError; keys are checked by `check_key`."""

    uri: str

    @abstractmethod
    def put(self, key: str, source: Path, *, if_absent: bool = False) -> StoredObject:
        """Store a file, replacing what is there; an interrupted put of a large file goes on where it stopped.

        With `if_absent` nothing is replaced: equal content is returned as it is, other raises AlreadyThereError.
        """

    @abstractmethod
    def put_bytes(self, key: str, data: bytes, *, if_absent: bool = False) -> StoredObject:
        """Store bytes; see `put`."""

    @abstractmethod
    def get(self, key: str, target: Path) -> Path:
        """Fetch into `target`, which appears whole and verified; an interrupted get goes on where it stopped.

        Raises NotThereError, IntegrityError.
        """

    @abstractmethod
    def get_bytes(self, key: str) -> bytes:
        """The verified content. Raises NotThereError, IntegrityError."""

    @abstractmethod
    def stat(self, key: str) -> StoredObject:
        """Size and recorded SHA-256, without reading the content. Raises NotThereError."""

    @abstractmethod
    def list(self, prefix: str = "") -> Iterator[StoredObject]:
        """All objects in the folder `prefix` and below (`a` lists `a/b`, not `ab`), in no particular order."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove an object; none there is as good."""

    def exists(self, key: str) -> bool:
        """Whether an object has this key."""
        try:
            self.stat(key)
        except NotThereError:
            return False
        return True

    def has_folder(self, prefix: str) -> bool:
        """Whether a whole folder was put at `prefix`."""
        return self.exists(f"{prefix}/{TREE}")

    def put_folder(self, prefix: str, folder: Path, *, if_absent: bool = False) -> StoredObject:
        """Store a folder's files below `prefix`, the tree file last; returns the tree file. Equal content stays.

        With `if_absent` other content that is there whole raises AlreadyThereError; without, it is deleted first.
        """
        tree = _tree_of(folder)
        data = _tree_bytes(tree)
        if self.has_folder(prefix):
            there = self.stat(f"{prefix}/{TREE}")
            if there.sha256 == hash_of(data):
                return there
            if if_absent:
                raise AlreadyThereError(f"{self.uri}: folder {prefix}: expected none, got one with other content")
            self.delete_folder(prefix)
        _for_each(lambda file: self._put_file(prefix, folder, file), tree)
        return self.put_bytes(f"{prefix}/{TREE}", data, if_absent=if_absent)

    def get_folder(self, prefix: str, folder: Path) -> Path:
        """Fetch a whole folder; `folder` appears, or is replaced, at once and verified. Goes on after an interruption.

        Raises NotThereError when no whole folder is there, IntegrityError.
        """
        tree = self._tree(prefix)
        lock = folder.with_name(f".{folder.name}.lock")
        beside = folder.with_name(f".{folder.name}.{hash_of(_tree_bytes(tree))[:16]}.part")
        with exclusive(lock):
            if not folder.is_dir() or set(_tree_of(folder)) != set(tree):
                beside.mkdir(exist_ok=True)
                _for_each(lambda file: self._get_file(prefix, beside, file), tree)
                _swap(beside, folder)
            lock.unlink()
        return folder

    def delete_folder(self, prefix: str) -> None:
        """Remove everything below `prefix`, the tree file first, so that it is never seen in half."""
        self.delete(f"{prefix}/{TREE}")
        _for_each(lambda found: self.delete(found.key), self.list(prefix))

    def _put_file(self, prefix: str, folder: Path, file: StoredObject) -> None:
        key = f"{prefix}/{file.key}"
        if file.size > LARGE_BYTES and self.exists(key) and self.stat(key).sha256 == file.sha256:
            return  # a put that was interrupted further on
        compare(f"{folder / file.key} while it was put", file.sha256, self.put(key, folder / file.key).sha256)

    def _get_file(self, prefix: str, folder: Path, file: StoredObject) -> None:
        target = folder / file.key
        if not target.is_file() or hash_file(target) != file.sha256:
            compare(f"{prefix}/{file.key}", file.sha256, hash_file(self.get(f"{prefix}/{file.key}", target)))

    def _tree(self, prefix: str) -> Sequence[StoredObject]:
        try:
            raw = json.loads(self.get_bytes(f"{prefix}/{TREE}"))
        except NotThereError:
            raise NotThereError(f"{self.uri}: expected a whole folder at {prefix}, got none; put it first") from None
        for name in raw:
            check_key(f"{prefix}/{name}")
        return [StoredObject(name, size, sha256) for name, (size, sha256) in raw.items()]


def _tree_of(folder: Path) -> Sequence[StoredObject]:
    """The files of a folder by their relative names. Raises StorageError for what is neither file nor folder."""
    if not folder.is_dir():
        raise StorageError(f"{folder}: expected a folder, got {'a file' if folder.exists() else 'nothing'}")
    tree = []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or name == TREE or not (path.is_dir() or path.is_file()):
            raise StorageError(
                f"{path}: expected a plain file or folder not named {TREE}, got another thing; remove it"
            )
        if path.is_file():
            tree.append(StoredObject(name, path.stat().st_size, hash_file(path)))
    return tree


def _tree_bytes(tree: Iterable[StoredObject]) -> bytes:
    content = {file.key: [file.size, file.sha256] for file in tree}
    return json.dumps(content, sort_keys=True, indent=0, ensure_ascii=False).encode()


def in_threads(work: Callable[[T], R], items: Iterable[T], num_threads: int) -> Sequence[R]:
    """`work` on every item, results in order; the first error stops what has not begun and is raised."""
    with ThreadPoolExecutor(num_threads) as pool:
        running = [pool.submit(work, item) for item in items]
        try:
            for done in as_completed(running):
                done.result()
        finally:
            pool.shutdown(cancel_futures=True)
    return [done.result() for done in running]


def _for_each(work: Callable[[StoredObject], None], items: Iterable[StoredObject]) -> None:
    """Small objects side by side, then large ones one after the other: their parts run side by side."""
    todo = list(items)
    in_threads(work, [item for item in todo if item.size <= LARGE_BYTES], NUM_THREADS)
    for item in todo:
        if item.size > LARGE_BYTES:
            work(item)


def _swap(beside: Path, folder: Path) -> None:
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    beside.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old, ignore_errors=True)
