"""Moves what nobody owns into a quarantine, brings it back, and in the end removes it.

`quarantine/<date>/…` in the object store for objects, HOME/quarantine/<date>/… for files. What goes is copied whole
before the first original is removed, so a kill in between loses nothing, and the next run goes on.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock

from infra.objects import NUM_THREADS, TREE, Store, in_threads
from infra.settings import Settings
from infra.storage import FolderStore

QUARANTINE = "quarantine"


class CollectError(RuntimeError):
    """Nothing can be collected, or brought back; the message says why."""


@contextmanager
def collecting(home: Path) -> Iterator[None]:
    """Whoever removes objects holds this, and so does a backup: never both at once."""
    folder = home / "ops"
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "collect.lock"):
        yield


def modified(config: Settings, store: Store, below: str) -> dict[str, datetime]:
    """When each object below a folder of the store was last written, by key."""
    if isinstance(store, FolderStore):
        keys = (found.key for found in store.list(below))
        return {key: datetime.fromtimestamp((store.root / key).lstat().st_mtime, UTC) for key in keys}
    from infra.backup_s3 import bucket_of, listed

    bucket, start = bucket_of(config)
    return {one.key: datetime.fromtimestamp(one.modified_s, UTC) for one in listed(bucket, start, f"{below}/")}


def set_aside(store: Store, keys: Iterable[str], date: str) -> int:
    """Move objects into the quarantine of `date`; returns how many. The trees of folders go first, and come last."""
    ordered = sorted(keys, key=_is_tree)
    in_threads(lambda key: _copy(store, key, f"{QUARANTINE}/{date}/{key}"), ordered, NUM_THREADS)
    for is_tree in (True, False):
        in_threads(store.delete, [key for key in ordered if _is_tree(key) == is_tree], NUM_THREADS)
    return len(ordered)


def bring_back(home: Path, store: Store, date: str) -> tuple[int, int]:
    """Everything that was set aside on `date`, where nothing else is now; returns objects and files.

    Raises CollectError for a date that has no quarantine.
    """
    known = dates(home, store)
    if date not in known:
        raise CollectError(
            f"--restore {date}: expected a date with a quarantine, got none; there are: {known or 'none'}"
        )
    start = f"{QUARANTINE}/{date}/"
    keys = sorted((found.key for found in store.list(start.rstrip("/"))), key=_is_tree)
    missing = [key for key in keys if not store.exists(key.removeprefix(start))]
    for is_tree in (False, True):
        some = [key for key in missing if _is_tree(key) == is_tree]
        in_threads(lambda key: _copy(store, key, key.removeprefix(start)), some, NUM_THREADS)
    in_threads(store.delete, keys, NUM_THREADS)
    return len(missing), _files_back(home, home / QUARANTINE / date)


def reclaim(store: Store, is_needed: Callable[[str], bool]) -> int:
    """Bring back what was set aside and is needed after all: a version can be registered while it was collected."""
    keys = []
    for found in store.list(QUARANTINE):
        key = found.key.split("/", 2)[2]
        if is_needed(key) and not store.exists(key):
            keys.append(found.key)
    for is_tree in (False, True):
        some = [key for key in keys if _is_tree(key) == is_tree]
        in_threads(lambda key: _copy(store, key, key.split("/", 2)[2]), some, NUM_THREADS)
    return len(keys)


def move_aside(home: Path, paths: Iterable[Path], date: str) -> int:
    """Move files and folders below HOME into its quarantine by renaming; returns how many."""
    num = 0
    for path in paths:
        target = home / QUARANTINE / date / path.relative_to(home)
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        path.rename(target)
        num += 1
    return num


def dates(home: Path, store: Store) -> list[str]:
    """The dates of what is in quarantine, oldest first."""
    found = {one.key.split("/")[1] for one in store.list(QUARANTINE)}
    return sorted(found | {path.name for path in (home / QUARANTINE).glob("????-??-??")})


def purge(home: Path, store: Store, now: datetime, days: int) -> list[str]:
    """Remove for good what was set aside more than `days` ago; returns the dates."""
    limit = f"{now.astimezone(UTC) - timedelta(days=days):%Y-%m-%d}"
    gone = [date for date in dates(home, store) if date < limit]
    for date in gone:
        in_threads(store.delete, [one.key for one in store.list(f"{QUARANTINE}/{date}")], NUM_THREADS)
        shutil.rmtree(home / QUARANTINE / date, ignore_errors=True)
    return gone


def _is_tree(key: str) -> bool:
    return key.endswith(f"/{TREE}")


def _copy(store: Store, key: str, target: str) -> None:
    with TemporaryDirectory() as scratch:
        store.put(target, store.get(key, Path(scratch) / "object"))


def _files_back(home: Path, folder: Path) -> int:
    """Each folder or file that was moved as one goes back where nothing has taken its place."""
    num = 0
    for path in sorted(folder.rglob("*")):
        target = home / path.relative_to(folder)
        if path.exists() and not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            path.rename(target)
            num += 1
    shutil.rmtree(folder, ignore_errors=True)
    return num
