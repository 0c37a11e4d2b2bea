"""A step is computed once: its key names all that goes in, its folder holds what comes out.

The folder is built under HOME/work and copied to the object store as a whole, so after a `kill -9` a step is
either whole or goes on from its checkpoint, and a second machine on the same store computes nothing again.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

from flows.workshop import Workshop
from infra.atomic import write_atomic

MARKER = "step.json"


@dataclass(frozen=True)
class Done:
    """A finished step: where its files are, what it noted, how long it took when it was computed."""

    step: str
    key: str
    folder: Path
    notes: dict[str, Any]
    seconds: float
    was_cached: bool

    @property
    def address(self) -> str:
        """Its prefix in the object store."""
        return f"steps/{self.step}/{self.key}"


def key_of(*parts: object) -> str:
    """SHA-256 over the canonical JSON of what goes into a step, 32 hex digits."""
    text = json.dumps(parts, sort_keys=True, default=str, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def once(shop: Workshop, step: str, key: str, build: Callable[[Path], dict[str, Any]]) -> Done:
    """The step's folder, built by `build(folder) -> notes` unless it is already there or in the store.

    Two processes that want the same step wait for each other; `build` finds what an interrupted one left behind.
    """
    folder = shop.home / "work" / step / key
    if (found := _read(step, key, folder)) is not None:
        return found
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        if (found := _read(step, key, folder)) is not None:
            return found
        address = f"steps/{step}/{key}"
        if shop.store.has_folder(address):
            shutil.rmtree(folder)
            shop.store.get_folder(address, folder)
            return _required(step, key, folder)
        began = time.perf_counter()
        notes = build(folder)
        seconds = round(time.perf_counter() - began, 3)
        record = {"seconds": seconds, "notes": notes}
        write_atomic(folder / MARKER, json.dumps(record, sort_keys=True, indent=1).encode())
        shop.store.put_folder(address, folder)
        return Done(step, key, folder, notes, seconds, was_cached=False)


def fetch_folder(shop: Workshop, address: str) -> Path:
    """A whole folder of the object store, by its address; fetched when it is not here, verified either way."""
    return shop.store.get_folder(address, shop.home / "cache" / "store" / address)


def forget(shop: Workshop, done: Done) -> None:
    """Remove a step here and in the store, so that it is computed again."""
    shutil.rmtree(done.folder, ignore_errors=True)
    shop.store.delete_folder(done.address)


def _read(step: str, key: str, folder: Path) -> Done | None:
    if not (folder / MARKER).exists():
        return None
    record = json.loads((folder / MARKER).read_text())
    return Done(step, key, folder, record["notes"], record["seconds"], was_cached=True)


def _required(step: str, key: str, folder: Path) -> Done:
    found = _read(step, key, folder)
    if found is None:
        raise FileNotFoundError(f"step {step}/{key}: the store holds its marker but {folder} has none")
    return found
