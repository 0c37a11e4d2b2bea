"""Asks what is live for ways over its road network: a service, or the parcel here."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from flows.live import live_model, parcel_folder
from flows.local_key import key_header
from flows.options import UsageError
from flows.package import last_window
from flows.workshop import Workshop
from infra.refs import ModelRef
from models.artifact import wire
from models.artifact.predictor import Predictor


@dataclass(frozen=True)
class Wish:
    """From where to where, when ("08:15"; empty: now, at the end of what was seen), and how many ways besides."""

    source: str
    target: str
    depart: str = ""
    num_alternatives: int = 0


def find_ways(
    shop: Workshop, product: str, wish: Wish, file: Path | None = None, url: str = "", *, send_key: bool = False
) -> dict[str, Any]:
    """The quickest way and its alternatives; without `file` in the last held-back state of the network.

    The record is that of `POST /route`. Raises UsageError for a product without a network and for what cannot be
    routed.
    """
    live = live_model(shop, product)
    folder = parcel_folder(shop, live.digest)
    request = _read(file) if file else last_window(shop, folder)["request"]
    if url:
        return {"product": product, **_ask(url, request, wish, key_header(shop, url, asked=send_key))}
    return {"product": product, **_find_here(folder, live, request, wish)}


def _find_here(folder: Path, live: ModelRef, request: Mapping[str, Any], wish: Wish) -> dict[str, Any]:
    from models.artifact import routing

    predictor = Predictor.open(folder)
    manifest = predictor.manifest
    if manifest.network is None:
        raise UsageError(
            f"product '{live.product}': expected one that plans routes, got one of the task {manifest.task}"
        )
    inputs = wire.parse_request(manifest, json.dumps(request).encode()).inputs
    times_s, slot_s = predictor.predict(inputs)[0], manifest.cadence_min * 60  # [H, E]
    try:
        depart_s = 0.0
        if wish.depart:
            depart_s = routing.depart_after(int(np.ravel(inputs["slot"])[0]), slot_s, len(times_s), wish.depart)
        graph = routing.open_network(manifest.network)
        best, *others = routing.ways(graph, times_s, slot_s, wish.source, wish.target, depart_s, wish.num_alternatives)
    except routing.RoutingError as error:
        raise UsageError(str(error)) from error
    alternatives = [asdict(way) for way in others]
    version = f"{live.product}/{live.version}"
    return {**asdict(best), "alternatives": alternatives, "depart_s": depart_s, "model_version": version}


def _ask(url: str, request: Mapping[str, Any], wish: Wish, key: Mapping[str, str]) -> dict[str, Any]:
    body = {**request, "from": wish.source, "to": wish.target, "alternatives": wish.num_alternatives}
    if wish.depart:
        body["depart"] = wish.depart
    try:
        response = httpx.post(f"{url.rstrip('/')}/route", json=body, headers=dict(key), timeout=30)
    except httpx.TransportError as error:
        raise UsageError(f"{url}: expected a running service, got {error}; start one: roadworthy serve") from error
    record: dict[str, Any] = response.json()
    if response.status_code != httpx.codes.OK:
        raise UsageError(f"{url} answered {response.status_code}: {json.dumps(record)}")
    return record


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UsageError(f'--input {file}: expected a file with {{"data": …}}, got none')
    try:
        request = json.loads(file.read_bytes())
    except ValueError as error:
        raise UsageError(f'--input {file}: expected JSON with {{"data": …}}, got {error}') from error
    if not isinstance(request, dict):
        raise UsageError(f'--input {file}: expected {{"data": …}}, got {type(request).__name__}')
    return request
