"""What is live, as a Bento, as a running service, and as one answered request."""

import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from flows import console
from flows.access import keys_file
from flows.capture import spool_folder
from flows.live import live_model, live_products, parcel_folder
from flows.local_key import key_header
from flows.options import UsageError
from flows.plan import service_plan, taken_along
from flows.steps import fetch_folder
from flows.trust import own_key, signed, signed_content
from flows.workshop import Workshop
from infra import settings as environment
from infra.atomic import exclusive, write_atomic
from infra.ledger import Entry
from infra.promotion import REGISTER, entry_ref
from infra.refs import BentoRef, ModelRef
from infra.settings import ServiceSettings
from infra.signing import trusted_public_keys
from models.artifact import wire
from models.artifact.manifest import Manifest, read_and_verify
from models.artifact.predictor import Predictor
from models.artifact.samples import build_sample
from models.artifact.signature import key_id
from models.data.examples import ExampleSamples
from models.data.snapshot import Snapshot, read_snapshot
from services.bento import Beside, Model, build, release_bytes, serve_command, serve_environment
from services.schemas import Release

__all__ = ["answer", "live_model", "live_products", "package_live", "parcel_folder", "serve_live", "serving"]

NUM_SHOWN = 8
GRPC_STEP, LAST_PORT = 1000, 65535


def package_live(shop: Workshop, product: str) -> BentoRef:
    """The Bento of the live version, signed, built once. Raises UsageError, ParcelError, BentoError."""
    return package_version(shop, live_model(shop, product))


def package_version(shop: Workshop, version: ModelRef) -> BentoRef:
    """The Bento of a registered version. Raises UsageError, ParcelError, BentoError."""
    plan = service_plan(shop, version).model_dump_json(indent=2).encode()
    public_key = own_key(shop).public
    beside = Beside(
        trust={key_id(public_key)[:16]: public_key},
        models=tuple(
            signed_model(shop, further) for further in taken_along(shop, version.product) if further != version
        ),
        plan=plan,
        plan_signature=signed_content(shop, plan),
    )
    with exclusive(shop.home / "bentoml" / ".package.lock"):  # BentoML refuses a Bento that another process just made
        tag, path = build(signed_model(shop, version, sha256(plan).hexdigest()), shop.home / "bentoml", beside)
    return BentoRef(product=version.product, version=version.version, tag=tag, path=str(path))


def signed_model(shop: Workshop, version: ModelRef, plan_digest: str = "") -> Model:
    """A registered version as it goes into a Bento: parcel and release record, both signed."""
    folder = parcel_folder(shop, version.digest)
    release = release_of(shop, version, read_and_verify(folder)).model_copy(update={"plan_digest": plan_digest})
    signature, _ = signed(shop, folder, version.digest)
    return Model(folder, release, signature, signed_content(shop, release_bytes(release)))


def release_of(shop: Workshop, version: ModelRef, manifest: Manifest) -> Release:
    """Where a registered version comes from, as its service says it."""
    registered = registration(shop, version)
    return Release(
        product=version.product,
        version=version.version,
        run_id=registered.details["run_id"],
        data_hash=manifest.data_digest,
        code_commit=manifest.code_commit,
        evidence_digest=registered.details["evidence"],
        parcel_digest=version.digest,
    )


def registration(shop: Workshop, version: ModelRef) -> Entry:
    """The ledger's entry about the registration of this version; raises UsageError when there is none."""
    entries = shop.ledger.entries(version.product)
    found = [one for one in entries if one.action == REGISTER and entry_ref(one) == version]
    if not found:
        raise UsageError(f"{version.product} version {version.version}: expected it in the ledger, got no registration")
    return found[-1]


