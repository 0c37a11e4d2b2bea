"""The gateway as a process: who comes in, what goes on to the servers behind, what is kept of it."""

import asyncio
import base64
import hashlib
import json
import socket
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import aiohttp
import httpx
import psutil
import pytest

from infra.api_keys import KeyFile
from infra.ledger import Ledger
from infra.profile import Secrets
from infra.roles import ROLES
from tests.services.gateway_site import Site, free_port, running, talk

pytestmark = pytest.mark.services

FILES = "/api/2.0/mlflow-artifacts/artifacts/1"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with running(tmp_path_factory.mktemp("gateway")) as one:
        yield one


def test_nobody_comes_in_without_a_valid_key(site: Site) -> None:
    for service in site.ports:
        for who in ("", "wrong"):
            refused = site.ask(who, "GET", service, "/")
            assert refused.status_code == 401 and "Basic" in refused.headers["www-authenticate"]
    assert site.noted(action="call.refused", status=401, where="mlflow GET /")["count"] >= 1
    assert site.ask("", "GET", "serving", "/livez").status_code == 200


def test_the_callers_key_stays_here_and_the_servers_own_opens(site: Site) -> None:
    secrets = Secrets.model_validate_json((site.folder / "services.json").read_bytes())
    headers = {"cookie": "a=1", "x-forwarded-proto": "https", "x-request-id": "mine-1"}
    for service, password in (("mlflow", secrets.mlflow), ("prefect", secrets.prefect)):
        answer = site.ask(
            "viewer", "GET", service, "/version" if service == "mlflow" else "/api/health", headers=headers
        )
        told = answer.json()["headers"]
        pair = base64.b64decode(told["authorization"].split()[1]).decode()
        assert pair == f"roadworthy:{password.get_secret_value()}"
        assert (
            told["cookie"] == "a=1" and told["x-forwarded-proto"] == "http" and told["x-forwarded-for"] == "127.0.0.1"
        )
        assert told["x-request-id"] == answer.headers["x-request-id"] == "mine-1"
        assert site.keys["viewer"] not in answer.text and "www-authenticate" not in answer.headers


@pytest.mark.parametrize("way", ["basic", "bearer", "x-api-key"])
def test_programs_bring_their_key_in_their_own_way(site: Site, way: str) -> None:
    key = site.keys["trainer"]
    basic = base64.b64encode(f"ann:{key}".encode()).decode()
    headers = {"basic": {"authorization": f"Basic {basic}"}, "bearer": {"authorization": f"Bearer {key}"}}
    answer = httpx.get(site.url("serving", "/whoami"), headers=headers.get(way, {"x-api-key": key}))
    assert answer.json()["role"] == "trainer" and answer.json()["verbs"] == ["explain", "predict", "read"]


def test_a_token_of_the_issuer_acts_in_the_role_that_it_names(site: Site) -> None:
    assert site.ask("token", "POST", "mlflow", "/api/2.0/mlflow/runs/create", json={}).status_code == 200
    assert site.ask("token", "POST", "mlflow", "/api/2.0/mlflow/runs/delete", json={}).status_code == 403
    who = httpx.get(site.url("serving", "/whoami"), headers={"authorization": f"Bearer {site.keys['token']}"}).json()
    assert who["name"] == "eve" and who["role"] == "trainer" and who["key"].startswith("jwt:")


def test_a_role_ends_where_the_matrix_says_and_the_refusal_says_so(site: Site) -> None:
    path = "/api/2.0/mlflow/registered-models/alias"
    for place, role in enumerate(ROLES):
        answer = site.ask(role, "POST", "mlflow", path, json={"name": "ring", "alias": "champion", "version": "3"})
        assert answer.status_code == (200 if place >= ROLES.index("promoter") else 403), answer.text
    refused = site.ask("plain", "GET", "mlflow", "/").json()
    assert refused["error"]["got"].startswith("no role") and refused["error_code"] == "PERMISSION_DENIED"
    assert "viewer or above" in refused["message"]
    assert "viewer or above" in site.ask("plain", "GET", "prefect", "/api/health").json()["detail"]
    admitted = site.noted(action="call.privileged", name="promoter", where=f"mlflow POST {path}")
    assert "name=ring version=3 alias=champion" in admitted["why"] and admitted["address"] == "127.0.0.1"
    done = site.noted(action="call.changed", name="promoter", where=f"mlflow POST {path}", status=200)
    assert done["why"].split("; ")[-1] == admitted["why"].split("; ")[-1]  # the same request id
    assert site.noted(action="call.refused", name="trainer", status=403)["key"] == site.keys["trainer"].split("_")[1]


