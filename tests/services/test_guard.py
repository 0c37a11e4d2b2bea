"""Who may do what, through the door: a guarded application that says whom it saw, and refusals that say all."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.api_keys import KeyFile, issue
from infra.key_ring import KeyRing
from infra.ledger import Ledger
from infra.settings import ServiceSettings
from services.answers import ANYBODY, CALLER, Receive, Refusal, Scope, Send, send_answer
from services.audit import Audit
from services.guard import Guard, GuardError, GuardLayer, open_guard, target
from services.quotas import Strikes

NOW = datetime.now(UTC)
GUESS = f"rw_00000000_{'A' * 32}"


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the body and says who asked."""
    num_bytes, more = 0, True
    while more:
        message = await receive()
        num_bytes, more = num_bytes + len(message.get("body", b"")), message.get("more_body", False)
    caller = scope.get(CALLER, ANYBODY)
    answer = {"name": caller.name, "tenant": caller.tenant, "id": caller.key_id, "bytes": num_bytes}
    await send_answer(send, 200, json.dumps(answer).encode(), [(b"content-type", b"application/json")])


class House:
    """A guarded application, its keys and its audit trail."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.file = KeyFile(folder / "keys" / "api_keys.json")
        self.audit = Audit(folder / "audit" / "audit.jsonl")
        self.strikes = Strikes(clock=lambda: 1000.0)
        options: dict[str, Any] = {"audit": self.audit, "default_model": lambda _: "freeway", "strikes": self.strikes}
        self.guard = Guard(KeyRing(self.file.path), **{**options, **settings})
        self.client: tuple[str, int] = ("192.0.2.7", 1234)

    def key(self, *verbs: Any, **fields: Any) -> str:
        record, key = issue("signals", verbs or ("predict", "explain", "read"), NOW, **fields)
        self.file.add(record)
        return key

    def ask(self, method: str, path: str, key: str = "", **request: Any) -> httpx.Response:
        headers = {**({"authorization": f"Bearer {key}"} if key else {}), **request.pop("headers", {})}

        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(app=GuardLayer(application, self.guard), client=self.client)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.request(method, path, headers=headers, **request)

        return asyncio.run(call())

    def noted(self) -> list[dict[str, Any]]:
        assert self.audit.flush()
        Ledger(self.audit.ledger.path).verify()
        return [{"action": entry.action, **entry.details} for entry in Ledger(self.audit.ledger.path).entries()]


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_key_opens_what_it_is_for(house: House) -> None:
    key = house.key("predict", models=["freeway"], tenant="city")
    answer = house.ask("POST", "/predict", key, content=b"abc")
    assert answer.status_code == 200 and answer.json()["name"] == "signals" and answer.json()["tenant"] == "city"
    by_other_header = house.ask("POST", "/models/freeway/predict", headers={"x-api-key": key})
    assert by_other_header.status_code == 200 and by_other_header.json()["id"] == key.split("_")[1]
    for method, path in (
        ("POST", "/explain"), ("GET", "/docs.json"), ("POST", "/models/digits/predict"), ("POST", "/admin/swap"),
        ("POST", "/v2/models/digits/infer"), ("POST", "/v2/models/digits/versions/1/infer"), ("GET", "/metrics"),
    ):  # fmt: skip
        refused = house.ask(method, path, key)
        assert refused.status_code == 403, path
    assert {note["status"] for note in house.noted()} == {403}


@pytest.mark.parametrize("path", ["/predict", "/v2/models/freeway/infer", "/docs.json", "/nowhere", "/"])
def test_without_a_right_key_nothing_is_told(house: House, path: str) -> None:
    for headers in (
        {},
        {"authorization": "Basic YTpi"},
        {"authorization": "Bearer "},
        {"authorization": f"Bearer {GUESS}"},
    ):
        refused = house.ask("POST", path, headers=headers)
        assert refused.status_code == 401 and refused.headers["www-authenticate"].startswith("Bearer realm=")
        error = refused.json()["error"]
        assert isinstance(error, str) if path.startswith("/v2") else set(error) == {"what", "where", "expected", "got"}
        assert GUESS not in refused.text and "freeway" not in refused.text


def test_probes_are_open_and_metrics_to_this_machine(house: House) -> None:
    for path in ("/livez", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert house.ask("GET", path).status_code == 200
    assert house.ask("GET", "/metrics").status_code == 401
    house.client = ("127.0.0.1", 5)
    assert house.ask("GET", "/metrics").status_code == 200
    assert house.ask("GET", "/metrics", headers={"x-forwarded-for": "192.0.2.7"}).status_code == 401
    assert house.ask("GET", "/metrics/").status_code == 401 and house.ask("GET", "/docs.json").status_code == 401


def test_expired_and_revoked_keys_are_refused_by_name(house: House) -> None:
    expired = house.key(expires=NOW - timedelta(seconds=1))
    good = house.key()
    assert house.ask("POST", "/predict", expired).json()["error"]["got"] == "expired"
    assert house.ask("POST", "/predict", good).status_code == 200
    house.file.revoke(good.split("_")[1], NOW)
    refused = house.ask("POST", "/predict", good)
    assert refused.status_code == 401 and refused.json()["error"]["got"] == "revoked"
    notes = house.noted()
    assert [note["why"].rpartition(" ")[2] for note in notes] == ["expired", "revoked"]
    assert {note["key"] for note in notes} == {expired.split("_")[1], good.split("_")[1]}
    assert good not in house.audit.ledger.path.read_text() and good.split("_", 2)[2] not in str(notes)


def test_revoked_in_the_middle_of_many_calls_none_passes_after_it(house: House) -> None:
    key = house.key()

    async def crowd() -> list[bool]:
        passed = []
        for number in range(200):
            if number == 100:
                await asyncio.to_thread(house.file.revoke, key.split("_")[1], NOW)
            try:
                await house.guard.admit(lambda name: key if name == "x-api-key" else "", "predict", "", "a", 0)
                passed.append(True)
            except Refusal:
                passed.append(False)
        return passed

    assert asyncio.run(crowd()) == [True] * 100 + [False] * 100


def test_guessing_is_shut_out_and_known_keys_still_pass(house: House) -> None:
    known, new = house.key(), house.key()
    assert house.ask("POST", "/predict", known).status_code == 200
    statuses = [house.ask("POST", "/predict", f"{number}").status_code for number in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    refused = house.ask("POST", "/predict", new)
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) == 60
    assert house.ask("POST", "/predict", known).status_code == 200
    house.client = ("192.0.2.8", 1)
    assert house.ask("POST", "/predict", new).status_code == 200


def test_quota_and_size_of_a_key(house: House) -> None:
    key = house.key(requests_per_minute=3, max_body_bytes=10)
    assert house.ask("POST", "/predict", key, content=b"x" * 11).status_code == 413

    async def chunks() -> Any:
        for _ in range(20):
            yield b"x"

    house.guard._quotas = type(house.guard._quotas)(lambda: 0.0)
    assert house.ask("POST", "/predict", key, content=b"x" * 10).json()["bytes"] == 10
    assert "larger than the key" in house.ask("POST", "/predict", key, content=chunks()).json()["error"]["what"]
    assert house.ask("POST", "/predict", key).status_code == 200
    refused = house.ask("POST", "/predict", key)
    assert refused.status_code == 429 and refused.headers["retry-after"] == "20"


def test_an_operators_call_is_in_the_ledger_before_it_runs_or_does_not_run(house: House) -> None:
    key = house.key("operate")
    assert house.ask("POST", "/admin/swap", key, json={"folder": "secret-folder"}).status_code == 200
    assert [note["action"] for note in house.noted()] == ["call.privileged"]
    assert "secret-folder" not in house.audit.ledger.path.read_text()
    house.audit.ledger.head_path.write_text("9 " + "0" * 64)
    assert house.ask("POST", "/admin/swap", key).status_code == 503


def test_open_where_asked_and_only_on_loopback(tmp_path: Path) -> None:
    off = ServiceSettings(auth="off")
    for host in ("0.0.0.0", "::", "192.0.2.1", ""):
        with pytest.raises(GuardError, match="loopback"):
            open_guard(off, host)
    with pytest.raises(GuardError, match="KEYS_FILE"):
        open_guard(ServiceSettings(), "127.0.0.1")
    with pytest.raises(ValueError, match="set all three"):
        open_guard(ServiceSettings(auth="jwt", jwt_issuer="x"), "127.0.0.1")
    assert open_guard(ServiceSettings(auth="off", published_on="127.0.0.1"), "0.0.0.0")
    house = House(tmp_path)
    house.guard = open_guard(off, "127.0.0.1")
    assert house.ask("POST", "/predict", headers={"x-tenant": "city"}).json()["tenant"] == "city"
    assert house.ask("POST", "/admin/swap").status_code == 200
    assert house.ask("POST", "/admin/swap", headers={"origin": "https://evil.example"}).status_code == 403


def test_a_tenant_is_the_keys_and_not_the_headers(house: House) -> None:
    assert house.ask("POST", "/predict", house.key(tenant="a"), headers={"x-tenant": "b"}).json()["tenant"] == "a"


@pytest.mark.parametrize(
    ("path", "verb", "model"),
    [
        ("/predict", "predict", ""), ("/model/predict", "predict", ""), ("/explain", "explain", ""), ("/", "read", ""),
        ("/models/a/predict", "predict", "a"), ("/models/a/versions/2/explain", "explain", "a"),
        ("/models/a/predict/", "predict", "a"), ("//models/a/predict", "predict", "a"), ("/models", "read", ""),
        ("/v2/models/a/infer", "predict", "a"), ("/v2/models/a/versions/1/infer", "predict", "a"),
        ("/v2/models/a", "read", "a"), ("/v2/models/a/ready", "read", "a"), ("/v2", "read", ""), ("", "read", ""),
        ("/admin/swap", "operate", ""), ("/admin/predict", "operate", ""), ("/admin", "operate", ""),
        ("/models/../predict", "predict", ".."), ("/models/\x00/predict", "predict", "\x00"), ("/x", "read", ""),
        ("/livez", None, ""), ("/livez/../predict", "predict", ""), ("/livez/", "read", ""), ("*", "read", ""),
    ],
)  # fmt: skip
def test_what_a_path_wants(path: str, verb: str | None, model: str) -> None:
    assert target(path)[:2] == (verb, model)
    assert "\x00" not in target(path).route and len(target(path).route) < 80


def test_a_web_socket_is_closed(house: House) -> None:
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    asyncio.run(GuardLayer(application, house.guard)({"type": "websocket", "path": "/", "headers": []}, receive, send))
    assert sent == [{"type": "websocket.close", "code": 1008}]