def serving(
    shop: Workshop, bento: BentoRef, host: str, port: int, grpc_port: int | None = None, *, is_open: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Command and environment of the service; `is_open` asks nobody for a key, which it does on loopback only."""
    path = Path(bento.path)
    extra = {**environment.environment(shop.config), **service_variables(shop, bento.product, is_open=is_open)}
    return serve_command(path, host, port, grpc_port), serve_environment(extra, path, shop.home / "bentoml")


def grpc_port_above(port: int) -> int:
    """The gRPC port that goes with an HTTP port: 1000 above it. Raises UsageError where there is none."""
    if port + GRPC_STEP > LAST_PORT:
        raise UsageError(f"port {port}: expected at most {LAST_PORT - GRPC_STEP}, gRPC listens {GRPC_STEP} above it")
    return port + GRPC_STEP


def service_variables(shop: Workshop, product: str, *, is_open: bool = False) -> dict[str, str]:
    """ROADWORTHY_SERVE_… of a service on this machine, where whoever starts it has not set them: keys, trust, audit."""
    wanted = {
        "keys_file": keys_file(shop.home),
        "trusted_keys": published_trust(shop),
        "audit_file": shop.home / "audit" / f"{product}.jsonl",
        "capture_folder": spool_folder(shop, product),
    }
    given = ServiceSettings().model_fields_set
    variables = {f"ROADWORTHY_SERVE_{name.upper()}": str(path) for name, path in wanted.items() if name not in given}
    return {**variables, "ROADWORTHY_SERVE_AUTH": "off"} if is_open else variables


def published_trust(shop: Workshop) -> Path:
    """A folder with the public keys that this home believes, and with nothing else: a service may read all of it."""
    folder = shop.home / "run" / "trust"
    for public_key in trusted_public_keys(shop.home):
        path = folder / f"{key_id(public_key)[:16]}.pem"
        if not path.exists():
            write_atomic(path, public_key)
    return folder


def serve_live(
    shop: Workshop,
    product: str,
    host: str | None,
    port: int | None,
    grpc_port: int | None = None,
    *,
    is_open: bool = False,
    as_json: bool = False,
) -> int:
    """Become the service of what is live; returns only when it could not start."""
    bento = package_live(shop, product)
    host, port = host or shop.config.host, port or shop.config.serve_port
    grpc_port = grpc_port or grpc_port_above(port)
    argv, extra = serving(shop, bento, host, port, grpc_port, is_open=is_open)
    url = f"{'https' if ServiceSettings().tls_cert else 'http'}://{host}:{port}"
    if as_json:
        console.emit({**bento.model_dump(), "url": url, "grpc": f"{host}:{grpc_port}"})
        sys.stdout.flush()
    console.say(f"{product} version {bento.version} on {url}, gRPC on port {grpc_port} (Ctrl-C ends it)")
    os.execve(argv[0], argv, environment.child_environment(shop.config, **extra))  # noqa: S606 - a fixed command


def answer(
    shop: Workshop, product: str, file: Path | None = None, url: str = "", *, send_key: bool = False
) -> dict[str, Any]:
    """One answered request; without `file` the last held-back window, with what really happened beside it.

    This home's own key goes to a `url` on this machine, to others only with `send_key`.
    """
    live = live_model(shop, product)
    folder = parcel_folder(shop, live.digest)
    example = None if file else last_window(shop, folder)
    body = _read(file) if file else json.dumps(example["request"]).encode() if example else b""
    record = _ask(url, body, key_header(shop, url, asked=send_key)) if url else _answer_here(folder, live, body)
    return {"product": product, **record, **(_beside(example, record) if example else {})}


def last_window(shop: Workshop, folder: Path) -> dict[str, Any]:
    """The last sample of the held-back test split as a request, and the truth."""
    manifest = read_and_verify(folder)
    snapshot = snapshot_of(shop, manifest.data_digest)
    samples = snapshot.samples("test")
    index = np.array([len(samples) - 1])
    batch = samples.take(index)
    if isinstance(samples, ExampleSamples):
        known = batch.target_mask[0] > 0
        truth = np.where(known, batch.target[0].astype(float), np.nan)
        return {"request": build_sample(samples.examples.specs, batch.inputs), "truth": truth.tolist()}
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


def _ask(url: str, body: bytes, key: Mapping[str, str]) -> dict[str, Any]:
    headers = {"content-type": "application/json", **key}
    try:
        response = httpx.post(f"{url.rstrip('/')}/predict", content=body, headers=headers, timeout=30)
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
