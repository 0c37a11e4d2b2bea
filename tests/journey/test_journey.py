"""The whole way, as a stranger goes it: data, run, refusal, promotion, rollback, a moved alias, an answered request.

The tests of this file build on each other, in order.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

pytestmark = pytest.mark.services

OUTCOMES: dict[str, Any] = {}


def actions(road: Any, name: str) -> list[dict[str, Any]]:
    return [entry for entry in road.ask("history", "ring") if entry["action"] == name]


def test_a_run_ends_in_a_promoted_packaged_model(road: Any) -> None:
    outcome = road.run("forecast/stid")
    OUTCOMES["first"] = outcome
    assert outcome["verdict"] == "promoted"
    baselines = {"last_value", "profile", "linear", "boosted_trees"}
    students = {"student_hard", "student_distilled", "student_pruned", "student_int8", "student_pruned_int8"}
    assert baselines | students | {"teacher"} == set(outcome["metrics"])
    mae = {name: metrics["mae"] for name, metrics in outcome["metrics"].items()}
    assert mae[outcome["candidate"]] < min(mae["last_value"], mae["profile"])
    assert Path(outcome["bento_path"], "bento.yaml").exists()
    assert [entry["details"]["version"] for entry in actions(road, "promote")] == [1]


def test_the_same_run_again_does_nothing(road: Any) -> None:
    again = road.run("forecast/stid")
    assert {**again, "seconds": 0} == {**OUTCOMES["first"], "seconds": 0}
    assert len(actions(road, "promote")) == 1


def test_a_baseline_is_registered_and_refused(road: Any) -> None:
    outcome = road.run("forecast/last_value", status=3)
    assert outcome["verdict"] == "refused"
    assert outcome["candidate"] == "last_value"
    assert any("does not beat last_value" in reason for reason in outcome["reasons"])
    assert outcome["model_version"] == 2
    assert road.ask("live", "ring")[0]["version"] == 1


def test_a_worse_model_cannot_be_promoted_by_hand(road: Any) -> None:
    record = road.ask("promote", "ring", "--version", "2", status=3)
    assert record["verdict"] == "refused"
    assert record["reasons"]
    assert road.ask("live", "ring")[0]["version"] == 1


def test_what_is_live_cannot_be_deleted_and_what_is_not_can(road: Any) -> None:
    refused = road.ask("delete", "ring", "1", status=1)
    assert "live" in refused["message"]
    road.ask("delete", "ring", "2")
    assert [entry["details"]["version"] for entry in actions(road, "delete")] == [2]


def test_an_alias_moved_behind_our_back_is_found_undone_and_recorded(road: Any) -> None:
    assert road.ask("doctor")["ok"]
    move = (
        "from mlflow import MlflowClient; import sys;"
        "client = MlflowClient(sys.argv[1]); client.delete_registered_model_alias('ring', 'champion')"
    )
    uri = f"sqlite:///{road.home / 'mlflow' / 'mlflow.db'}"
    subprocess.run([sys.executable, "-c", move, uri], check=True, env={**road.environment, "MLFLOW_TRACKING_URI": uri})
    found = road.ask("doctor", status=1)
    assert [problem["kind"] for problem in found["problems"]] == ["alias_moved"]
    assert road.ask("doctor", "--fix")["ok"]
    assert road.ask("doctor")["ok"]
    assert len(actions(road, "alias_restored")) == 1


def test_a_retrained_model_replaces_it_and_a_rollback_brings_it_back(road: Any) -> None:
    second = road.run("forecast/stid", **{"train.seed": 8, "train.num_epochs": 5})
    assert second["verdict"] == "promoted"
    assert any("champion" in reason for reason in second["reasons"])
    assert road.ask("live", "ring")[0]["version"] == second["model_version"]
    before = actions(road, "promote")[0]["time"]
    assert road.ask("live", "ring", "--at", before)[0]["version"] == 1
    assert road.ask("rollback", "ring")["version"] == 1
    assert road.ask("live", "ring")[0]["version"] == 1


def test_the_served_champion_answers_and_refuses(road: Any) -> None:
    port = road.free_port()
    server = road.start("serve", "ring", "--port", str(port))
    url = f"http://127.0.0.1:{port}"
    try:
        road.wait_until(lambda: httpx.get(f"{url}/readyz").is_success, 90)
        answered = road.ask("predict", "ring", "--url", url)
        here = road.ask("predict", "ring")
        assert answered["predictions"] == here["predictions"]
        assert answered["units"] == "km/h"
        assert answered["model_version"] == "ring/1"
        assert answered["prediction_id"]
        body = {"data": [[1.0, 2.0]], "time": "2024-05-29T10:00:00"}
        assert httpx.post(f"{url}/predict", json=body).status_code == 401
        key = road.ask("key", "create", "journey", "--models", "ring")["key"]
        wrong = httpx.post(f"{url}/predict", json=body, headers={"x-api-key": key})
        assert wrong.status_code == 422
        assert "expected" in wrong.text
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
    again = road.ask("reproduce", answered["prediction_id"])
    assert (again["verdict"], again["data"]["present"]) == ("equal", True)
    assert road.ask("audit", "verify")["ok"]
    assert road.ask("verify", "ring")["verified"]


def test_killed_in_the_middle_of_training_it_goes_on_and_promotes_once(road: Any) -> None:
    settings = {"data.horizon_steps": 4, "train.seed": 11, "train.num_epochs": 12, "train.patience": 12}
    words = ["run", "forecast/stid", "--data", "ring", "--product", "ring_killed", "--json"]
    words += [f"--set={key}={value}" for key, value in settings.items()]
    killed = road.start(*words)
    fits = road.home / "work" / "fit"
    road.wait_until(lambda: any(fits.glob("*/checkpoint.safetensors")), 120)
    time.sleep(1)
    os.kill(killed.pid, signal.SIGKILL)  # it alone: what it started is left behind, and swept by the next run
    killed.wait()
    held = {path.parent.name for path in fits.glob("*/checkpoint.safetensors")}
    assert held
    outcome = json.loads(road.call(*words).stdout)
    assert outcome["verdict"] in ("promoted", "refused")
    assert not list(fits.glob("*/checkpoint.safetensors"))
    assert not [process for process in psutil.process_iter() if _is_of(process, road.home)]
    entries = road.ask("history", "ring_killed")
    assert len([entry for entry in entries if entry["action"] == "register"]) == 1
    assert len([entry for entry in entries if entry["action"] == "promote"]) <= 1
    assert road.ask("doctor")["ok"]


def _is_of(process: psutil.Process, home: Path) -> bool:
    """Whether a run in this HOME started it."""
    try:
        return process.environ().get("ROADWORTHY_RUN", "").startswith(f"{home}|")
    except psutil.Error:
        return False
