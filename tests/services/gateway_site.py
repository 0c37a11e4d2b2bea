"""A gateway as a process in front of a server that says what reached it, and a key for each role."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

from infra.api_keys import KeyFile, Verb, issue
from infra.ledger import Ledger
from infra.profile import Secrets
from infra.roles import ROLES, VERBS_OF, Role
from services.gateway_config import GatewayConfig

# PORT: tells what it was asked; streams; a WebSocket that says which token came, then what it hears.
BEHIND = """
import asyncio, hashlib, json, sys, uvicorn
gone = asyncio.Event()
async def answer(send, status, body, *headers):
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept", "subprotocol": "prefect"})
        while (message := await receive())["type"] == "websocket.receive":
            said = json.loads(message["text"])
            heard = {"heard": said, "query": scope["query_string"].decode()}
            await send({"type": "websocket.send", "text": json.dumps(heard)})
            if said.get("close"):
                await send({"type": "websocket.close", "code": said["close"]})
        return
    path, num_bytes, digest = scope["path"], 0, hashlib.sha256()
    if path.endswith("/early"):
        await answer(send, 418, b"{}")
        return
    more = True
    while more:
        message = await receive()
        digest.update(message.get("body", b""))
        num_bytes += len(message.get("body", b""))
        more = message.get("more_body", False)
    if path.endswith("/endless"):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        watch = asyncio.create_task(receive())
        while not watch.done():
            await send({"type": "http.response.body", "body": b"x" * 10_000, "more_body": True})
            await asyncio.sleep(0.02)
        gone.set()
    elif path.endswith("/large"):
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"60000000")]})
        for number in range(60):
            await send({"type": "http.response.body", "body": bytes([number]) * 1_000_000, "more_body": number < 59})
    elif path.endswith("/moved"):
        await answer(send, 307, b"{}", (b"location", f"http://127.0.0.1:{sys.argv[1]}/elsewhere?a=1".encode()))
    elif path.endswith("/gone"):
        await answer(send, 200 if gone.is_set() else 404, b"{}")
    else:
        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
        target = scope["raw_path"].decode() + "?" + scope["query_string"].decode()
        told = {"method": scope["method"], "target": target, "headers": headers, "num_bytes": num_bytes,
                "sha256": digest.hexdigest(), "api_url": "http://inside", "auth": "BASIC",
                "user": {"id": 1, "username": "roadworthy"}}
        await answer(send, 200, json.dumps(told).encode(), (b"www-authenticate", b"Basic"))
