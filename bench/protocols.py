"""The same input over our three protocols: JSON, binary Open Inference Protocol, gRPC.

100 kB of it, with the student of the contest and with the linear baseline, whose graph is cheap enough to show the
protocols; and a batch of 64 against the ONNX graph alone.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from bench.contestants import Model, Running
from models.artifact import wire
from models.artifact.manifest import Manifest, read_and_verify

TENSOR_BYTES = 100_000
CLIENTS = 4
BATCH = 64


def compare_protocols(ours: Running, model: Model, seconds: float, rounds: int) -> dict[str, Any]:
    """Requests a second of each with 100 kB, and binary and gRPC over JSON, paired by round."""
    manifest = read_and_verify(model.parcel)
    row_bytes = 4 * manifest.past_steps * len(manifest.nodes) * len(manifest.channels)
    found = [_rates(ours, model, manifest, TENSOR_BYTES // row_bytes, seconds) for _ in range(rounds)]
    return {
        "requests_per_s": {name: round(median(each[name] for each in found), 1) for name in found[0]},
        "v2_binary_over_json": round(median(each["v2_binary"] / each["json"] for each in found), 3),
        "grpc_over_json": round(median(each["grpc"] / each["json"] for each in found), 3),
    }


def share_of_limit(
    ours: Running, model: Model, limit: Callable[[Model, int, float], float], seconds: float, rounds: int
) -> dict[str, float]:
    """Rows a second in batches of 64 as a share of the graph's alone, by protocol, paired by round."""
    manifest = read_and_verify(model.parcel)
    found = []
    for _ in range(rounds):
        rows_per_s = limit(model, BATCH, seconds)
        rates = _rates(ours, model, manifest, BATCH, seconds)
        found.append({name: BATCH * rate / rows_per_s for name, rate in rates.items()})
    return {name: round(median(each[name] for each in found), 3) for name in found[0]}


def _rates(ours: Running, model: Model, manifest: Manifest, rows: int, seconds: float) -> dict[str, float]:
    folder = model.folder / "bodies"
    folder.mkdir(parents=True, exist_ok=True)
    json_body, http_body, header_bytes, grpc_body = bodies(manifest, model, rows)
    for name, content in (("json", json_body), ("v2", http_body), ("grpc", grpc_body)):
        (folder / f"protocol.{name}").write_bytes(content)
    infer = f"{ours.url.rpartition('/')[0]}/v2/models/{manifest.product}/infer"
    binary = ["Content-Type: application/octet-stream", f"Inference-Header-Content-Length: {header_bytes}"]
    return {
        "json": _http(ours.url, folder / "protocol.json", seconds),
        "v2_binary": _http(infer, folder / "protocol.v2", seconds, *binary),
        "grpc": _grpc(f"127.0.0.1:{ours.grpc_port}", folder / "protocol.grpc", seconds),
    }


def _http(url: str, body: Path, seconds: float, *headers: str) -> float:
    more = [word for one in headers for word in ("--header", one)]
    return _rate(["bench.load", "--url", url, "--body", str(body), *more], seconds)


def _grpc(address: str, body: Path, seconds: float) -> float:
    return _rate(["bench.load_grpc", "--address", address, "--body", str(body)], seconds)


def _rate(command: list[str], seconds: float) -> float:
    whole = [sys.executable, "-m", *command, "--clients", str(CLIENTS), "--seconds", str(seconds)]
    done = subprocess.run(whole, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    if set(found.get("statuses", {"200": 1})) != {"200"}:
        raise RuntimeError(f"{command}: expected answers only, got {found['statuses']}")
    return float(found["requests_per_s"])


def bodies(manifest: Manifest, model: Model, rows: int) -> tuple[bytes, bytes, int, bytes]:
    """JSON body, binary v2 body with the length of its JSON part, serialised ModelInferRequest."""
    from services.inference_pb2 import ModelInferRequest

    body = json.dumps({"data": [model.windows[index % len(model.windows)] for index in range(rows)]}).encode()
    inputs = wire.parse_request(manifest, body).inputs
    tensors = {name: np.ascontiguousarray(inputs[name]) for name in ("x", "clock")}
    kinds = {"x": "FP32", "clock": "INT64"}
    described = [
        {
            "name": name, "datatype": kinds[name], "shape": list(array.shape),
            "parameters": {"binary_data_size": array.nbytes},
        }
        for name, array in tensors.items()
    ]  # fmt: skip
    head = json.dumps({"inputs": described, "parameters": {"binary_data_output": True}}).encode()
    request = ModelInferRequest(model_name=manifest.product)
    for name, array in tensors.items():
        request.inputs.add(name=name, datatype=kinds[name], shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    blobs = b"".join(array.tobytes() for array in tensors.values())
    return body, head + blobs, len(head), request.SerializeToString()
