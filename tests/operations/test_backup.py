"""The running services profile is backed up, sealed and drilled: a home beside it, on its own servers, is the same."""

import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from infra.backup_blobs import PACKED
from tests.operations.conftest import Operations

pytestmark = pytest.mark.services


def test_the_running_home_is_restored_beside_itself_to_the_same_ids_and_answers(
    operations: Operations, tmp_path: Path
) -> None:
    place = str(tmp_path / "vault")
    plain = operations.ask("backup", "--to", place)
    assert plain["profile"] == "services"
    assert "keys/services.json" in plain["lacks"]
    secrets = json.loads((operations.home / "keys" / "services.json").read_text())
    stored = [_unpacked(path.read_bytes()) for path in Path(place).rglob("*") if path.is_file()]
    assert any(b"PGDMP" in one for one in stored)
    for name, secret in secrets.items():
        assert not any(secret.encode() in one for one in stored), name
    sealed = operations.ask("backup", "--to", place, "--encrypt")
    assert (sealed["encrypted"], sealed["lacks"]) == (True, [])
    drilled = operations.ask("drill", "--to", place)
    assert (drilled["id"], drilled["ok"]) == (sealed["id"], True)
    ids = {row["ids"]: row for row in drilled["ids"]}
    assert all(row["then"] == row["now"] for row in ids.values())
    assert min(ids[kind]["now"] for kind in ("experiments", "runs", "versions", "deployments")) > 0
    assert [(row["product"], row["verdict"]) for row in drilled["golden"]] == [("ring", "equal")]
    assert not (operations.home / "cache" / "drill").exists()
    _check_facts(operations, drilled)


def _unpacked(stored: bytes) -> bytes:
    return zlib.decompress(stored[1:]) if stored[:1] == PACKED else stored


def _check_facts(operations: Operations, drilled: dict[str, Any]) -> None:
    facts = {name: json.loads((operations.home / "ops" / f"{name}.json").read_text()) for name in ("backup", "drill")}
    assert facts["drill"]["id"] == facts["backup"]["id"] == drilled["id"]
    assert all(one["ok"] and one["time"] for one in facts.values())
