"""The eyes of the running platform: everything is scraped, no fact is missing, and the status draws it."""

import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.infra.test_prometheus import alerts, expressions
from tests.operations.conftest import Operations

pytestmark = [pytest.mark.services, pytest.mark.timeout(600)]
JOBS = {"prometheus": 1, "metrics": 1, "gateway": 1, "router": 1, "service": 2}
DRAW = "from flows.status import watch; from flows.workshop import open_workshop; watch(open_workshop(), num_looks=1)"


def query(operations: Operations, expression: str) -> list[dict[str, Any]]:
    url = f"http://127.0.0.1:{operations.place('prometheus')}/api/v1/query"
    found: list[dict[str, Any]] = httpx.get(url, params={"query": expression}).json()["data"]["result"]
    return [{**one["metric"], "value": float(one["value"][1])} for one in found]


def test_everything_that_runs_is_scraped(operations: Operations) -> None:
    def counts() -> dict[str, int]:
        return {one["job"]: int(one["value"]) for one in query(operations, "sum by (job) (up)")}

    operations.wait_until(lambda: counts() == JOBS, 60)
    (live,) = query(operations, 'roadworthy_live_info{product="ring"}')
    (served,) = query(operations, "count by (version, digest) (roadworthy_model_info)")
    assert live["version"] == served["version"] and served["digest"].startswith(live["digest"])


def test_no_fact_is_missing(operations: Operations) -> None:
    operations.wait_until(lambda: bool(query(operations, "roadworthy_facts_ok")), 60)
    assert query(operations, "roadworthy_facts_ok == 0") == []
    assert {one["database"] for one in query(operations, "roadworthy_database_bytes > 1e6")} == {"mlflow", "prefect"}
    assert query(operations, "roadworthy_ledger_ok")[0]["value"] == 1
    assert query(operations, "roadworthy_program_up == 0") == []
    assert {one["state"] for one in query(operations, "roadworthy_flow_runs")} >= {"running", "late", "failed_24h"}


def test_every_expression_is_answered(operations: Operations) -> None:
    for one in (*expressions(), *(alert["expr"] for alert in alerts())):
        url = f"http://127.0.0.1:{operations.place('prometheus')}/api/v1/query"
        assert httpx.get(url, params={"query": one}).json()["status"] == "success", one


def test_the_status_draws_it(operations: Operations) -> None:
    command = [sys.executable, "-c", DRAW]
    done = subprocess.run(command, env=operations.environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    states = {words[0]: words[1] for words in lines if len(words) > 1}
    assert {states[name] for name in ("postgres", "s3", "prefect", "mlflow", "metrics", "prometheus")} == {"RUNNING"}
    assert states["ring"] == "1"
    assert "chain holds" in done.stdout and "cannot be read" not in done.stdout
