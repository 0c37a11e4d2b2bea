"""A parcel that is not the one released is never served, and the process says why."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from infra.settings import ServiceSettings
from services.host import Host

OPEN = ServiceSettings(signatures="off")


def tamper_model(folder: Path) -> None:
    model = bytearray((folder / "parcel" / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (folder / "parcel" / "model.onnx").write_bytes(model)


def tamper_manifest(folder: Path) -> None:
    path = folder / "parcel" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "max_batch": 100_000}))


def tamper_golden(folder: Path) -> None:
    path = folder / "parcel" / "golden.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tolerance": 1e9}))


def swap_release(folder: Path) -> None:
    path = folder / "release.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "parcel_digest": "0" * 64}))


def add_file(folder: Path) -> None:
    (folder / "parcel" / "extra.bin").write_bytes(b"x")


def remove_model(folder: Path) -> None:
    (folder / "parcel" / "model.onnx").unlink()


@pytest.mark.parametrize("damage", [tamper_model, tamper_manifest, tamper_golden, swap_release, add_file, remove_model])
def test_a_damaged_parcel_is_never_served(served_folder: Callable[[str], Path], damage: Callable[[Path], Any]) -> None:
    folder = served_folder("forecast")
    damage(folder)
    host = Host(folder, OPEN)
    host.load()
    assert host.served is None and host.reason


def test_a_sound_parcel_is_served(served_folder: Callable[[str], Path], window: dict[str, Any]) -> None:
    host = Host(served_folder("forecast"), OPEN)
    assert host.served is None and "not loaded yet" in host.reason
    host.load()
    assert host.served is not None and host.reason == ""
    body, num_rows = host.served.predict(json.dumps({"data": [window]}).encode(), "id-1")
    assert num_rows == 1 and json.loads(body)["prediction_id"] == "id-1"