def test_a_run_does_not_tell_a_worker_what_to_execute(site: Site) -> None:
    path, wish = "/api/flow_runs/", {"name": "a", "job_variables": {"command": "env"}}
    assert site.ask("trainer", "POST", "prefect", path, json={"name": "a"}).json()["num_bytes"] == 12
    assert "job_variables" in site.ask("promoter", "POST", "prefect", path, json=wish).json()["detail"]
    assert site.ask("operator", "POST", "prefect", path, json=wish).status_code == 200
    assert site.ask("trainer", "POST", "prefect", path, content=iter([json.dumps(wish).encode()])).status_code == 400


def test_what_another_sites_page_sends_is_refused(site: Site) -> None:
    path, own = "/api/2.0/mlflow/runs/create", f"http://127.0.0.1:{site.ports['mlflow']}"
    for headers in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": f"http://127.0.0.1:{site.ports['serving']}"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "cross-site", "origin": own},
    ):
        assert site.ask("trainer", "POST", "mlflow", path, headers=headers, json={}).status_code == 403
    allowed = site.ask(
        "trainer", "POST", "mlflow", path, headers={"origin": own, "sec-fetch-site": "same-origin"}, json={}
    )
    assert allowed.status_code == 200 and "origin" not in allowed.json()["headers"]
    assert site.ask("viewer", "GET", "mlflow", "/", headers={"sec-fetch-site": "cross-site"}).status_code == 200


@pytest.mark.parametrize("path", ["//", "/%2e%2e/x", "/api//2.0", "/a%5cb", "/a%0ab", "/x/%2E/y"])
def test_paths_that_servers_read_otherwise_do_not_pass(site: Site, path: str) -> None:
    with socket.create_connection(("127.0.0.1", site.ports["mlflow"])) as one:
        key = site.keys["operator"]
        one.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\nx-api-key: {key}\r\nconnection: close\r\n\r\n".encode())
        assert b" 400 " in one.recv(1000).partition(b"\r\n")[0]


def test_files_stream_through_whatever_their_size(site: Site) -> None:
    process, largest = psutil.Process(site.process.pid), 0
    digest = hashlib.sha256()

    def pieces() -> Iterator[bytes]:
        nonlocal largest
        for number in range(60):
            piece = bytes([number]) * 1_000_000
            digest.update(piece)
            largest = max(largest, process.memory_info().rss)
            yield piece

    before = process.memory_info().rss
    told = site.ask("trainer", "PUT", "mlflow", f"{FILES}/model.bin", content=pieces()).json()
    assert (told["num_bytes"], told["sha256"]) == (60_000_000, digest.hexdigest())
    received = hashlib.sha256()
    url = site.url("mlflow", f"{FILES}/large")
    with httpx.stream("GET", url, auth=("a", site.keys["viewer"]), timeout=30.0) as answer:
        assert answer.headers["content-length"] == "60000000"
        for piece in answer.iter_bytes():
            received.update(piece)
            largest = max(largest, process.memory_info().rss)
    assert received.hexdigest() == digest.hexdigest()
    assert largest - before < 30_000_000


