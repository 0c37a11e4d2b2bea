"""A roll-out during which nobody asks: golden requests stand for the clients, and it says so."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from flows.capture import spools
from flows.deploy import deploy, undeploy
from flows.deployed import group
from flows.idle import fill_sample
from flows.registered import registered_version
from flows.roll_out import roll_out
from flows.workshop import Workshop
from infra import captures
from infra.deployments import Replica
from services.router_config import CanaryGuard
from tests.flows.tiny_home import LIKE, OTHER, QUICK, tiny_home

pytestmark = pytest.mark.services

GOOD = b'{"predictions": [[2.0, 1.0]]}'
GUARD = CanaryGuard(group="v2", max_disagreement=0.1, max_latency_ratio=2.0, latency_slack_ms=50.0)


@contextmanager
def answering(status: int, body: bytes, seconds: float = 0.0) -> Iterator[tuple[int, list[str]]]:
    """A replica that answers all alike; yields its port, and under which marks it was asked."""
    marks: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            marks.append(self.headers.get("x-roadworthy-shadow", ""))
            time.sleep(seconds)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port, marks
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """A home where version 1 is live; 2 is like it, 3 is not."""
    return tiny_home(tmp_path_factory.mktemp("home"), LIKE, OTHER)


@pytest.mark.parametrize(
    ("status", "body", "seconds", "reason"),
    [
        (200, GOOD, 0.0, ""),
        (200, b'{"predictions": [[3.0, 1.0]]}', 0.0, "disagreement: the answers of v2 to 8 golden requests differ"),
        (500, b"{}", 0.0, "errors: 8 of 8 golden requests to v2 failed"),
        (200, GOOD, 0.2, "latency: v2 takes 2"),
        (422, b"{}", 0.0, "disagreement"),
    ],
)
def test_the_limits_are_those_of_the_guard(
    shop: Workshop, status: int, body: bytes, seconds: float, reason: str
) -> None:
    digest = registered_version(shop, "tiny", 1).digest
    with answering(200, GOOD) as (port, marks), answering(status, body, seconds) as (other, _):
        stable, candidate = (
            [Replica(name=f"v{version}-0", version=version, digest=digest, port=at)]
            for version, at in ((1, port), (2, other))
        )
        found = fill_sample(shop, candidate, stable, GUARD, 8)
    assert found.startswith(reason) and bool(found) == bool(reason)
    assert marks == ["1"] * 8  # own traffic, which nothing captures


@pytest.mark.services
def test_nobody_asks(shop: Workshop, tmp_path: Path) -> None:
    deploy(shop, "tiny", is_open=True)
    try:
        idle = replace(QUICK, shadow_s=0.0, canary=(50.0, 100.0), dwell_s=0.1)
        record = roll_out(shop, "tiny", 3, replace(idle, max_disagreement=0.1))
        assert (record["verdict"], record["version"]) == ("rolled back", 1)
        assert record["reason"].startswith("disagreement: the answers of v3 to 5 golden requests differ by")
        record = roll_out(shop, "tiny", 2, idle)
        assert (record["verdict"], record["version"]) == ("live", 2)
        assert [(one["requests"], one["own_requests"]) for one in record["stages"][1:]] == [(0, 5), (0, 5)]
        assert "canary 50 %: 0 requests came in" in record["warning"] and "5 make a sample" in record["warning"]
    finally:
        undeploy(shop, "tiny")
        group(shop, "tiny").down()
    assert list(captures.spooled(spools(shop, "tiny"))) == []  # nobody's question is nobody's data
