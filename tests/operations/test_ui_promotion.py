"""An alias set in MLflow: judged, rolled out or put back, and nobody else at work.

Set in the UI itself where Chromium is installed, else by a client as the UI does it.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.operations import mlflow_ui
from tests.operations.conftest import Operations

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
ROOT = Path(__file__).parents[2]
PATIENCE_S = 240.0
# Two more versions without training: the live parcel under new evidence, and the parcel of a baseline.
REGISTER = """
import json, sys
from flows.promote import evaluation_of
from flows.workshop import open_workshop
from infra.promotion import Evidence, standing
shop = open_workshop()
live = standing(shop.ledger.entries("ring")).live
tags = shop.registry.version_tags(live)
run = shop.registry.history("ring")[0].details["run_id"]
made = []
for name, digest in (("again", live.digest), ("last_value", evaluation_of(shop, live)["parcels"]["last_value"])):
    ref = shop.registry.register(
        "ring", digest=digest, source=f"runs:/{run}/{name}", run_id=run, evidence=Evidence(name, True),
        description="# The card", tags={"roadworthy.evaluation": tags["roadworthy.evaluation"]},
    )
    made.append(ref.version)
print(json.dumps(made))
"""


@pytest.fixture(scope="module")
def mlflow(operations: Operations) -> Iterator[httpx.Client]:
    """MLflow's REST API through the gateway, as a promoter; her roll-outs are short ones."""
    key = operations.ask("key", "create", "promoter of the test", "--role", "promoter")["key"]
    url = f"http://127.0.0.1:{operations.place('mlflow')}/api/2.0/mlflow"
    with httpx.Client(base_url=url, headers={"x-api-key": key}, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def versions(operations: Operations) -> tuple[int, int]:
    """One that is as good as the live one, and one that is not; and roll-outs take a second."""
    script = [sys.executable, "-c", REGISTER]
    done = subprocess.run(script, env=operations.environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    good, bad = (int(number) for number in done.stdout.strip("[]\n").split(","))
    api = f"http://127.0.0.1:{operations.place('prefect')}/api"
    headers = {"x-api-key": (operations.home / "keys" / "local.key").read_text()}
    with httpx.Client(base_url=api, headers=headers, timeout=60) as prefect:
        found = prefect.get("/deployments/name/promote-from-ui/alias").json()
        quick = {"dwell_s": 0.5, "canary": [100.0], "min_requests": 5, "max_latency_ratio": 100.0}
        assert prefect.patch(f"/deployments/{found['id']}", json={"parameters": {"plan": quick}}).is_success
    return good, bad


def set_champion(mlflow: httpx.Client, version: int) -> None:
    body = {"name": "ring", "alias": "champion", "version": str(version)}
    assert mlflow.post("/registered-models/alias", json=body).is_success


def champion(mlflow: httpx.Client) -> int:
    model = mlflow.get("/registered-models/get", params={"name": "ring"}).json()["registered_model"]
    return next(int(one["version"]) for one in model["aliases"] if one["alias"] == "champion")


def page(mlflow: httpx.Client, version: int) -> dict[str, Any]:
    asked = {"name": "ring", "version": str(version)}
    found: dict[str, Any] = mlflow.get("/model-versions/get", params=asked).json()["model_version"]
    return found


def test_a_worse_version_is_put_back_with_the_reason_on_its_page(
    operations: Operations, mlflow: httpx.Client, versions: tuple[int, int]
) -> None:
    before, bad = champion(mlflow), versions[1]
    site = f"http://127.0.0.1:{operations.place('mlflow')}"
    if mlflow_ui.CHROMIUM:
        with mlflow_ui.version_page(site, mlflow.headers["x-api-key"], "ring", bad) as shown:
            mlflow_ui.set_alias(shown, "champion")
    else:
        set_champion(mlflow, bad)
    operations.wait_until(lambda: champion(mlflow) == before, PATIENCE_S)
    found = page(mlflow, bad)
    assert found["description"].startswith("> **Not promoted** (")
    tags = {one["key"]: one["value"] for one in found["tags"]}
    assert "does not beat last_value" in tags["roadworthy.refused"]
    restored = [one for one in operations.ask("history", "ring") if one["action"] == "alias_restored"][-1]
    assert restored["details"]["found"] == bad and "does not beat" in restored["details"]["reason"]
    assert operations.ask("live", "ring")[0]["version"] == before


def test_a_version_that_holds_is_promoted_and_answers(
    operations: Operations, mlflow: httpx.Client, versions: tuple[int, int]
) -> None:
    good = versions[0]
    set_champion(mlflow, good)
    url = f"http://127.0.0.1:{operations.place('serve')}"

    def answers() -> bool:
        return bool(operations.ask("predict", "ring", "--url", url)["model_version"] == f"ring/{good}")

    operations.wait_until(lambda: operations.ask("live", "ring")[0]["version"] == good, PATIENCE_S)
    operations.wait_until(answers, PATIENCE_S)
    moves = [one for one in operations.ask("history", "ring") if one["action"] in ("promote", "roll_out")]
    promoted = [one for one in moves if one["action"] == "promote"][-1]
    assert promoted["details"]["asked"] == "alias champion set in MLflow"
    assert champion(mlflow) == good and operations.ask("doctor")["ok"]
