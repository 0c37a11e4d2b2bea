"""The permission matrix, walked against the real MLflow, Prefect and router; and that nobody deletes what is live."""

import asyncio
import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import aiohttp
import httpx
import pytest

from flows.access import keys_file
from infra.api_keys import KeyFile, issue
from infra.ledger import Entry, Ledger
from infra.roles import ROLES, VERBS_OF, includes
from services.gateway_matrix import MATRIX, MLFLOW, PREFECT, SERVING, SOCKET, Rule
from tests.operations.conftest import Operations

pytestmark = pytest.mark.services

PORT_OF = {MLFLOW: "mlflow", PREFECT: "prefect", SERVING: "gateway"}
ALIAS = "/api/2.0/mlflow/registered-models/alias"


def sample(pattern: str) -> str:
    """One path of a line: the first of each choice, and an id that nothing has."""
    first = re.sub(r"\{([^,}]*)[^}]*\}", r"\1", pattern)
    return first.replace("**", "none/none").replace("*", "00000000-0000-0000-0000-000000000000")


LINES = [
    (service, method, sample(line.pattern), line)
    for service, lines in MATRIX.items()
    for line in lines
    for method in line.methods.split()
]
NOBODYS = Rule("operator", "", "")
LINES += [
    (MLFLOW, "POST", "/api/2.0/mlflow/nothing/known", NOBODYS),
    (MLFLOW, "GET", "/api/9.0/mlflow/nothing", NOBODYS),
    (PREFECT, "POST", "/api/nothing/known", NOBODYS),
    (PREFECT, "DELETE", "/api/flow_runs/00000000-0000-0000-0000-000000000000", NOBODYS),
    (PREFECT, "GET", "/api/nothing", NOBODYS),
]


@pytest.fixture(scope="module")
def keys(operations: Operations) -> dict[str, str]:
    """A key for each role; the command that people use takes seconds each."""
    made = {role: issue(f"walk-{role}", VERBS_OF[role], datetime.now(UTC), role=role) for role in ROLES}  # type: ignore[arg-type]
    for record, _ in made.values():
        KeyFile(keys_file(operations.home)).add(record)
    return {role: key for role, (_, key) in made.items()}


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client(trust_env=False, timeout=60.0) as one:
        yield one


def url(operations: Operations, service: str, path: str) -> str:
    return f"http://127.0.0.1:{operations.place(PORT_OF[service])}{path}"


def is_refused(answer: httpx.Response) -> bool:
    """Whether the gateway's own role check answered, not the server behind it."""
    if answer.status_code != 403:
        return False
    told = json.loads(answer.content)
    return isinstance(told, dict) and told.get("error", {}).get("where") in ("role", "authorization")


@pytest.mark.parametrize("role", ROLES)
def test_every_line_opens_from_its_role_on(
    operations: Operations, keys: dict[str, str], client: httpx.Client, role: str
) -> None:
    wrong, headers = [], {"x-api-key": keys[role]}
    for service, method, path, line in LINES:
        if method == SOCKET or (includes(role, line.role) and role != line.role):
            continue  # who may more may this too: tests/infra/test_roles.py
        body = None if method == "GET" else {}
        answer = client.request(method, url(operations, service, path), headers=headers, json=body)
        if is_refused(answer) is includes(role, line.role) or answer.status_code in (401, 502, 503):
            wrong.append((service, method, path, line.role, answer.status_code, answer.text[:200]))
    assert not wrong


@pytest.mark.parametrize("role", ROLES)
def test_sockets_open_by_role(operations: Operations, keys: dict[str, str], role: str) -> None:
    async def opens(path: str) -> bool:
        headers = {"authorization": f"Bearer {keys[role]}"}
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(
                    url(operations, PREFECT, path), protocols=("prefect",), headers=headers
                ) as one:
                    await one.send_json({"type": "auth", "token": "whatever"})
                    return bool((await one.receive_json(timeout=20))["type"] == "auth_success")
            except aiohttp.WSServerHandshakeError:
                return False

    lines = [(path, line) for service, method, path, line in LINES if method == SOCKET]
    assert len(lines) == 2
    for path, line in lines:
        for spelled in {path, path.replace("events/out", "logs/out")}:
            assert asyncio.run(opens(spelled)) is includes(role, line.role)


