"""What the gateway adds to a request: asked in turn with and without it, and a file through it, in one run.

    python -m bench.gateway [--requests 2000] [--json]

Behind it is a server that does nothing, so that what is measured is the gateway: key, matrix, trail, two more copies.
"""

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles

from infra.api_keys import KeyFile, issue
from infra.ports import free_ports
from infra.profile import Secrets
from services.gateway_config import GatewayConfig

BEHIND = """
import sys, uvicorn
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"{}"})
uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False)
"""
READ, WRITE = "/api/2.0/mlflow/runs/get?run_id=1", "/api/2.0/mlflow/runs/log-batch"
FILE, FILE_BYTES, PIECE = "/api/2.0/mlflow-artifacts/artifacts/1/model.bin", 200_000_000, b"x" * 1_000_000


def measure(num_requests: int) -> dict[str, object]:
    """Medians in ms of a read and of a change, each asked directly and through; MB/s of an upload."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        behind, *ports = free_ports(4)
        key = configured(folder, behind)
        words = [str(one) for one in ("--mlflow-port", ports[0], "--prefect-port", ports[1], "--port", ports[2])]
        stack.enter_context(process("-c", BEHIND, str(behind), port=behind))
        config = str(folder / "gateway.json")
        stack.enter_context(process("-m", "services.gateway", "--config", config, *words, port=ports[0]))
        direct, through = (
            http.client.HTTPConnection("127.0.0.1", behind),
            http.client.HTTPConnection("127.0.0.1", ports[0]),
        )
        found: dict[str, object] = {"requests": num_requests}
        for name, method, target, body in (("read", "GET", READ, b""), ("change", "POST", WRITE, b"{}" * 500)):
            found[name] = compared(direct, through, method, target, body, key, num_requests)
        for name, link in (("direct", direct), ("through", through)):
            found[f"upload_{name}_mb_s"] = round(upload(link, key), 1)
    return found


def compared(
    direct: http.client.HTTPConnection, through: http.client.HTTPConnection, method: str, target: str, body: bytes,
    key: str, num_requests: int,
) -> dict[str, float]:  # fmt: skip
    """Asked in turn, so that whatever else runs on the machine weighs on both."""
    times: dict[str, list[float]] = {"direct": [], "through": []}
    for number in range(num_requests + 50):
        for name, link in (("direct", direct), ("through", through)):
            began = time.perf_counter()
            link.request(method, target, body, {"x-api-key": key})
            answer = link.getresponse()
            answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{name}: expected 200, got {answer.status}")
            if number >= 50:
                times[name].append(1000 * (time.perf_counter() - began))
    p50 = {f"{name}_p50_ms": round(median(found), 3) for name, found in times.items()}
    added = [one - other for one, other in zip(times["through"], times["direct"], strict=True)]
    return {**p50, "added_p50_ms": round(median(added), 3), "added_p99_ms": round(quantiles(added, n=100)[98], 3)}


def upload(link: http.client.HTTPConnection, key: str) -> float:
    """MB/s of one file."""
    began = time.perf_counter()
    pieces = (PIECE for _ in range(FILE_BYTES // len(PIECE)))
    link.request("PUT", FILE, pieces, {"x-api-key": key, "content-length": str(FILE_BYTES)})
    link.getresponse().read()
    return FILE_BYTES / 1e6 / (time.perf_counter() - began)


def configured(folder: Path, behind: int) -> str:
    """The gateway's files in `folder`; returns a trainer's key."""
    (folder / "services.json").write_text(Secrets().model_dump_json())
    record, key = issue("bench", ["read"], datetime.now(UTC), role="trainer")
    KeyFile(folder / "keys.json").add(record)
    url = f"http://127.0.0.1:{behind}"
    config = GatewayConfig(
        mlflow=url, prefect=url, secrets=folder / "services.json", keys=folder / "keys.json",
        audit=folder / "gateway.jsonl",
    )  # fmt: skip
    (folder / "gateway.json").write_text(config.model_dump_json())
    return key


@contextmanager
def process(*words: str, port: int) -> Iterator[None]:
    """A Python process, from when it listens until it is ended."""
    running = subprocess.Popen([sys.executable, *words])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                link = http.client.HTTPConnection("127.0.0.1", port)
                link.request("GET", "/livez")
                link.getresponse().read()
                break
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)
        yield
    finally:
        running.terminate()
        running.wait()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = measure(given.requests)
    print(json.dumps(found) if given.json else "\n".join(f"{name:24} {value}" for name, value in found.items()))


if __name__ == "__main__":
    main()