def test_bodies_that_are_no_files_have_a_limit(site: Site) -> None:
    path = "/api/2.0/mlflow/runs/log-batch"
    assert site.ask("trainer", "POST", "mlflow", path, content=b"x" * 100_000).json()["num_bytes"] == 100_000
    assert site.ask("trainer", "POST", "mlflow", path, content=b"x" * 100_001).status_code == 413
    pieces = iter([b"x" * 60_000] * 2)
    assert site.ask("trainer", "POST", "mlflow", path, content=pieces).status_code == 413
    assert site.noted(action="call.refused", status=413, where=f"mlflow POST {path}")["name"] == "trainer"
    assert site.ask("trainer", "POST", "mlflow", f"{path}/early", content=b"x").status_code == 403
    assert site.ask("operator", "POST", "mlflow", f"{path}/early", content=b"x" * 90_000).status_code == 418


def test_a_client_that_goes_away_ends_the_answer_behind(site: Site) -> None:
    with httpx.stream("GET", site.url("mlflow", f"{FILES}/endless"), auth=("a", site.keys["viewer"])) as answer:
        next(answer.iter_bytes())
    deadline = time.monotonic() + 5
    while site.ask("viewer", "GET", "mlflow", f"{FILES}/gone").status_code != 200:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_addresses_inside_are_not_told_outside(site: Site) -> None:
    moved = site.ask("viewer", "GET", "mlflow", f"{FILES}/moved")
    assert moved.status_code == 307 and moved.headers["location"] == "/elsewhere?a=1"
    told = site.ask(
        "viewer", "GET", "prefect", "/ui-settings", headers={"host": f"traffic.example:{site.ports['prefect']}"}
    )
    assert (
        told.json()["api_url"] == f"http://traffic.example:{site.ports['prefect']}/api" and told.json()["auth"] is None
    )


def test_pages_say_who_is_here(site: Site) -> None:
    told = site.ask("promoter", "GET", "mlflow", "/ajax-api/2.0/mlflow/users/current").json()
    assert told["user"] == {"id": 1, "username": "promoter (promoter)"} and told["is_basic_auth"] is False


def test_serving_lies_below_its_products_name(site: Site) -> None:
    told = site.ask("plain", "POST", "serving", "/ring/models/a%20b/predict?with=quantiles", json={}).json()
    assert told["target"] == "/models/a%20b/predict?with=quantiles"
    assert base64.b64decode(told["headers"]["authorization"].split()[1]).decode() == f"anybody:{site.keys['plain']}"
    assert site.ask("viewer", "POST", "serving", "/ring/predict", json={}).status_code == 403
    assert site.ask("trainer", "POST", "serving", "/ring/predict", json={}).status_code == 200
    assert site.ask("trainer", "POST", "serving", "/ring/admin/swap", json={}).status_code == 403
    assert site.ask("trainer", "GET", "serving", "/ring").headers["location"] == "/ring/"
    assert "one of ring" in site.ask("trainer", "GET", "serving", "/ringo/").json()["error"]["expected"]
    page = site.ask("viewer", "GET", "serving", "/").text
    assert "<b>viewer</b>, as viewer" in page and "/ring/" in page and "<script" not in page


def test_a_changed_file_is_read_again_and_a_broken_one_is_not_believed(site: Site) -> None:
    path = site.folder / "gateway.json"
    before = path.read_text()
    known = json.loads(before)
    path.write_text(json.dumps({**known, "products": {**known["products"], "second": known["mlflow"]}}))
    assert site.ask("viewer", "GET", "serving", "/second/").status_code == 200
    path.write_text("{")
    assert site.ask("viewer", "GET", "serving", "/second/").status_code == 200
    path.write_text(before)
    assert site.ask("viewer", "GET", "serving", "/second/").status_code == 404


def test_a_revoked_key_is_out_at_once(site: Site) -> None:
    key = site.key("short", ("read",), "viewer")
    ask = {"headers": {"x-api-key": key}, "trust_env": False}
    assert httpx.get(site.url("mlflow", "/version"), **ask).status_code == 200  # type: ignore[arg-type]
    KeyFile(site.folder / "keys.json").revoke(key.split("_")[1], datetime.now(UTC))
    assert httpx.get(site.url("mlflow", "/version"), **ask).status_code == 401  # type: ignore[arg-type]


