"""The local servers over a real product: a scheduled run by the worker, both UIs in a browser, nothing left behind."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

ROOT = Path(__file__).parents[2]
PICTURES = {"mlflow-version.png", "mlflow-run.png", "mlflow-charts.png", "prefect-run.png", "prefect-artifacts.png"}


@pytest.fixture(scope="module")
def running(road: Any) -> Iterator[Any]:
    assert road.run("forecast/stid")["promoted"]
    addresses = {item["name"]: item["url"] for item in road.ask("up")}
    assert set(addresses) == {"prefect", "mlflow", "serve-ring"}
    yield road
    road.ask("down")


@pytest.mark.services
def test_the_live_product_is_served(running: Any) -> None:
    url = f"http://127.0.0.1:{running.ports[2]}"
    answered = running.ask("predict", "ring", "--url", url)
    assert answered["model_version"] == "ring/1"
    states = {item["name"]: item["state"] for item in running.ask("status")["programs"]}
    assert set(states.values()) == {"RUNNING"}
    assert "worker" in states


@pytest.mark.services
def test_the_worker_executes_a_run_of_the_nightly_deployment(running: Any) -> None:
    api = f"http://127.0.0.1:{running.ports[1]}/api"
    found = httpx.get(f"{api}/deployments/name/retrain/nightly-freeway").json()
    assert found["schedules"][0]["schedule"]["cron"] == "0 2 * * *"
    parameters = {"recipe": "forecast/linear", "data": "ring", "product": "ring_nightly"}
    body = {"parameters": parameters, "state": {"type": "SCHEDULED"}}
    made = httpx.post(f"{api}/deployments/{found['id']}/create_flow_run", json=body).json()

    def state() -> str:
        return str(httpx.get(f"{api}/flow_runs/{made['id']}").json()["state"]["type"])

    running.wait_until(lambda: state() in ("COMPLETED", "FAILED", "CRASHED"), 150)
    assert state() == "COMPLETED"
    assert running.ask("live", "ring_nightly")[0]["version"] == 1
    inside = {"flow_runs": {"parent_flow_run_id": {"any_": [made["id"]]}}}
    (lifecycle,) = httpx.post(f"{api}/flow_runs/filter", json=inside).json()
    wanted = {"artifacts": {"flow_run_id": {"any_": [lifecycle["id"]]}}}
    kinds = {item["type"] for item in httpx.post(f"{api}/artifacts/filter", json=wanted).json()}
    assert {"markdown", "table", "progress"} <= kinds


@pytest.mark.browser
def test_both_uis_show_the_run_in_a_browser(running: Any, tmp_path: Path) -> None:
    script = [sys.executable, str(ROOT / "docs" / "screenshots.py"), "--out", str(tmp_path), "--product", "ring"]
    done = subprocess.run(script, env=running.environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {path.name for path in tmp_path.iterdir()} == PICTURES
    assert all(path.stat().st_size > 20_000 for path in tmp_path.iterdir())


@pytest.mark.services
def test_down_leaves_nothing_behind(running: Any) -> None:
    running.ask("down")
    left = [process for process in psutil.process_iter() if _belongs(process, running.home)]
    assert left == []
    assert running.ask("status")["programs"] == []


def _belongs(process: psutil.Process, home: Path) -> bool:
    try:
        return process.environ().get("ROADWORTHY_HOME") == str(home)
    except psutil.Error:
        return False
