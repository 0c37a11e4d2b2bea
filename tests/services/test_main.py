"""The serving process itself: what it starts with, says, refuses, and how it ends."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.services.conftest import make_release_folder, make_window

pytestmark = pytest.mark.services

ROOT = Path(__file__).parents[2]
# Heavy, and of the workshop; a serving process must never pay for them.
NEVER = (
    "aiohttp", "bentoml", "boto3", "matplotlib", "mlflow", "model_signing", "onnx", "opentelemetry", "pandas", "PIL",
    "polars", "prefect", "pyarrow", "torch",
)  # fmt: skip
MAX_MEGABYTES = 160


@contextmanager
def served(folder: Path, *options: str, **settings: str) -> Iterator["subprocess.Popen[str]"]:
    """The process, ended afterwards."""
    settings = {"SIGNATURES": "off", **settings}
    environment = {**os.environ, **{f"ROADWORTHY_SERVE_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "services.main", "--folder", str(folder), "--port", "0", *options]
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def announced(process: "subprocess.Popen[str]") -> tuple[str, str]:
    """Address and what is served there, once the process says so."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, process.communicate()[1]
    url, _, text = line.strip().partition(" ")
    return url.rstrip(":,"), text


def ended(process: "subprocess.Popen[str]") -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(timeout=60)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_release_folder(tmp_path / "release")


def test_it_says_one_line_serves_both_protocols_and_ends_well(folder: Path) -> None:
    import grpc

    from services import inference_pb2 as messages

    with served(folder, "--open", "--grpc-port", "0") as process:
        url, text = announced(process)
        assert "gRPC on port " in text and text.endswith(": tiny/3")
        assert httpx.post(f"{url}/predict", json={"data": make_window()}).json()["model_version"] == "tiny/3"
        assert httpx.get(f"{url}/v2/health/ready").status_code == 200
        assert httpx.get(f"{url}/healthz").status_code == 200
        assert httpx.get(f"{url}/schema.json").status_code == 404
        port = text.partition("port ")[2].partition(":")[0]
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            ready = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
            answer = messages.ServerReadyResponse.FromString(ready(b""))
        assert answer.ready
        assert psutil.Process(process.pid).memory_info().rss < MAX_MEGABYTES * 1e6
        assert ended(process) == 0
        assert process.stdout is not None and process.stdout.read() == ""


def test_it_loads_nothing_of_the_workshop(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from infra.settings import ServiceSettings\n"
        "import services.main; from services.assemble import assemble\n"
        f"host = assemble(Path({str(folder)!r}), ServiceSettings(signatures='off', auth='off')).host\n"
        "host.load(); assert host.served\n"
        f"print([name for name in {NEVER!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("options", "settings", "word"),
    [
        (["--open", "--host", "0.0.0.0"], {}, "loopback"),
        ([], {}, "KEYS_FILE"),
        (["--open"], {"DEADLINE_MS": "soon"}, "deadline_ms"),
        (["--open", "--tls-cert", "cert.pem"], {}, "tls"),
    ],
)
def test_it_does_not_start_open_or_half_set(
    folder: Path, options: list[str], settings: dict[str, str], word: str
) -> None:
    with served(folder, *options, **settings) as process:
        said, error = process.communicate(timeout=60)
        assert process.returncode == 2 and word in error and said == "" and "Traceback" not in error


def test_a_refused_parcel_leaves_it_alive_to_say_why(folder: Path) -> None:
    (folder / "parcel" / "card.md").write_text("changed")
    with served(folder, "--open") as process:
        url, text = announced(process)
        assert "not ready" in text and "card.md" in text
        response = httpx.get(f"{url}/readyz")
        assert response.status_code == 503 and "card.md" in response.json()["error"]["got"]
        assert httpx.get(f"{url}/livez").status_code == 200
        assert ended(process) == 0


def test_a_request_under_way_is_answered_before_the_end(folder: Path) -> None:
    with served(folder, "--open") as process:
        url, _ = announced(process)
        body = json.dumps({"data": make_window()}).encode()
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
            head = b"POST /predict HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body[:50])
            httpx.get(f"{url}/livez")  # by now the first half is read
            process.send_signal(signal.SIGTERM)
            wait_until_closed(url)
            connection.sendall(body[50:])
            answer = connection.recv(65_536)
        assert b" 200 " in answer and process.wait(timeout=60) == 0


def wait_until_closed(url: str) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            httpx.get(f"{url}/livez")
        except httpx.TransportError:
            return
        time.sleep(0.01)
    raise AssertionError("it still listens")


def test_an_operator_swaps_under_load(folder: Path, tmp_path: Path) -> None:
    following = make_release_folder(tmp_path / "next", seed=8, version=4)
    with served(folder, "--open") as process, httpx.Client() as client:
        url, _ = announced(process)

        def ask() -> Any:
            response = client.post(f"{url}/predict", json={"data": make_window()})
            assert response.status_code == 200
            return response.json()["model_version"]

        before = {ask() for _ in range(20)}
        swapped = client.post(f"{url}/admin/swap", json={"folder": str(following)})
        assert swapped.json() == {"served": {"tiny": ["4"]}}
        assert before == {"tiny/3"} and {ask() for _ in range(20)} == {"tiny/4"}
        refused = client.post(f"{url}/admin/swap", json={"folder": str(tmp_path / "nowhere")})
        assert refused.status_code == 422 and "release.json" in refused.json()["error"]["got"]
        assert client.post(f"{url}/admin/swap", content=b"{").status_code == 422
        assert ask() == "tiny/4"


def test_a_port_that_is_taken_is_an_error(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with served(folder, "--open", "--port", port) as process:
            _, error = process.communicate(timeout=60)
            assert process.returncode not in (0, 2) and "address already in use" in error