def test_a_server_that_is_down_is_said_to_be(site: Site) -> None:
    path = site.folder / "gateway.json"
    before = path.read_text()
    path.write_text(json.dumps({**json.loads(before), "mlflow": f"http://127.0.0.1:{free_port()}"}))
    try:
        down = site.ask("viewer", "GET", "mlflow", "/version")
        assert down.status_code == 502 and "mlflow does not answer" in down.text
        assert site.ask("", "GET", "serving", "/readyz").status_code == 503
    finally:
        path.write_text(before)


def test_counts_are_scraped_from_this_machine(site: Site) -> None:
    text = site.ask("", "GET", "serving", "/metrics").text
    assert 'roadworthy_gateway_requests_total{service="mlflow",status="200"}' in text
    assert 'roadworthy_gateway_refused_total{service="mlflow",status="403"}' in text
    elsewhere = {"x-forwarded-for": "10.0.0.9"}
    assert site.ask("", "GET", "serving", "/metrics", headers=elsewhere).status_code == 401
    assert site.ask("viewer", "GET", "serving", "/metrics", headers=elsewhere).text.startswith("# HELP")


def test_a_socket_is_opened_by_head_or_first_message_and_gets_our_token(site: Site) -> None:
    secrets = Secrets.model_validate_json((site.folder / "services.json").read_bytes())
    ours = f"roadworthy:{secrets.prefect.get_secret_value()}"
    own = {"type": "auth", "token": f"ann:{site.keys['viewer']}"}
    said = [own, {"type": "hello"}, {"close": 4001}]
    for key in ("", "viewer"):
        answers, code = asyncio.run(talk(site, "/api/events/out?a=1", said, key))
        assert answers[0] == {"heard": {"type": "auth", "token": ours}, "query": "a=1"}
        assert answers[1]["heard"] == {"type": "hello"} and code == 4001


def test_a_socket_is_refused_by_role_by_key_and_by_origin(site: Site) -> None:
    hello = [{"type": "auth", "token": "ann:nothing"}]
    assert asyncio.run(talk(site, "/api/events/in", hello, "viewer")) == ([], 403)
    assert asyncio.run(talk(site, "/api/events/out", hello, "wrong")) == ([], 403)
    assert asyncio.run(talk(site, "/api/events/out", hello, "viewer", origin="https://evil.example")) == ([], 403)
    assert asyncio.run(talk(site, "/api/events/out", hello)) == ([], 1008)
    assert asyncio.run(talk(site, "/api/events/in", [{"type": "auth", "token": site.keys["viewer"]}])) == ([], 1008)
    assert asyncio.run(talk(site, "/api/logs/out", [{"type": "hello"}])) == ([], 1008)
    assert site.noted(action="call.refused", name="viewer", where="prefect WEBSOCKET /api/events/in")["status"] == 403


def test_a_socket_ends_with_its_key(site: Site) -> None:
    key = site.key("leaving", ("read",), "viewer")

    async def leave() -> int | None:
        headers = {"authorization": f"Bearer {key}"}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(site.url("prefect", "/api/events/out"), protocols=("prefect",), headers=headers) as one,
        ):
            await one.send_json({"type": "auth", "token": ""})
            await one.receive(5)
            KeyFile(site.folder / "keys.json").revoke(key.split("_")[1], datetime.now(UTC))
            await one.receive(10)
            return one.close_code

    assert asyncio.run(leave()) == 1008


def test_the_trail_holds_and_shows_no_key(site: Site) -> None:
    assert Ledger(site.folder / "gateway.jsonl").verify() > 5
    text = (site.folder / "gateway.jsonl").read_text() + (site.folder / "gateway.log").read_text()
    assert not any(key.removeprefix("rw_").partition("_")[2] in text for key in site.keys.values() if "rw_" in key)
    assert not any(key in Path(f"/proc/{site.process.pid}/cmdline").read_text() for key in site.keys.values())