uvicorn.run(app, port=int(sys.argv[1]), lifespan="off", log_level="warning", access_log=False)
"""


ISSUER = "https://issuer.example"


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class Site:
    """A gateway, what is behind it, and a key for each role; `plain` asks models and has none."""

    folder: Path
    ports: dict[str, int]
    behind: int
    process: "subprocess.Popen[bytes]"
    keys: dict[str, str] = field(default_factory=dict)

    def url(self, service: str, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.ports[service]}{path}"

    def ask(self, who: str, method: str, service: str, path: str, **rest: Any) -> httpx.Response:
        auth = ("anybody", self.keys[who]) if who else None
        return httpx.request(method, self.url(service, path), auth=auth, trust_env=False, timeout=30.0, **rest)

    @property
    def trail(self) -> list[dict[str, Any]]:
        return [{"action": entry.action, **entry.details} for entry in Ledger(self.folder / "gateway.jsonl").entries()]

    def noted(self, **wanted: Any) -> dict[str, Any]:
        """The first entry with these details; waits for the writer."""
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for entry in self.trail:
                if all(entry.get(name) == value for name, value in wanted.items()):
                    return entry
            time.sleep(0.1)
        raise AssertionError(f"{wanted} is not in {self.trail}")

    def key(self, name: str, verbs: tuple[Verb, ...], role: Role | None = None) -> str:
        record, key = issue(name, verbs, datetime.now(UTC), role=role)
        KeyFile(self.folder / "keys.json").add(record)
        return key


def configure(folder: Path, behind: int, **changed: Any) -> Path:
    (folder / "services.json").write_text(Secrets().model_dump_json())
    url = f"http://127.0.0.1:{behind}"
    known = {
        "mlflow": url, "prefect": url, "products": {"ring": url}, "ports": {"mlflow": 1, "prefect": 2},
        "secrets": folder / "services.json", "keys": folder / "keys.json", "audit": folder / "gateway.jsonl",
        "max_body_bytes": 100_000,
    }  # fmt: skip
    path = folder / "gateway.json"
    path.write_text(GatewayConfig(**{**known, **changed}).model_dump_json())
    return path


def tokens_of(issuer: ec.EllipticCurvePrivateKey, folder: Path) -> dict[str, str]:
    """The environment of a gateway that takes tokens of this issuer beside keys."""
    published = {**ECAlgorithm.to_jwk(issuer.public_key(), as_dict=True), "kid": "one"}
    (folder / "jwks.json").write_text(json.dumps({"keys": [published]}))
    told = {"AUTH": "jwt", "JWT_ISSUER": ISSUER, "JWT_AUDIENCE": "roadworthy", "JWT_JWKS": str(folder / "jwks.json")}
    return {**os.environ, **{f"ROADWORTHY_SERVE_{name}": value for name, value in told.items()}}


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """A site in `folder`, ready; it must end with status 0 and without a traceback."""
    behind = free_port()
    ports = {name: free_port() for name in ("mlflow", "prefect", "serving")}
    config = configure(folder, behind)
    words = ["--mlflow-port", ports["mlflow"], "--prefect-port", ports["prefect"], "--port", ports["serving"]]
    command = [sys.executable, "-m", "services.gateway", "--config", config, *words]
    issuer = ec.generate_private_key(ec.SECP256R1())
    server = subprocess.Popen([sys.executable, "-c", BEHIND, str(behind)])
    with (folder / "gateway.log").open("wb") as log:
        gateway = subprocess.Popen(
            [str(word) for word in command], stdout=log, stderr=log, env=tokens_of(issuer, folder)
        )
    one = Site(folder, ports, behind, gateway)
    one.keys = {role: one.key(role, tuple(VERBS_OF[role]), role) for role in ROLES}  # type: ignore[arg-type]
    one.keys["plain"] = one.key("plain", ("predict",))
    claims = {
        "iss": ISSUER,
        "aud": "roadworthy",
        "sub": "eve",
        "exp": time.time() + 600,
        "roles": ["roadworthy:trainer"],
    }
    one.keys["token"] = jwt.encode(claims, issuer, algorithm="ES256", headers={"kid": "one"})
    one.keys["wrong"] = f"rw_00000000_{'x' * 32}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(one.url("serving", "/readyz")).status_code == 200
                break
            except (httpx.TransportError, AssertionError):
                assert time.monotonic() < deadline, (folder / "gateway.log").read_text()
                time.sleep(0.1)
        yield one
    finally:
        gateway.terminate()
        server.kill()
        assert gateway.wait(15) == 0
        assert "Traceback" not in (folder / "gateway.log").read_text()
        server.wait()


async def talk(
    site: Site, path: str, said: list[dict[str, Any]], key: str = "", **headers: str
) -> tuple[list[Any], Any]:
    """What a WebSocket answers, and the code with which it was closed; or the status of a refused handshake."""
    if key:
        headers["authorization"] = f"Bearer {site.keys.get(key, key)}"
    answers = []
    async with aiohttp.ClientSession() as session:
        try:
            async with session.ws_connect(site.url("prefect", path), protocols=("prefect",), headers=headers) as one:
                for words in said:
                    await one.send_json(words)
                    message = await one.receive(20)
                    if message.type is not aiohttp.WSMsgType.TEXT:
                        break
                    answers.append(json.loads(message.data))
                if not one.closed and said and said[-1].get("close"):
                    await one.receive(10)
                return answers, one.close_code
        except aiohttp.WSServerHandshakeError as error:
            return answers, error.status
