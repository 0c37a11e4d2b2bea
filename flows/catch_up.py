"""Makes up for downtime: one run of each schedule that came due, not twelve.

Prefect makes scheduled runs ahead and starts every one of them when a worker comes back. Of those that are past, the
newest does the work of all; the others are skipped. A due time for which no run was made, because the server was down
for longer than it plans ahead, gets one. The time that a worker last asked for work says when the downtime began, so
what came due while a schedule was paused is not owed.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID

import anyio
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.schedules import CronSchedule
from prefect.exceptions import ObjectNotFound
from prefect.server.schemas import schedules as server

from flows.schedules_apply import PAGE, full_name, ours

GRACE = timedelta(seconds=60)  # a run that is due for less is on its way
LOOK_BACK = tuple(timedelta(days=days) for days in (0.1, 2, 40, 400))  # Prefect computes 1000 dates, no more
WAITING = ("Scheduled", "Late", "AwaitingConcurrencySlot")  # not AwaitingRetry, Paused, Suspended


def owed(client: SyncPrefectClient, now: datetime) -> dict[str, datetime]:
    """Deployments whose schedule came due since a worker last asked, without any run for it: name to due time.

    To be asked before the deployments are applied (a changed one loses the runs that were planned), and before the
    worker starts.
    """
    found = {}
    for deployment in ours(client):
        if deployment.paused or deployment.last_polled is None:
            continue
        since = deployment.last_polled
        dates = [last_due(one.schedule, since, now) for one in deployment.schedules if one.active]
        due = max((date for date in dates if date is not None), default=None)
        if due is not None and not _has_run(client, deployment.id, due, now):
            found[full_name(client, deployment)] = due
    return found


def give(client: SyncPrefectClient, debts: Mapping[str, datetime]) -> int:
    """One run now for each of what `owed` returned, once however often this is called; returns how many."""
    num_runs = 0
    for name, due in debts.items():
        try:
            deployment = client.read_deployment_by_name(name)
        except ObjectNotFound:  # the file does not name it any more
            continue
        client.create_flow_run_from_deployment(
            deployment.id, idempotency_key=f"catch-up {deployment.id} {due.isoformat()}", tags=["catch-up"]
        )
        num_runs += 1
    return num_runs


def skip_surplus(client: SyncPrefectClient, now: datetime, grace: timedelta = GRACE) -> int:
    """Of each deployment's scheduled runs that are past and have not begun, leave the newest; returns how many go.

    grace: one that is due for less may be on its way; nothing is where no worker lives
    """
    past: dict[UUID, list[FlowRun]] = defaultdict(list)
    for run in _planned_until(client, now - grace):
        if run.auto_scheduled and run.deployment_id and run.state_name in WAITING:
            past[run.deployment_id].append(run)
    surplus = [run for runs in past.values() for run in sorted(runs, key=_due)[:-1]]
    for run in surplus:
        why = f"not run at {_due(run):%Y-%m-%d %H:%M} UTC; a later run of the same schedule does its work"
        client.set_flow_run_state(run.id, State(type=StateType.CANCELLED, name="Skipped", message=why))
    return len(surplus)


def last_due(schedule: object, since: datetime, now: datetime) -> datetime | None:
    """The newest date of a cron schedule after `since` until `now`; None: none, or no cron schedule."""
    if not isinstance(schedule, CronSchedule):
        return None
    same = server.CronSchedule(cron=schedule.cron, timezone=schedule.timezone, day_or=schedule.day_or)
    for window in LOOK_BACK:
        begin = max(since, now - window)
        dates = anyio.run(same.get_dates, None, begin, now)
        if past := [date for date in dates if since < date <= now]:
            return max(past).astimezone(UTC)
        if begin == since:
            return None
    return None


def _due(run: FlowRun) -> datetime:
    return (run.expected_start_time or datetime.max.replace(tzinfo=UTC)).astimezone(UTC)


def _has_run(client: SyncPrefectClient, deployment_id: UUID, due: datetime, now: datetime) -> bool:
    since = {"deployment_id": {"any_": [deployment_id]}, "expected_start_time": {"after_": due}}
    return any(_due(run) <= now for run in _runs(client, since))


def _planned_until(client: SyncPrefectClient, end: datetime) -> list[FlowRun]:
    return _runs(client, {"state": {"type": {"any_": ["SCHEDULED"]}}, "expected_start_time": {"before_": end}})


def _runs(client: SyncPrefectClient, wanted: Mapping[str, object]) -> list[FlowRun]:
    chosen = FlowRunFilter.model_validate(wanted)
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=chosen, limit=PAGE, offset=len(found)):
        found += page
    return found
