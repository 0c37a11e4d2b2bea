"""The drill: is the newest backup one that a home can be made of?

It is restored into a home beside this one, by the same command that an operator would type and without any setting of
this home, so that neither its servers nor its store are touched. What is equal is recorded, and the copy is removed.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from flows.backup_place import OWN_KEY, note, open_place
from flows.package import published_trust
from flows.workshop import Workshop
from infra.backup import BackupError
from infra.settings import Settings
from infra.stack import Stack
from infra.storage import StorageError

RESTORE = "restore"
KEPT = ("home", "device")
S3_SETTINGS = ("s3_endpoint", "s3_region", "s3_access_key", "s3_secret_key", "s3_checksums")
LIMIT_S = 1800.0


def run_drill(shop: Workshop, to: str = "", key_file: Path | None = None) -> dict[str, Any]:
    """Restore the newest backup beside this home and compare; the record, also in HOME/ops/drill.json.

    Raises BackupError when it cannot be restored, or is not the same.
    """
    began = time.perf_counter()
    home = shop.home / "cache" / "drill" / "home"
    _remove(home)
    home.parent.mkdir(parents=True)
    try:
        place = open_place(shop.config, to)
        record = _restored(shop, home, place.store.uri, key_file)
    except (BackupError, StorageError) as error:
        note(shop.config, "drill", ok=False, error=str(error), seconds=_since(began))
        raise
    finally:
        _remove(home)
    keys = ("id", "place", "ids", "golden", "files", "objects")
    return note(shop.config, "drill", ok=True, seconds=_since(began), **{key: record[key] for key in keys})


def _remove(home: Path) -> None:
    """The copy, and the servers of a restore that died."""
    if (home / "run").exists():
        Stack(Settings.model_construct(home=home)).down()
    shutil.rmtree(home.parent, ignore_errors=True)


def _restored(shop: Workshop, home: Path, place: str, key_file: Path | None) -> dict[str, Any]:
    """What the command said. Raises BackupError with its message."""
    own = shop.home / OWN_KEY
    key = key_file or shop.config.backup_key_file or (own if own.exists() else None)
    words = [place, "--free-ports", "--trusted", str(published_trust(shop)), *(["--key-file", str(key)] if key else [])]
    command = [*_without_settings(shop.config), f"ROADWORTHY_HOME={home}", *_roadworthy(), RESTORE, *words, "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S)
        record: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise BackupError(f"restore of {place}: expected an end within {LIMIT_S:.0f} s, got none") from None
    except json.JSONDecodeError:
        raise BackupError(f"restore of {place} ended with status {done.returncode}: {done.stderr[-800:]}") from None
    if done.returncode:
        raise BackupError(f"the newest backup in {place} cannot be restored: {record.get('message', record)}")
    return record


def _without_settings(config: Settings) -> list[str]:
    """`env` without the settings of this home, but those by which its backups are reached."""
    reached = S3_SETTINGS if not config.is_services else ()
    own = [name for name in Settings.model_fields if not name.startswith("backup_") and name not in (*KEPT, *reached)]
    return ["/usr/bin/env", *(word for name in own for word in ("-u", f"ROADWORTHY_{name.upper()}"))]


def _roadworthy() -> list[str]:
    return [str(Path(sys.executable).with_name("roadworthy"))]


def _since(began: float) -> float:
    return round(time.perf_counter() - began, 3)