@pytest.mark.parametrize("role", ROLES)
def test_serving_opens_by_the_roles_verbs(
    operations: Operations, keys: dict[str, str], client: httpx.Client, role: str
) -> None:
    headers = {"x-api-key": keys[role]}
    for method, path, verb in (
        ("GET", "/ring/", "read"), ("GET", "/ring/docs.json", "read"), ("GET", "/ring/v2/models/ring", "read"),
        ("POST", "/ring/predict", "predict"), ("POST", "/ring/v2/models/ring/infer", "predict"),
        ("POST", "/ring/explain", "explain"), ("POST", "/ring/admin/swap", "operate"),
    ):  # fmt: skip
        answer = client.request(method, url(operations, SERVING, path), headers=headers, json={})
        assert is_refused(answer) is (verb not in VERBS_OF[role]), (path, answer.status_code, answer.text)
        assert verb == "operate" or is_refused(answer) or answer.headers["x-served-by"]


def test_what_is_live_is_not_deleted_by_an_operator_either(
    operations: Operations, keys: dict[str, str], client: httpx.Client
) -> None:
    ask: Any = {"headers": {"x-api-key": keys["operator"]}}
    api = url(operations, MLFLOW, "/api/2.0/mlflow")
    shown = client.get(f"{api}/registered-models/get", params={"name": "ring"}, **ask).json()["registered_model"]
    live = {one["alias"]: one["version"] for one in shown["aliases"]}["champion"]
    for method, path, body in (
        ("DELETE", "model-versions/delete", {"name": "ring", "version": live}),
        ("DELETE", "registered-models/delete", {"name": "ring"}),
        ("POST", "registered-models/rename", {"name": "ring", "new_name": "rang"}),
    ):
        refused = client.request(method, f"{api}/{path}", json=body, **ask)
        assert refused.status_code == 409 and "champion" in refused.json()["message"], refused.text
    doubled = json.dumps(json.dumps({"name": "ring", "version": live}))  # MLflow reads this too
    headers = {**ask["headers"], "content-type": "application/json"}
    refused = client.request("DELETE", f"{api}/model-versions/delete", content=doubled, headers=headers)
    assert refused.status_code == 400
    assert client.get(f"{api}/model-versions/get", params={"name": "ring", "version": live}, **ask).status_code == 200


def test_mlflows_own_client_comes_in_with_a_key_as_password(operations: Operations, keys: dict[str, str]) -> None:
    api, auth = url(operations, MLFLOW, "/api/2.0/mlflow"), ("ann", keys["trainer"])
    made = httpx.post(f"{api}/runs/create", json={"experiment_id": "0"}, auth=auth).json()["run"]["info"]
    content = b"measured " * 100_000
    path = made["artifact_uri"].removeprefix("mlflow-artifacts:")
    file = url(operations, MLFLOW, f"/api/2.0/mlflow-artifacts/artifacts{path}/notes.txt")
    assert httpx.put(file, content=content, auth=auth).status_code == 200
    assert httpx.get(file, auth=("ann", keys["viewer"])).content == content
    trail = Ledger(operations.home / "audit" / "gateway.jsonl")
    operations.wait_until(lambda: any(is_upload(entry) for entry in trail.entries()), 10)
    assert trail.verify()


def is_upload(entry: Entry) -> bool:
    """Whether an entry of the trail says that the trainer put a file there."""
    said = entry.details
    return (said.get("name"), said.get("verb"), said.get("status")) == ("walk-trainer", "PUT", 200)
