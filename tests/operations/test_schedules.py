"""The schedule of a services home: what is planned; a watch and a retention run by the worker."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from flows.schedules import DEPLOYMENTS

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]


def test_every_deployment_of_the_file_is_there_and_planned(operations: Any) -> None:
    wanted = {
        f"{one['flow_name']}/{one['name']}": one for one in yaml.safe_load(DEPLOYMENTS.read_text())["deployments"]
    }
    rows = {row["name"]: row for row in operations.ask("schedule", "list")}
    rows.pop("errand/chaos", None)  # another test's
    assert set(rows) == set(wanted)
    assert {name for name, row in rows.items() if row["when"] == "on demand"} == {
        name for name, one in wanted.items() if "schedules" not in one
    }
    assert operations.ask("schedule", "pause", "nightly-freeway")["state"] == "paused"
    assert {row["name"]: row["state"] for row in operations.ask("schedule", "list")}[
        "retrain/nightly-freeway"
    ] == "paused"
    assert operations.ask("schedule", "resume", "retrain/nightly-freeway")["state"] == "active"


def test_the_worker_watches_the_runs(operations: Any) -> None:
    words = ("schedule", "run", "watch-runs/minutely", "--wait", "--json")
    for _ in range(3):  # one that comes while the minute's own run is at it is cancelled
        ended = json.loads(operations.call(*words).stdout)
        if ended["state"] != "CANCELLED":
            break
    assert ended["state"] == "COMPLETED"
    record = operations.home / "ops" / "runs.json"
    assert datetime.now(UTC).timestamp() - record.stat().st_mtime < 60


def test_retention_reaches_both_databases(operations: Any) -> None:
    planned = operations.ask("retention", "--days", "0", "--undelete-days", "0", "--dry-run")
    assert planned["mlflow"]["kept_runs"] >= 1  # the live product's lifecycle
    assert operations.ask("schedule", "run", "retention/daily", "--wait")["state"] == "COMPLETED"
    assert min(operations.ask("retention", "--dry-run")["bytes"].values()) > 1_000_000
    assert operations.ask("live", "ring")[0]["version"] >= 1
