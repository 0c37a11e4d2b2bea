"""A home with versions of a tiny product, really registered, and clients that ask it without a break."""

import asyncio
import json
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import numpy as np
import onnx
from onnx import numpy_helper

from flows.roll_out import Plan
from flows.workshop import Workshop
from infra.ports import free_ports
from infra.promotion import Evidence
from infra.settings import Settings
from models.artifact import wire
from models.artifact.manifest import hash_files, read_and_verify, write_manifest
from models.artifact.predictor import open_session
from tests.services.conftest import make_parcel, make_window

QUICK = Plan(shadow_s=0.3, canary=(50.0, 100.0), dwell_s=0.5, min_requests=5, max_latency_ratio=100.0)


class Variant(NamedTuple):
    """A version beside the first: its weights, and its golden answer, multiplied; and what its gates said."""

    factor: float
    golden_factor: float = 1.0
    passed: bool = True


LIKE, OTHER, FAILED, LIAR = Variant(1.01), Variant(3.0), Variant(1.02, passed=False), Variant(1.0, golden_factor=2.0)


def tiny_home(home: Path, *variants: Variant) -> Workshop:
    """Version 1 is live, the variants are registered after it."""
    shop = Workshop(Settings(home=home, serve_port=free_ports(1)[0]))
    first = home / "parcels" / "1"
    digests = [make_parcel(first, "forecast")]
    for version, one in enumerate(variants, 2):
        digests.append(other_parcel(first, home / "parcels" / str(version), one.factor, one.golden_factor))
    for version, (digest, one) in enumerate(zip(digests, (Variant(1.0), *variants), strict=True), 1):
        shop.store.put_folder(f"parcels/{digest}", home / "parcels" / str(version))
        evidence = Evidence(f"e{version}", one.passed, () if one.passed else ("too slow",))
        run = f"{version:032x}"
        ref = shop.registry.register("tiny", digest=digest, source=f"runs:/{run}/parcel", run_id=run, evidence=evidence)
        if version == 1:
            shop.registry.promote(ref, evidence.digest)
    return shop


def other_parcel(source: Path, folder: Path, factor: float, golden_factor: float = 1.0) -> str:
    """The same parcel with its weights multiplied; returns its digest. Any `golden_factor` but 1 makes it a liar."""
    shutil.copytree(source, folder)
    model = onnx.load(folder / "model.onnx")
    (weights,) = (one for one in model.graph.initializer if one.name == "weights")
    weights.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weights) * factor).astype(np.float32), "weights"))
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    manifest = read_and_verify(source)
    golden = json.loads((folder / "golden.json").read_bytes())
    request = wire.parse_request(manifest, json.dumps(golden["request"]).encode())
    outputs = open_session(content).run(None, request.inputs)[0]
    golden["predictions"] = wire.answer(manifest, outputs * golden_factor, request.is_list)["predictions"]
    (folder / "golden.json").write_text(json.dumps(golden, default=np.ndarray.tolist))
    return write_manifest(folder, manifest.model_copy(update={"files": hash_files(folder)}))


@contextmanager
def load(url: str) -> Iterator[Counter[Any]]:
    """Clients that ask without a break; every answer must be a prediction. Yields what came: (status, model)."""
    seen: Counter[Any] = Counter()
    over = threading.Event()

    async def ask(session: aiohttp.ClientSession) -> None:
        while not over.is_set():
            async with session.post(f"{url}/predict", json={"data": make_window()}) as answer:
                seen[answer.status, (await answer.json()).get("model_version")] += 1
            await asyncio.sleep(0.01)

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(4)))

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        until(lambda: seen.total() > 20)
        yield seen
    finally:
        over.set()
        thread.join()
    assert {status for status, _ in seen} == {200}, seen


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)
