"""The receiver of webhooks: MLflow's own delivery to a real server; forged, old, doubled and lost ones."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import uvicorn
from mlflow.entities.webhook import Webhook, WebhookEvent, WebhookStatus
from mlflow.webhooks import delivery

from flows import hooks
from flows.hooks import Receiver, Wish, application
from infra.ledger import Ledger
from infra.ports import free_ports
from infra.promotion import PROMOTE, REGISTER
from infra.webhooks import DELIVERY, SIGNATURE, TIME, sign

SECRET = "between us"
EVENT = WebhookEvent("model_version_alias", "created")


@pytest.fixture
def wishes() -> list[Wish]:
    """What was started."""
    return []


@pytest.fixture
def receiver(tmp_path: Path, wishes: list[Wish]) -> Receiver:
    """Version 1 of oregon is live, 2 is registered."""
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for version in (1, 2):
        ledger.append(
            REGISTER, "oregon", version=version, digest=f"p{version}", run_id="r", evidence="e", passed=True, reasons=[]
        )
    ledger.append(PROMOTE, "oregon", version=1, digest="p1", evidence="e", run_id="r", previous=None)
    return Receiver(SECRET, ledger, wishes.append)


def asked(wishes: list[Wish]) -> list[tuple[str, str, int | None]]:
    return [(one.product, one.alias, one.version) for one in wishes]


@pytest.fixture
def url(receiver: Receiver) -> Iterator[str]:
    port = free_ports(1)[0]
    server = uvicorn.Server(uvicorn.Config(application(receiver), port=port, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}{hooks.PATH}"
    server.should_exit = True
    thread.join()


def body(alias: str = "champion", version: str | None = "2", name: str = "oregon") -> bytes:
    data = {"name": name, "alias": alias, **({"version": version} if version else {})}
    return json.dumps({"entity": "model_version_alias", "action": "created", "data": data}).encode()


def send(url: str, content: bytes, *, id_: str = "one", age_s: float = 0.0, secret: str = SECRET) -> httpx.Response:
    seconds = str(int(time.time() - age_s))
    headers = {DELIVERY: id_, TIME: seconds, SIGNATURE: sign(secret, id_, seconds, content)}
    return httpx.post(url, content=content, headers=headers)


def test_what_mlflow_delivers_is_believed(url: str, wishes: list[Wish], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http")
    monkeypatch.setenv("MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS", "true")
    webhook = Webhook("id", "roadworthy", url, [EVENT], 0, 0, secret=SECRET, status=WebhookStatus.ACTIVE)
    session = delivery._create_webhook_session()
    for version in ("2", "1"):  # 1 is our own projection
        payload = {"name": "oregon", "alias": "champion", "version": version}
        assert delivery._send_webhook_request(webhook, payload, EVENT, session).status_code == 202
    assert asked(wishes) == [("oregon", "champion", 2)]


def test_what_is_forged_old_or_doubled_starts_nothing(url: str, wishes: list[Wish]) -> None:
    assert send(url, body(), secret="guessed").status_code == 401
    assert send(url, body(), age_s=400).status_code == 401
    assert httpx.post(url, content=body()).status_code == 401
    assert send(url, b"[]").status_code == 401
    assert send(url, b"x" * 70_000).status_code == 413
    assert asked(wishes) == []
    assert [send(url, body()).json()["said"] for _ in range(2)] == ["started", "known"]
    assert len(asked(wishes)) == 1


def test_only_our_aliases_of_our_products_matter(url: str, wishes: list[Wish]) -> None:
    for number, content in enumerate((body("best"), body(name="theirs"), body("challenger", None))):
        assert send(url, content, id_=str(number)).json()["said"] == "as the ledger says"
    assert send(url, body("champion", None), id_="deleted").json()["said"] == "started"
    assert asked(wishes) == [("oregon", "champion", None)]


def test_without_prefect_mlflow_is_told_to_come_again(url: str, receiver: Receiver) -> None:
    def fail(_wish: Wish) -> None:
        raise httpx.ConnectError("nobody there")

    works, receiver.start = receiver.start, fail
    assert send(url, body()).status_code == 503
    receiver.start = works
    assert send(url, body()).json()["said"] == "started"  # the same delivery, again


def test_a_lost_delivery_is_found_by_looking_and_is_the_same_wish(receiver: Receiver, wishes: list[Wish]) -> None:
    receiver.clock = lambda: 1_000_000.0
    assert receiver.sweep({"oregon": {"champion": 1}, "theirs": {"champion": 7}}) == 0
    assert receiver.sweep({"oregon": {"champion": 2, "best": 5}}) == 1
    (by_sweep,) = wishes
    assert receiver.wish("oregon", "champion", 2) == by_sweep  # one key: Prefect makes one run of both
    receiver.clock = lambda: 1_000_000.0 + hooks.AGAIN_S
    assert receiver.wish("oregon", "champion", 2) != by_sweep
