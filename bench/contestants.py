"""Who takes part in `bench.serving`: each as a process, its address, and the body that it wants.

All serve the same student of `forecast/stid` on `freeway`: as torch where a peer serves torch, as its parcel's ONNX
graph where a peer serves ONNX. One worker and one thread of computation each.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

from infra.ports import free_port
from infra.settings import TELEMETRY_OFF

ROOT = Path(__file__).parents[1]
READY_S = 90.0


@dataclass(frozen=True)
class Model:
    """The model of the contest on disk, and real windows to ask with."""

    folder: Path  # of config.json, for the torch peers
    parcel: Path
    release: Path  # what our service serves
    mlflow: Path
    windows: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Contestant:
    """`command` takes ports, the second for gRPC; `body` makes a request of so many rows; `ready` is polled."""

    name: str
    command: Callable[[int, int], Sequence[str]]
    path: str
    body: Callable[[Model, int], Any]
    ready: str
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Running:
    """A started contestant."""

    contestant: Contestant
    url: str
    grpc_port: int
    process: psutil.Process
    seconds_to_ready: float

    def megabytes(self) -> float:
        """Resident memory of its processes, shared pages counted once each (PSS)."""
        family = [self.process, *self.process.children(recursive=True)]
        return sum(one.memory_full_info().pss for one in family) / 1e6


def ours_body(model: Model, rows: int) -> Any:
    """One window, or a list of them."""
    windows = [model.windows[index % len(model.windows)] for index in range(rows)]
    return {"data": windows[0] if rows == 1 else windows}


def list_body(model: Model, rows: int) -> Any:
    """Always a list."""
    return {"data": [model.windows[index % len(model.windows)] for index in range(rows)]}


def mlflow_body(model: Model, rows: int) -> Any:
    """The graph's own inputs, as MLflow's scoring server takes tensors."""
    from models.artifact import wire
    from models.artifact.manifest import read_and_verify

    request = wire.parse_request(read_and_verify(model.parcel), json.dumps(list_body(model, rows)).encode())
    return {"inputs": {name: array.tolist() for name, array in request.inputs.items()}}


def contestants(model: Model, home: Path) -> list[Contestant]:
    """Ours first."""
    python = sys.executable
    torch = {"BENCH_MODEL": str(model.folder)}
    served = model.release
    return [
        Contestant(
            "roadworthy",
            lambda port, grpc_port: [python, "-m", "services.main", "--folder", str(served), "--port", str(port),
                                     "--grpc-port", str(grpc_port), "--open"],
            "/predict", ours_body, "/readyz",
        ),
        Contestant(
            "flask_torch", lambda port, _: [python, "-m", "bench.peers.flask_torch", str(port)],
            "/predict", ours_body, "/", torch,
        ),
        Contestant(
            "fastapi_torch", lambda port, _: [python, "-m", "bench.peers.fastapi_torch", str(port)],
            "/predict", ours_body, "/docs", torch,
        ),
        Contestant(
            "bentoml_documented",
            lambda port, _: [python, "-m", "bentoml", "serve", "bench.peers.bentoml_documented:Documented",
                          "--host", "127.0.0.1", "--port", str(port)],
            "/predict", list_body, "/readyz", {**torch, "BENTOML_HOME": str(home / "bentoml")},
        ),
        Contestant(
            "mlflow_serve",
            lambda port, _: [python, "-m", "mlflow", "models", "serve", "--model-uri", str(model.mlflow),
                          "--env-manager", "local", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            "/invocations", mlflow_body, "/ping",
        ),
        Contestant(
            "bare_asgi_onnx",
            lambda port, _: [python, "-m", "bench.peers.bare_asgi", str(model.parcel), str(port)],
            "/predict", ours_body, "/",
        ),
    ]  # fmt: skip


@contextmanager
def started(found: Sequence[Contestant], logs: Path) -> Iterator[list[Running]]:
    """All of them, one after the other, each once it answers; all ended afterwards."""
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        yield [stack.enter_context(_start(one, logs)) for one in found]


@contextmanager
def _start(one: Contestant, logs: Path) -> Iterator[Running]:
    port, grpc_port = free_port(), free_port()
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # MLflow calls `uvicorn` by name
    environment = {**os.environ, **TELEMETRY_OFF, "PATH": path, "OMP_NUM_THREADS": "1", **one.environment}
    began = time.perf_counter()
    with (logs / f"{one.name}.log").open("wb") as log:
        process = subprocess.Popen(
            list(one.command(port, grpc_port)),
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        _wait(process, f"http://127.0.0.1:{port}{one.ready}", logs / f"{one.name}.log")
        spent = time.perf_counter() - began
        yield Running(one, f"http://127.0.0.1:{port}{one.path}", grpc_port, psutil.Process(process.pid), spent)
    finally:
        if process.poll() is None:
            for child in psutil.Process(process.pid).children(recursive=True):
                child.kill()
            process.kill()
        process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(url, timeout=2, trust_env=False).status_code < 500:
                return
        except httpx.TransportError:
            time.sleep(0.01)
    raise RuntimeError(f"{url} is not ready; {log}:\n{log.read_text()[-2000:]}")
