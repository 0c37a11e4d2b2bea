"""What `roadworthy schedule` does: ask a running Prefect server, and tell it."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.client.schemas.sorting import FlowRunSort

from flows import schedules, schedules_apply
from flows.options import UsageError
from flows.workshop import Workshop
from infra.ready import wait_for
from infra.servers import prefect_api

SERVER_S = 3.0
PAUSE_S = 0.3


def listed(shop: Workshop) -> list[dict[str, Any]]:
    """One row for each deployment, by name."""
    with _server(shop) as client:
        rows = [_row(client, one) for one in schedules_apply.ours(client)]
    return sorted(rows, key=lambda row: str(row["name"]))


def pause(shop: Workshop, name: str, *, is_paused: bool) -> dict[str, str]:
    """Pause or resume it; raises UsageError for an unknown name."""
    with _server(shop) as client:
        full, deployment = _find(client, name)
        if is_paused:
            client.pause_deployment(deployment.id)
        else:
            client.resume_deployment(deployment.id)
    return {"name": full, "state": "paused" if is_paused else "active"}


def run_now(shop: Workshop, name: str, *, wait: bool = False) -> dict[str, str]:
    """Have the worker run it; with `wait` returns when it ended. Raises UsageError for an unknown name."""
    with _server(shop) as client:
        full, deployment = _find(client, name)
        run = client.create_flow_run_from_deployment(deployment.id)
        while wait and not (run.state and run.state.is_final()):
            time.sleep(PAUSE_S)
            run = client.read_flow_run(run.id)
    return {
        "name": full,
        "id": str(run.id),
        "state": run.state_type.value if run.state_type else "",
        "message": (run.state.message or "") if run.state else "",
    }


@contextmanager
def _server(shop: Workshop) -> Iterator[SyncPrefectClient]:
    api = prefect_api(shop.config)
    if not wait_for(f"{api}/health", SERVER_S):
        raise UsageError(f"no Prefect server answers at {api}; start it: roadworthy up")
    with schedules.prefect_client(api) as client:
        yield client


def _find(client: SyncPrefectClient, name: str) -> tuple[str, DeploymentResponse]:
    known = {schedules_apply.full_name(client, one): one for one in schedules_apply.ours(client)}
    fitting = [full for full in known if name in (full, full.partition("/")[2])]
    if len(fitting) != 1:
        raise UsageError(f"{name}: expected one of {', '.join(sorted(known))}; got {len(fitting)} that fit")
    return fitting[0], known[fitting[0]]


def _row(client: SyncPrefectClient, deployment: DeploymentResponse) -> dict[str, Any]:
    active = [one for one in deployment.schedules if one.active]
    when = [_when(one.schedule) for one in active]
    planned = _runs(client, deployment, ["SCHEDULED"], FlowRunSort.EXPECTED_START_TIME_ASC)
    ended = _runs(client, deployment, ["COMPLETED", "FAILED", "CRASHED"], FlowRunSort.END_TIME_DESC)
    following = next((one for one in planned if one.state_name != "Late"), None)
    last = next(iter(ended), None)
    return {
        "name": schedules_apply.full_name(client, deployment),
        "when": ", ".join(when) or "on demand",
        "state": "paused" if deployment.paused else "active",
        "next": _minute(following.expected_start_time if following else None),
        "last": _minute(last.end_time if last else None),
        "last_state": last.state_name if last else "",
        "late": sum(one.state_name == "Late" for one in planned),
    }


def _runs(
    client: SyncPrefectClient, deployment: DeploymentResponse, types: Sequence[str], sort: FlowRunSort
) -> list[FlowRun]:
    wanted = {"deployment_id": {"any_": [deployment.id]}, "state": {"type": {"any_": types}}}
    return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), sort=sort, limit=50)


def _when(schedule: object) -> str:
    if isinstance(schedule, CronSchedule):
        return f"{schedule.cron} {schedule.timezone or 'UTC'}"
    return f"every {schedule.interval}" if isinstance(schedule, IntervalSchedule) else str(schedule)


def _minute(moment: Any) -> str:
    return f"{moment:%Y-%m-%d %H:%M}" if moment else ""
