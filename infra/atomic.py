"""Files that appear whole or not at all, also after a power cut."""

import fcntl
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


def sync_folder(folder: Path) -> None:
    """Make new names and renames inside `folder` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: BinaryIO) -> None:
    """Bring what was written to `file` onto the disk."""
    file.flush()
    os.fsync(file.fileno())


@contextmanager
def _whole_beside(path: Path, data: bytes, mode: int) -> Iterator[Path]:
    """A complete, durable file in the folder of `path` under a name of its own; gone afterwards unless renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.tmp")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            sync_file(file)
        yield beside
    finally:
        beside.unlink(missing_ok=True)
    sync_folder(path.parent)


def write_atomic(path: Path, data: bytes, mode: int = 0o644) -> Path:
    """Write `data` under the name `path`, replacing what is there; the parent folder is made.

    Readers see the old bytes or the new ones, never a mixture. Raises OSError.
    """
    with _whole_beside(path, data, mode) as beside:
        return beside.replace(path)


def create_atomic(path: Path, data: bytes, mode: int = 0o644) -> bool:
    """Like `write_atomic`, but only when nothing has the name `path`; says whether it was written. Raises OSError."""
    with _whole_beside(path, data, mode) as beside:
        try:
            os.link(beside, path)
        except FileExistsError:
            return False
    return True


@contextmanager
def exclusive(path: Path) -> Iterator[BinaryIO]:
    """`path` opened for reading and appending, made if missing, locked against every other caller of this function.

    The holder may rename or remove the file: those who waited then start with a new one. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _is_at(path, os.fstat(file.fileno()).st_ino):
                yield file
                return


def _is_at(path: Path, inode: int) -> bool:
    """Whether `path` still names this file; others may remove it at any moment, so it is asked once."""
    try:
        return path.stat().st_ino == inode
    except FileNotFoundError:
        return False
