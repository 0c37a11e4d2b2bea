"""Old runs that nothing needs go, rows and artifacts; what a ledger entry or a version names stays as a whole."""

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra import retention
from infra.database_size import database_bytes
from infra.ledger import Ledger
from infra.settings import Settings
from infra.tracking import TrackedRun, Tracking
from infra.tracking_store import artifact_folder

SOON = datetime.now(UTC) + timedelta(days=1)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def home(config: Settings) -> Tracking:
    return Tracking(config)


def lifecycle(tracking: Tracking, tmp_path: Path, key: str, step: str = "fit") -> tuple[TrackedRun, TrackedRun]:
    """A finished lifecycle of one step with a file of 100 kB."""
    parent = tracking.lifecycle_run("roads", key, {"a": 1})
    child = tracking.step_run(parent, step, f"{key}-{step}")
    (tmp_path / "weights").write_bytes(b"w" * 100_000)
    tracking.log_files(child.run_id, tmp_path / "weights")
    tracking.log_epochs(child.run_id, [{"number": number, "loss": 1.0 / (number + 1)} for number in range(200)])
    for run in (child, parent):
        tracking.finish(run.run_id)
    return parent, child


def test_what_is_needed_stays_and_the_rest_goes_in_two_stages(home: Tracking, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    _, named_child = kept = lifecycle(home, tmp_path, "kept")
    ledger.append("register", "roads", run_id=named_child.run_id)
    registered = lifecycle(home, tmp_path, "registered")
    home.client.create_registered_model("roads")
    home.client.create_model_version("roads", str(tmp_path), run_id=registered[0].run_id)
    unneeded = lifecycle(home, tmp_path, "unneeded")
    watched = lifecycle(home, tmp_path, "watched", step=retention.MONITOR)
    working = home.lifecycle_run("roads", "working", {})

    keep = retention.needed(home, ledger.entries())
    assert set(retention.old_runs(home, keep, LONG_AGO, LONG_AGO)) == set()
    assert set(retention.old_runs(home, keep, LONG_AGO, SOON)) == {run.run_id for run in watched}
    old = retention.old_runs(home, keep, SOON, SOON)
    assert set(old) == {run.run_id for run in (*unneeded, *watched)}
    assert retention.delete(home, old) == 4

    files = artifact_folder(home.config)
    size = sum(path.stat().st_size for path in files.rglob("*") if path.is_file())
    found = retention.deleted(home, keep, SOON)
    assert found is not None
    assert set(found.runs) == set(old)
    retention.remove(home, found)
    assert sum(path.stat().st_size for path in files.rglob("*") if path.is_file()) == size - 200_000
    left = {run.info.run_id for run in home.client.search_runs([kept[0].experiment_id])}
    assert left == {run.run_id for run in (*kept, *registered, working)}
    assert retention.deleted(home, keep, SOON) == retention.Removed((), ())


def test_a_needed_run_that_somebody_deleted_is_not_removed(home: Tracking, tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    parent, child = lifecycle(home, tmp_path, "kept")
    ledger.append("promote", "roads", run_id=parent.run_id)
    for run in (parent, child):
        home.client.delete_run(run.run_id)
    found = retention.deleted(home, retention.needed(home, ledger.entries()), SOON)
    assert found == retention.Removed((), ())


def test_the_database_stops_growing(home: Tracking, tmp_path: Path) -> None:
    num_pages = []
    for night in range(4):
        lifecycle(home, tmp_path, f"night {night}")
        retention.delete(home, retention.old_runs(home, frozenset(), SOON, SOON))
        found = retention.deleted(home, frozenset(), SOON)
        assert found is not None
        retention.remove(home, found)
        with sqlite3.connect(home.config.folder / "mlflow" / "mlflow.db") as connection:
            num_pages += connection.execute("PRAGMA page_count").fetchone()
    assert num_pages[-1] == num_pages[0]
    assert database_bytes(home.config)["mlflow"] > 0
    assert list(home.client.search_runs([home.experiment("roads")])) == []
