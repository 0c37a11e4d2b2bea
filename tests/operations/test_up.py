"""The services profile: everything up and healthy, on generated secrets, and gone after `down`."""

import json
import stat

import httpx
import pytest

from tests.operations.conftest import Operations

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
NAMES = {"postgres", "s3", "prefect", "mlflow", "worker", "capture", "gateway", "hooks", "metrics", "ring/router"}


def test_every_service_runs_and_tells_its_address(operations: Operations) -> None:
    record = operations.ask("status")
    assert record["profile"] == "services"
    states = {item["name"]: item["state"] for item in record["services"]}
    assert states.keys() >= NAMES
    assert sum(name.startswith("ring/v") for name in states) >= 2  # replicas, of whichever version is live by now
    assert set(states.values()) == {"RUNNING"}
    assert all(set(item) == {"name", "state", "address"} for item in record["services"])


def test_the_servers_ask_who_is_there(operations: Operations) -> None:
    record = operations.ask("status")
    tracking = record["tracking_uri"]
    assert httpx.get(f"{tracking}/api/2.0/mlflow/registered-models/search").status_code == 401
    assert operations.ask("predict", "ring", "--url", f"http://127.0.0.1:{operations.place('serve')}")


def test_secrets_are_generated_and_only_the_owners_to_read(operations: Operations) -> None:
    path = operations.home / "keys" / "services.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    secrets = [value for name, value in json.loads(path.read_text()).items() if name != "s3_access_key"]  # a name
    assert len(secrets) >= 8
    public = [operations.home / "profile.json", *(operations.home / "run" / "logs").glob("*.log")]
    text = "".join(one.read_text(errors="replace") for one in public)
    assert not [secret for secret in secrets if secret in text]


def test_what_was_done_before_went_along_with_its_ids(operations: Operations) -> None:
    (promoted,) = [entry for entry in operations.ask("history", "ring") if entry["action"] == "promote"][:1]
    secrets = json.loads((operations.home / "keys" / "services.json").read_text())
    tracking = operations.ask("status")["tracking_uri"]
    with httpx.Client(base_url=tracking, auth=("roadworthy", secrets["mlflow"])) as client:
        wanted = {"run_id": promoted["details"]["run_id"]}
        run = client.get("/api/2.0/mlflow/runs/get", params=wanted).json()["run"]
        assert run["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
        files = client.get("/api/2.0/mlflow/artifacts/list", params=wanted).json()["files"]
        assert files
    assert operations.ask("doctor")["ok"]
