"""What is live, as a Bento, as a running service, and as one answered request."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from flows import console
from flows.options import UsageError
from flows.steps import fetch_folder
from flows.workshop import Workshop
from infra import settings as environment
from infra.promotion import REGISTER, entry_ref, standing
from infra.refs import BentoRef, ModelRef
from models.artifact import wire
from models.artifact.manifest import read_and_verify
from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot, read_snapshot
from services.bento import build, serve_command, serve_environment
from services.schemas import Release

NUM_SHOWN = 8


def live_products(shop: Workshop) -> list[str]:
    """The names of all products that have a live version."""
    names = {entry.product for entry in shop.ledger.entries()}
    return sorted(name for name in names if name and standing(shop.ledger.entries(name)).live)


def live_model(shop: Workshop, product: str) -> ModelRef:
    """The live version, from the ledger; raises UsageError when there is none."""
    live = standing(shop.ledger.entries(product)).live
    if live is None:
        known = ", ".join(live_products(shop)) or "none"
        raise UsageError(f"product '{product}': nothing is live; live products: {known}")
    return live


def parcel_folder(shop: Workshop, digest: str) -> Path:
    """The parcel, fetched from the object store when it is not here."""
    return fetch_folder(shop, f"parcels/{digest}")


def package_live(shop: Workshop, product: str) -> BentoRef:
    """The Bento of the live version, built once. Raises UsageError, ParcelError, BentoError."""
    live = live_model(shop, product)
    folder = parcel_folder(shop, live.digest)
    manifest = read_and_verify(folder)
    registered = [e for e in shop.ledger.entries(product) if e.action == REGISTER and entry_ref(e) == live][-1]
    release = Release(
        product=product,
        version=live.version,
        run_id=registered.details["run_id"],
        data_hash=manifest.data_digest,
        code_commit=manifest.code_commit,
        evidence_digest=registered.details["evidence"],
        parcel_digest=live.digest,
    )
    tag, path = build(folder, release, shop.home / "bentoml")
    return BentoRef(product=product, version=live.version, tag=tag, path=str(path))


def serving(shop: Workshop, bento: BentoRef, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the service."""
    home = shop.home / "bentoml"
    return serve_command(Path(bento.path), host, port), serve_environment(environment.environment(shop.config), home)


def serve_live(shop: Workshop, product: str, host: str | None, port: int | None, *, as_json: bool = False) -> int:
    """Become the service of what is live; returns only when it could not start."""
    bento = package_live(shop, product)
    host, port = host or shop.config.host, port or shop.config.serve_port
    argv, extra = serving(shop, bento, host, port)
    if as_json:
        console.emit({**bento.model_dump(), "url": f"http://{host}:{port}"})
        sys.stdout.flush()
    console.say(f"{product} version {bento.version} on http://{host}:{port} (Ctrl-C ends it)")
    os.execve(argv[0], argv, environment.child_environment(shop.config, **extra))  # noqa: S606 - a fixed command


def answer(shop: Workshop, product: str, file: Path | None = None, url: str = "") -> dict[str, Any]:
    """One answered request; without `file` the last held-back window, with what really happened beside it."""
    live = live_model(shop, product)
    folder = parcel_folder(shop, live.digest)
    example = None if file else last_window(shop, folder)
    body = _read(file) if file else json.dumps(example["request"]).encode() if example else b""
    record = _ask(url, body) if url else _answer_here(folder, live, body)
    return {"product": product, **record, **(_beside(example, record) if example else {})}


def last_window(shop: Workshop, folder: Path) -> dict[str, Any]:
    """The last sample of the held-back test split as a request, and the truth."""
    manifest = read_and_verify(folder)
    snapshot = snapshot_of(shop, manifest.data_digest)
    samples = snapshot.samples("test")
    index = np.array([len(samples) - 1])
    batch = samples.take(index)
    if manifest.task == "classify":
        request = wire.build_request(batch.inputs["x"][0])
        return {"request": request, "truth": manifest.classes[int(batch.target[0])]}
    time = snapshot.windows("test").times(index)[0]
    request = wire.build_request(batch.inputs["x"][0], batch.inputs["mask"][0], time)
    truth = np.where(batch.target_mask[0] > 0, batch.target[0].astype(float), np.nan)
    return {"request": request, "truth": truth, "time": str(time)[:16], "step": manifest.judged_step or 1}


def snapshot_of(shop: Workshop, digest: str) -> Snapshot:
    """The snapshot with this digest, from the object store."""
    address = shop.store.get_bytes(f"snapshots/{digest}").decode()
    return read_snapshot(fetch_folder(shop, address))


def _answer_here(folder: Path, live: ModelRef, body: bytes) -> dict[str, Any]:
    predictor = Predictor.open(folder)
    request = wire.parse_request(predictor.manifest, body)
    answered = wire.answer(predictor.manifest, predictor.predict(request.inputs), request.is_list)
    stamp = f"local-{datetime.now(UTC):%Y%m%dT%H%M%S%f}"
    return {**answered, "model_version": f"{live.product}/{live.version}", "prediction_id": stamp}


def _ask(url: str, body: bytes) -> dict[str, Any]:
    try:
        response = httpx.post(
            f"{url.rstrip('/')}/predict", content=body, headers={"content-type": "application/json"}, timeout=30
        )
    except httpx.TransportError as error:
        raise UsageError(f"{url}: expected a running service, got {error}; start one: roadworthy serve") from error
    record: dict[str, Any] = response.json()
    if response.status_code != httpx.codes.OK:
        raise UsageError(f"{url} answered {response.status_code}: {json.dumps(record)}")
    return record


def _read(file: Path) -> bytes:
    if str(file) == "-":
        return sys.stdin.buffer.read()
    if not file.is_file():
        raise UsageError(f'--input {file}: expected a file with {{"data": …}}, got none')
    return file.read_bytes()


def _beside(example: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, Any]:
    if "time" not in example:
        return {"truth": example["truth"]}
    step = example["step"] - 1
    forecast, truth = record["predictions"][step], example["truth"][step]
    rows = [
        [node, value, None if np.isnan(actual) else round(float(actual), 3)]
        for node, value, actual in zip(record["nodes"], forecast, truth, strict=True)
    ]
    title = f"{record['horizon_min'][step]:g} min after {example['time']}, a held-back moment"
    return {"title": title, "columns": ["node", "forecast", "actual"], "rows": rows[:NUM_SHOWN]}
