"""The whole loop, nobody at work: traffic shifts, the monitor alarms, a retraining passes its gates and goes live."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from tests.operations.conftest import Operations

pytestmark = [pytest.mark.services, pytest.mark.timeout(900)]
SLOTS, SENSORS, PAST_STEPS = 96, 6, 12
PATIENCE_S = 600.0
ROOT = Path(__file__).parents[2]
# Other tests asked this product odd questions; none of them is traffic.
FORGET = """
from flows.workshop import open_workshop
store = open_workshop().store
for one in [*store.list("captures/ring"), *store.list("alarms")]:
    store.delete(one.key)
"""


def readings(num_steps: int, first_slot: int, seed: int, *, shifted: bool) -> NDArray[np.float64]:
    """(S, 6) km/h of the road `ring`; shifted: a lane is closed for good, the jams last longer and all is slower."""
    random = np.random.default_rng(seed)
    slot = (first_slot + np.arange(num_steps)) % SLOTS
    wide = 3.0 if shifted else 1.0
    rush = np.exp(-((slot - 32) ** 2) / (40 * wide)) + np.exp(-((slot - 70) ** 2) / (60 * wide))
    shock = np.zeros(num_steps)
    for step in range(1, num_steps):
        shock[step] = 0.9 * shock[step - 1] + random.normal(0, 0.12)
    level = 82 if shifted else 100
    speeds = np.stack(
        [level - 35 * np.roll(rush * (1 + shock), 2 * lag) + 9 * np.roll(shock, 2 * lag) for lag in range(SENSORS)]
    )
    return (speeds + random.normal(0, 1.5, speeds.shape)).clip(5, 130).round(2)[::-1].T


def url(operations: Operations) -> str:
    """The router's."""
    return f"http://127.0.0.1:{operations.place('serve')}"


def ask(operations: Operations, until: datetime, seed: int, *, shifted: bool) -> None:
    """A day of requests that ends then, one for every 15 minutes, as a client would have sent them."""
    key = (operations.home / "keys" / "local.key").read_text()
    last = until.replace(minute=until.minute // 15 * 15, second=0, microsecond=0)
    first = last - timedelta(minutes=15 * (SLOTS + PAST_STEPS - 1))
    values = readings(SLOTS + PAST_STEPS, first.hour * 4 + first.minute // 15, seed, shifted=shifted)
    with httpx.Client(base_url=url(operations), headers={"x-api-key": key}, timeout=60) as client:
        for place in range(SLOTS):
            window = values[place : place + PAST_STEPS]
            at = first + timedelta(minutes=15 * (place + PAST_STEPS - 1))
            body = {"data": {"time": at.strftime("%Y-%m-%dT%H:%M:%S"), "values": window.tolist()}}
            answer = client.post("/predict", json=body)
            assert answer.status_code == 200, answer.text
            time.sleep(0.03)  # at most 50 a second are captured


def bring_new_weeks(operations: Operations, folder: Path) -> None:
    """The data set holds from now on what the road is like since the lane was closed."""
    old, new = readings(SLOTS * 7, 0, 11, shifted=False), readings(SLOTS * 35, 0, 12, shifted=True)
    values = np.concatenate([old, new])
    pl.DataFrame({f"s{place}": column for place, column in enumerate(values.T)}).write_csv(folder / "ring.csv")
    words = ("--cadence", "15min", "--unit", "km/h", "--start", "2024-05-06")
    operations.ask("data", "add", "ring", "--wide", str(folder / "ring.csv"), *words)


def forget_what_was_asked(operations: Operations) -> None:
    operations.ask("capture", "ship", "ring", "--now")
    script = [sys.executable, "-c", FORGET]
    done = subprocess.run(script, env=operations.environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def make_quick(operations: Operations) -> None:
    """Shadow and canary of a second each."""
    key = (operations.home / "keys" / "local.key").read_text()
    api = f"http://127.0.0.1:{operations.place('prefect')}/api"
    with httpx.Client(base_url=api, headers={"x-api-key": key}, timeout=60) as prefect:
        found = prefect.get("/deployments/name/retrain/on-drift").json()
        body = {"parameters": {**found["parameters"], "shadow_s": 1.0, "dwell_s": 1.0}}
        assert prefect.patch(f"/deployments/{found['id']}", json=body).is_success


def live_version(operations: Operations) -> Any:
    return operations.ask("live", "ring")[0]["version"]


def test_a_shift_of_the_traffic_ends_with_a_better_model_on_the_road(operations: Operations, tmp_path: Path) -> None:
    make_quick(operations)
    forget_what_was_asked(operations)
    before, now = live_version(operations), datetime.now(UTC)
    ask(operations, now - timedelta(days=1), 21, shifted=False)
    operations.ask("capture", "ship", "ring", "--now")
    (quiet,) = operations.ask("monitor", "ring")
    assert (quiet["verdict"], quiet["alarm"]) == ("no retraining needed", False), quiet
    bring_new_weeks(operations, tmp_path)
    ask(operations, now, 22, shifted=True)
    operations.ask("capture", "ship", "ring", "--now")
    (found,) = operations.ask("monitor", "ring")
    assert (found["verdict"], found["alarm"]) == ("retraining needed", True), found
    Operations.wait_until(lambda: live_version(operations) != before, PATIENCE_S)
    Operations.wait_until(lambda: _deployed(operations) == live_version(operations), 120.0)
    entry = next(one for one in operations.ask("history", "ring")[::-1] if one["action"] == "promote")
    assert entry["details"]["version"] == live_version(operations)


def _deployed(operations: Operations) -> Any:
    """The version that clients get."""
    key = (operations.home / "keys" / "local.key").read_text()
    window = readings(PAST_STEPS, 0, 1, shifted=True).tolist()
    body = {"data": {"time": "2026-01-05T12:00:00", "values": window}}
    answer = httpx.post(f"{url(operations)}/predict", json=body, headers={"x-api-key": key}, timeout=30)
    assert answer.status_code == 200, answer.text
    return int(str(answer.json()["model_version"]).rpartition("/")[2])
