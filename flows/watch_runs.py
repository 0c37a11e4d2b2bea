"""Finds runs that no event tells of: stuck, lost, waiting, left; resumes or ends them.

Prefect's automations act on events. A flow that hangs still beats its heart, a run whose worker died while it was
submitted emits nothing, and an event that came while the server was down is gone. So this flow looks every minute, and
writes what it found to HOME/ops/runs.json.
"""

import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect import flow
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.states import AwaitingRetry, Crashed, Failed

from flows import automations, catch_up, schedules
from flows.workshop import Workshop, now, open_workshop
from infra.atomic import write_atomic
from infra.processes import marked, stop_marked
from infra.servers import prefect_api
from infra.stack import stack_mark

RECORD = "ops/runs.json"
RUN_ID = "PREFECT__FLOW_RUN_ID"  # in the environment of a run's process
PATIENCE = {"PENDING": timedelta(minutes=2), "CANCELLING": timedelta(minutes=5)}
LEAST = {"default": timedelta(hours=2), "light": timedelta(hours=1)}  # a run of this queue may always take so long
TIMES_USUAL = 4  # and so many times the longest of its last runs
LAST = 20
GONE_FOR = timedelta(seconds=60)  # a run without a process: it may just be starting, or about to say how it ended
RESUMED_WITHIN = timedelta(days=2)  # what crashed before that is history
STOP_S = 10.0


@dataclass(frozen=True)
class Found:
    """One run that is not as it should be, and what was done."""

    run: FlowRun
    what: str
    done: str

    def record(self) -> dict[str, Any]:
        return {"id": str(self.run.id), "name": self.run.name, "what": self.what, "done": self.done}


@flow(name="watch-runs")
def watch_runs() -> dict[str, Any]:
    """Late, stuck, lost and crashed runs of the pool.

    1. of scheduled runs that are past, the newest stays
    2. stuck: PENDING or CANCELLING for minutes, RUNNING far longer than usual, RUNNING without a process: crashed
    3. crashed and not resumed by its automation: resumed; too often: failed
    """
    shop = open_workshop()
    with schedules.prefect_client(prefect_api(shop.config)) as client:
        num_skipped = catch_up.skip_surplus(client, now())
        found = [*stuck(client, shop, now()), *crashed(client, now())]
        late = [run.name for run in _runs(client, "SCHEDULED") if run.state_name == "Late"]
    record = {
        "time": now().isoformat(timespec="seconds"),
        "late": late,
        "skipped": num_skipped,
        "found": [one.record() for one in found],
    }
    write_atomic(shop.home / RECORD, json.dumps(record, indent=1).encode())
    return record


@flow(name="watch-aliases")
def watch_aliases() -> list[dict[str, Any]]:
    """Settle every alias that was moved in MLflow while its webhook was not heard."""
    from flows.promote_from_ui import settle_aliases

    return settle_aliases(open_workshop())


def stuck(client: SyncPrefectClient, shop: Workshop, at: datetime) -> Iterator[Found]:
    """Runs that will not end by themselves: their process is stopped where it is one of ours, and they are CRASHED."""
    for run in _runs(client, "PENDING", "RUNNING", "CANCELLING"):
        if why := _why_stuck(client, run, at):
            stop_marked(STOP_S, **stack_mark(shop.config), **{RUN_ID: str(run.id)})
            client.set_flow_run_state(run.id, Crashed(message=why), force=True)
            yield Found(run, why, "crashed")


def crashed(client: SyncPrefectClient, at: datetime) -> Iterator[Found]:
    """Crashed runs that nobody resumed within a minute: on they go, or they fail with the reason."""
    for run in _runs(client, "CRASHED"):
        age = at - _since(run)
        if not GONE_FOR < age < RESUMED_WITHIN or _was_run_again(client, run):
            continue
        again: State = AwaitingRetry(message="it crashed and goes on where it was")
        if _crashed_too_often(client, run):
            again = Failed(message=automations.TOO_OFTEN)
        client.set_flow_run_state(run.id, again, force=True)
        yield Found(run, f"crashed, and stayed so for {_minutes(age)}", again.name or "")


def _why_stuck(client: SyncPrefectClient, run: FlowRun, at: datetime) -> str:
    age, state = at - _since(run), run.state_type.value if run.state_type else ""
    if state in PATIENCE:
        return f"{state} for {_minutes(age)}, expected {_minutes(PATIENCE[state])}" if age > PATIENCE[state] else ""
    if age > GONE_FOR and _is_here(run) and not marked(**{RUN_ID: str(run.id)}):
        return f"RUNNING for {_minutes(age)} without a process on {platform.node()}"
    allowed = _allowed(client, run)
    return f"RUNNING for {_minutes(age)}, expected {_minutes(allowed)} at most" if age > allowed else ""


def _allowed(client: SyncPrefectClient, run: FlowRun) -> timedelta:
    """How long a run of this deployment may take: by its queue, or several times the longest of its last."""
    least = LEAST.get(run.work_queue_name or "default", LEAST["default"])
    if run.deployment_id is None:
        return least
    wanted = {"deployment_id": {"any_": [run.deployment_id]}, "state": {"type": {"any_": ["COMPLETED"]}}}
    last = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), limit=LAST)
    return max([least, *(one.total_run_time * TIMES_USUAL for one in last)])


def _crashed_too_often(client: SyncPrefectClient, run: FlowRun) -> bool:
    """One that crashes before it runs is not counted by Prefect; and a crash may be reported twice."""
    num_crashes = sum(state.type == StateType.CRASHED for state in client.read_flow_run_states(run.id))
    return run.run_count > automations.NUM_RETRIES or num_crashes > 2 * (automations.NUM_RETRIES + 1)


def _is_here(run: FlowRun) -> bool:
    return run.labels.get("prefect.worker.name") == schedules.worker_name()


def _was_run_again(client: SyncPrefectClient, run: FlowRun) -> bool:
    """Whether a later run of its deployment did its work."""
    if run.deployment_id is None or run.expected_start_time is None:
        return False
    wanted = {
        "deployment_id": {"any_": [run.deployment_id]},
        "state": {"type": {"any_": ["COMPLETED", "RUNNING"]}},
        "expected_start_time": {"after_": run.expected_start_time},
    }
    later = client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted), limit=2)
    return any(one.id != run.id for one in later)


def _runs(client: SyncPrefectClient, *types: str) -> list[FlowRun]:
    """Runs of the pool in these states; at most the last 200, and so few that a page is enough while all is well."""
    pool = WorkPoolFilter.model_validate({"name": {"any_": [schedules.POOL]}})
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": list(types)}}})
    return client.read_flow_runs(flow_run_filter=wanted, work_pool_filter=pool, limit=200)


def _since(run: FlowRun) -> datetime:
    return run.state.timestamp.astimezone(UTC) if run.state else datetime.now(UTC)


def _minutes(span: timedelta) -> str:
    return f"{span.total_seconds() / 60:.0f} min"
