"""A client that nobody here wrote against a real process: all three protocols answer with the same bytes."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest

from infra.ports import free_port
from infra.settings import environment, settings

ROOT = Path(__file__).parents[2]


class Service(NamedTuple):
    process: "subprocess.Popen[bytes]"
    http: str
    grpc: str


@pytest.fixture
def service(served_folder: Callable[[str], Path], tmp_path: Path) -> Iterator[Service]:
    """`services.main` over a forecast parcel, ready."""
    http, grpc = free_port(), free_port()
    options = ["--folder", str(served_folder("forecast")), "--port", str(http), "--grpc-port", str(grpc), "--open"]
    outside = {**environment(settings()), "ROADWORTHY_SERVE_SIGNATURES": "off", "PATH": "/usr/bin:/bin"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.main", *options], cwd=ROOT, env=outside, stdout=log, stderr=log
        )
    running = Service(process, f"127.0.0.1:{http}", f"127.0.0.1:{grpc}")
    try:
        deadline = time.monotonic() + 30
        while not is_ready(running):
            assert process.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        yield running
    finally:
        process.kill()
        process.wait(20)


def is_ready(service: Service) -> bool:
    try:
        return httpx.get(f"http://{service.http}/readyz").is_success
    except httpx.TransportError:
        return False


@pytest.mark.services
def test_tritonclient_gets_the_bytes_that_predict_gives(service: Service) -> None:
    script = Path(__file__).with_name("triton_questions.py")
    done = subprocess.run(
        [sys.executable, str(script), service.http, service.grpc], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    answers: dict[str, Any] = json.loads(done.stdout)
    windows = zip(answers["times"], answers["x"], strict=True)
    body = {"data": [{"time": at, "values": values} for at, values in windows]}
    predicted = httpx.post(f"http://{service.http}/predict", json=body).json()["predictions"]
    exact = np.array(predicted, np.float32).tobytes().hex()
    found = {**answers["http"]["forecasts"], **answers["grpc"]["forecasts"], **answers["aio"]}
    assert len(found) == 12 and {name for name, text in found.items() if text != exact} == set()
    for protocol, inputs in (("http", 4), ("grpc", 4)):
        about = answers[protocol]["model"]
        assert (about["name"], len(about["inputs"]), answers[protocol]["server"]) == ("tiny", inputs, "roadworthy")
        assert "expected either clock or time, got neither" in answers[protocol]["refused"]
    service.process.terminate()
    assert service.process.wait(20) == 0
