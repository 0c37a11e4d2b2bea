"""The router as a process, in front of replicas that are processes, under load: no request may fail."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from services.router_client import RouterClient, RouterGoneError
from services.router_config import Backend, CanaryGuard, RouterConfig, Shadow

pytestmark = pytest.mark.services

# PORT NAME KIND VALUE: a replica that answers VALUE, 500s, takes its time, or is not ready until it is told.
REPLICA = """
import asyncio, json, sys, uvicorn
port, name, kind, value = int(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])
gate = asyncio.Event()
async def app(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    status, path = 200, scope["path"]
    head = {name: value for name, value in scope["headers"]}
    body = {"predictions": [[value, 1.0]], "version": name, "from": head.get(b"x-forwarded-for", b"").decode(),
            "copy": b"x-roadworthy-shadow" in head}
    if path == "/open":
        gate.set()
    elif path == "/predict":
        status = 500 if kind == "broken" else 503 if kind == "lazy" else 200
        if kind == "slow":
            await asyncio.sleep(0.2)
        if kind == "held":
            await gate.wait()
    text = json.dumps(body).encode()
    headers = [(b"x-model-digest", name.encode()), (b"x-prediction-id", b"p1"), (b"content-length", b"%d" % len(text))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})
uvicorn.run(app, port=port, lifespan="off", log_level="warning", access_log=False)
"""


@dataclass
class Yard:
    """Replicas and a router, each a process; `told` is what the router was told last."""

    folder: Path
    port: int
    ports: dict[str, int] = field(default_factory=dict)
    running: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self) -> RouterClient:
        return RouterClient(self.folder)

    def replica(self, name: str, kind: str = "good", value: float = 2.0) -> None:
        port = self.ports.setdefault(name, free_port())
        self.run(name, "-c", REPLICA, str(port), name, kind, str(value))
        until(lambda: answers(f"http://127.0.0.1:{port}/readyz"))

    def router(self, config: RouterConfig) -> None:
        self.client.write(config)
        self.run("router", "-m", "services.router", "--config", str(self.client.config_path), "--port", str(self.port))
        until(lambda: answers(f"{self.url}/readyz"))

    def run(self, name: str, *words: str) -> None:
        self.running[name] = subprocess.Popen([sys.executable, *words])

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running.pop(name).wait()

    def config(self, *given: str, **more: Any) -> RouterConfig:
        """`v1-0:50` is replica v1-0 of group v1 with weight 50."""
        backends = []
        for name, _, weight in (one.partition(":") for one in given):
            url = f"http://127.0.0.1:{self.ports[name]}"
            backends.append(Backend(name=name, url=url, group=name.partition("-")[0], weight=float(weight)))
        return RouterConfig(product="tiny", backends=tuple(backends), **more)


@pytest.fixture
def yard(tmp_path: Path) -> Iterator[Yard]:
    folder = tmp_path / ("a long name " * 10)
    folder.mkdir()
    one = Yard(folder, free_port())
    yield one
    for process in one.running.values():
        process.kill()
        process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def under_load(url: str, meanwhile: Callable[[], None], num_clients: int = 4, num_more: int = 50) -> Counter[Any]:
    """Ask without a break while `meanwhile` runs in a thread, then so often more; what came: (status, replica)."""

    async def run() -> Counter[Any]:
        seen: Counter[Any] = Counter()
        work = asyncio.create_task(asyncio.to_thread(meanwhile))

        async def ask(session: aiohttp.ClientSession) -> None:
            left = num_more
            while left:
                left -= work.done()
                async with session.post(f"{url}/predict", json={"data": 1}) as answer:
                    await answer.read()
                    seen[answer.status, answer.headers.get("X-Served-By", "")] += 1

        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(num_clients)))
        await work
        return seen

    return asyncio.run(run())


def served_by(seen: Counter[Any]) -> set[str]:
    assert {status for status, _ in seen} == {200}, seen
    return {name for _, name in seen}


def test_a_swap_under_load_fails_no_request_and_what_is_removed_finishes(yard: Yard) -> None:
    yard.replica("v1-0", "held")
    yard.replica("v2-0")
    yard.router(yard.config("v1-0:100"))
    with httpx.Client(timeout=30) as client:
        connections = [socket.create_connection(("127.0.0.1", yard.port)) for _ in range(3)]
        for one in connections:
            one.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}")
        until(lambda: (yard.client.status() or {})["backends"][0]["in_flight"] == 3)
        yard.client.apply(yard.config("v2-0:100"))
        assert served_by(under_load(yard.url, lambda: None)) == {"v2-0"}
        status = yard.client.status() or {}
        assert [(one["name"], one["in_flight"]) for one in status["draining"]] == [("v1-0", 3)]
        assert not yard.client.drain({"v1-0"}, timeout_s=0.1)
        assert client.get(f"http://127.0.0.1:{yard.ports['v1-0']}/open").is_success
        assert yard.client.drain({"v1-0"})
        assert all(one.recv(4096).startswith(b"HTTP/1.1 200") for one in connections)
        for one in connections:
            one.close()


def test_a_killed_replica_costs_nobody_a_request(yard: Yard) -> None:
    yard.replica("v1-0")
    yard.replica("v1-1")
    yard.router(yard.config("v1-0:50", "v1-1:50"))

    def kill_and_start_again() -> None:
        for name in ("v1-0", "v1-1", "v1-0"):
            until(lambda: all(one["ready"] for one in (yard.client.status() or {})["backends"]))
            yard.kill(name)
            yard.replica(name)

    assert served_by(under_load(yard.url, kill_and_start_again)) == {"v1-0", "v1-1"}


def test_with_one_replica_requests_wait_until_it_is_back(yard: Yard) -> None:
    yard.replica("v1-0")
    yard.router(yard.config("v1-0:1"))

    def kill_and_start_again() -> None:
        yard.kill("v1-0")
        yard.replica("v1-0")

    assert served_by(under_load(yard.url, kill_and_start_again)) == {"v1-0"}
    yard.kill("v1-0")
    yard.client.apply(yard.config("v1-0:1", wait_s=0.1))
    answer = httpx.post(f"{yard.url}/predict", content=b"{}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert answer.json()["error"]["what"] == "no replica is ready"


@pytest.mark.parametrize(
    ("kind", "value", "reason"),
    [("broken", 2.0, "errors: "), ("slow", 2.0, "latency: p99 of v2 "), ("good", 1.0, "disagreement: ")],
)
def test_a_bad_canary_is_taken_off_by_itself(yard: Yard, kind: str, value: float, reason: str) -> None:
    yard.replica("v1-0")
    yard.replica("v2-0", kind, value)
    guard = CanaryGuard(group="v2", back_to="v1", max_disagreement=0.25)
    config = yard.config("v1-0:80", "v2-0:20", roll_out="a", guard=guard, shadow=Shadow(group="v2"))
    yard.router(config)
    seen = under_load(yard.url, lambda: until(lambda: bool((yard.client.status() or {})["tripped"])), num_more=50)
    assert served_by(seen) >= {"v1-0"}
    tripped = (yard.client.status() or {})["tripped"]
    assert tripped["group"] == "v2" and tripped["reason"].startswith(reason)

    yard.kill("router")  # a router that comes back does not bring the canary back
    yard.router(config)
    assert served_by(under_load(yard.url, lambda: None, num_more=10)) == {"v1-0"}
    assert "roadworthy_router_tripped 1.0" in httpx.get(f"{yard.url}/metrics").text
    yard.client.apply(config.model_copy(update={"roll_out": "b"}))
    assert (yard.client.status() or {})["tripped"] is None


def test_the_shadow_is_asked_after_the_answer_and_held_against_it(yard: Yard) -> None:
    yard.replica("v1-0", value=2.0)
    yard.replica("v2-0", value=1.5)
    yard.router(yard.config("v1-0:100", "v2-0:0", shadow=Shadow(group="v2")))
    seen = under_load(yard.url, lambda: None, num_more=25)
    assert served_by(seen) == {"v1-0"}
    until(lambda: (yard.client.status() or {})["shadow"]["compared"] == seen.total())
    shadow = (yard.client.status() or {})["shadow"]
    assert shadow["mean_disagreement"] == pytest.approx(0.25)
    assert (shadow["different_status"], shadow["worst_prediction_id"]) == (0, "p1")


def test_answers_pass_unchanged_and_the_rest_is_the_routers_own(yard: Yard) -> None:
    yard.replica("v1-0")
    yard.router(yard.config("v1-0:1"))
    answer = httpx.post(
        f"{yard.url}/predict?a=%2F", content=b"{}", headers={"x-forwarded-for": "8.8.8.8", "x-roadworthy-shadow": "1"}
    )
    assert (answer.headers["x-model-digest"], answer.headers["x-served-by"]) == ("v1-0", "v1-0")
    assert answer.json() == {"predictions": [[2.0, 1.0]], "version": "v1-0", "from": "127.0.0.1", "copy": False}
    assert httpx.head(f"{yard.url}/docs.json").headers["content-length"] != "0"
    assert httpx.post(f"{yard.url}/admin/swap", content=b"{}").status_code == 404
    assert httpx.get(f"{yard.url}/router/status", headers={"x-forwarded-for": "8.8.8.8"}).status_code == 403
    assert httpx.get(f"{yard.url}/router/status").json()["product"] == "tiny"
    assert httpx.post(f"{yard.url}/router/reload").status_code == 404
    assert (yard.folder / "router.sock").stat().st_mode & 0o777 == 0o600


def test_a_wrong_file_changes_nothing_and_sighup_reads_a_right_one(yard: Yard) -> None:
    yard.replica("v1-0")
    yard.router(yard.config("v1-0:1"))
    yard.client.config_path.write_text(json.dumps({"backends": [{"name": "x"}]}))
    with pytest.raises(RouterGoneError, match="expected a router's configuration"):
        yard.client._ask("POST", "/router/reload")
    assert served_by(under_load(yard.url, lambda: None, num_more=5)) == {"v1-0"}
    yard.client.write(yard.config("v1-0:7"))
    yard.running["router"].send_signal(signal.SIGHUP)
    until(lambda: (yard.client.status() or {})["backends"][0]["weight"] == 7)
    yard.running["router"].terminate()
    assert yard.running["router"].wait(timeout=30) == 0
