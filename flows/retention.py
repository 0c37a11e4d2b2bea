"""Keeps the databases bounded: what nothing needs goes from MLflow and Prefect.

What a ledger entry or a registered version names stays for ever. Prefect's own vacuum removes other flow runs with
their logs and artifacts after 90 days and events after 7; the runs of every minute would be 130 000 by then, so their
successes go after a day. PostgreSQL's autovacuum and SQLite use the room again.
"""

import json
from datetime import timedelta
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter

from flows import schedules, schedules_apply
from flows.workshop import Workshop, now, open_workshop
from infra import retention as runs
from infra.atomic import write_atomic
from infra.collect import collecting
from infra.database_size import database_bytes
from infra.ready import wait_for
from infra.servers import prefect_api

RECORD = "ops/retention.json"
KEEP_DAYS, KEEP_MONITOR_DAYS, UNDELETE_DAYS = 90, 30, 7
ROUTINE_DAYS = {"watch-runs/minutely": 1, "watch-aliases/often": 1, "monitor/hourly": 30}
SERVER_S = 2.0
AT_ONCE = 50  # the server deletes so many in one call


@flow(name="retention")
def retention(
    days: float = KEEP_DAYS, monitor_days: float = KEEP_MONITOR_DAYS, undelete_days: float = UNDELETE_DAYS
) -> dict[str, Any]:
    """Remove what is old and not needed.

    1. MLflow: lifecycles older than `days` (monitoring: `monitor_days`) are deleted; they can be brought back
    2. MLflow: what was deleted `undelete_days` ago goes for good, rows and artifacts
    3. Prefect: successes of routine flows
    """
    return tidy(open_workshop(), days, monitor_days, undelete_days)


def tidy(
    shop: Workshop,
    days: float = KEEP_DAYS,
    monitor_days: float = KEEP_MONITOR_DAYS,
    undelete_days: float = UNDELETE_DAYS,
    *,
    dry_run: bool = False,
) -> dict[str, Any]:
    """What went, or with `dry_run` would go, and how large the databases are; kept in HOME/ops/retention.json."""
    record: dict[str, Any] = {"time": now().isoformat(timespec="seconds"), "dry_run": dry_run}
    record["mlflow"] = _tidy_mlflow(shop, days, monitor_days, undelete_days, dry_run)
    record["prefect"] = _tidy_prefect(shop, dry_run)
    record["bytes"] = database_bytes(shop.config)
    if not dry_run:
        write_atomic(shop.home / RECORD, json.dumps(record, indent=1).encode())
    return record


def _tidy_mlflow(
    shop: Workshop, days: float, monitor_days: float, undelete_days: float, dry_run: bool
) -> dict[str, Any]:
    tracking = shop.tracking
    keep = runs.needed(tracking, shop.ledger.entries())
    old = runs.old_runs(tracking, keep, now() - timedelta(days=days), now() - timedelta(days=monitor_days))
    if not dry_run:
        runs.delete(tracking, old)
    with collecting(shop.home):
        gone = runs.deleted(tracking, keep, now() - timedelta(days=undelete_days))
        if gone is not None and not dry_run:
            runs.remove(tracking, gone)
    return {
        "kept_runs": len(keep),
        "deleted_runs": len(old),
        "removed_runs": len(gone.runs) if gone else 0,
        "removed_models": len(gone.models) if gone else 0,
        "note": "" if gone else "another server's database: run `mlflow gc` there",
    }


def _tidy_prefect(shop: Workshop, dry_run: bool) -> dict[str, Any]:
    api = prefect_api(shop.config)
    if not wait_for(f"{api}/health", SERVER_S):
        return {"removed_runs": 0, "note": f"no Prefect server answers at {api}"}
    removed = 0
    with schedules.prefect_client(api) as client:
        for deployment in schedules_apply.ours(client):
            name = schedules_apply.full_name(client, deployment)
            if name in ROUTINE_DAYS:
                end = now() - timedelta(days=ROUTINE_DAYS[name])
                wanted = {
                    "deployment_id": {"any_": [str(deployment.id)]},
                    "state": {"type": {"any_": ["COMPLETED", "CANCELLED"]}},
                    "end_time": {"before_": end.isoformat()},
                }
                removed += _count(client, wanted) if dry_run else _remove(client, wanted)
    return {"removed_runs": removed, "note": ""}


def _count(client: SyncPrefectClient, wanted: dict[str, Any]) -> int:
    return client.count_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))


def _remove(client: SyncPrefectClient, wanted: dict[str, Any]) -> int:
    """Delete page after page; the server removes their logs."""
    num_removed = 0
    while True:
        body = {"flow_runs": wanted, "limit": AT_ONCE}
        gone = client.request("POST", "/flow_runs/bulk_delete", json=body).json()["deleted"]  # type: ignore[arg-type]
        num_removed += len(gone)
        if len(gone) < AT_ONCE:
            return num_removed
