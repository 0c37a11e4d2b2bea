"""The schedule on a real Prefect server with PostgreSQL: scheduled, killed, resumed, stuck and owed runs."""

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import psutil
import pytest
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.states import Cancelled, Pending

from flows import automations, catch_up, schedules, watch_runs
from flows.up_services import choose_ports
from flows.workshop import Workshop
from infra import settings as environment
from infra.ports import free_ports
from infra.postgres import postgres_server
from infra.processes import marked
from infra.profile import write_profile
from infra.servers import prefect_on_postgres
from infra.settings import Settings
from infra.stack import Stack

pytestmark = pytest.mark.timeout(600)
DEPLOYMENTS = """
pull:
  - prefect.deployments.steps.set_working_directory: {directory: "{{ $ROADWORTHY_SOURCE }}"}
deployments:
  - name: often
    flow_name: fixture
    entrypoint: fixture_flow.py:fixture
    work_pool: {name: roadworthy}
    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE}
    parameters: {note: NOTE}
    schedules: [{interval: 20, slug: often}]
  - name: nightly
    flow_name: fixture
    entrypoint: fixture_flow.py:fixture
    work_pool: {name: roadworthy, work_queue_name: light}
    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE}
    parameters: {note: NOTE.nightly}
    schedules: [{cron: "30 2 * * *", timezone: Europe/Berlin, slug: nightly}]
  - name: on-drift
    flow_name: retrain
    entrypoint: fixture_flow.py:retrain
    work_pool: {name: roadworthy, work_queue_name: light}
    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE}
    tags: [services]
    parameters: {note: NOTE.retrained}
"""


def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def is_gone(pid: int) -> bool:
    """Also one that nobody has reaped yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@dataclass
class Yard:
    """PostgreSQL, Prefect and the worker of a services home, with deployments of tiny flows."""

    stack: Stack
    deployments: Path
    note: Path
    client: SyncPrefectClient

    def deployment_id(self, name: str = "often") -> UUID:
        return self.client.read_deployment_by_name(f"fixture/{name}").id

    def pid_of(self, program: str) -> int:
        return next(one.pid for one in self.stack.status() if one.name == program) or 0

    def runs(self, name: str, *types: str) -> list[FlowRun]:
        wanted = {"deployment_id": {"any_": [self.deployment_id(name)]}, "state": {"type": {"any_": types}}}
        return self.client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(wanted))

    def begin(self, seconds: float) -> FlowRun:
        self.note.unlink(missing_ok=True)
        parameters = {"note": str(self.note), "seconds": seconds}
        return self.client.create_flow_run_from_deployment(self.deployment_id(), parameters=parameters)

    def state(self, run: FlowRun) -> str:
        state = self.client.read_flow_run(run.id).state
        return state.type.value if state else ""

    def states(self, run: FlowRun) -> list[str]:
        return [state.name or "" for state in self.client.read_flow_run_states(run.id)]

    def flow_pid(self) -> int:
        """The process of the run that has just begun."""
        until(lambda: self.note.exists() and self.note.read_text() != "")
        pid = int(self.note.read_text())
        self.note.unlink()
        return pid

    def end(self, run: FlowRun) -> None:
        """Cancelled, and its process gone."""
        self.client.set_flow_run_state(run.id, Cancelled(), force=True)
        for process in marked(**{watch_runs.RUN_ID: str(run.id)}):
            process.kill()
        self.note.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    names = ("mlflow_port", "prefect_port", "gateway_port", "postgres_port", "s3_port", "prometheus_port")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    plain = Settings(home=folder / "home", **ports)  # type: ignore[arg-type]
    (folder / "source").mkdir()
    shutil.copy(Path(__file__).with_name("fixture_flow.py"), folder / "source")
    note, deployments = folder / "note", folder / "source" / "prefect.yaml"
    deployments.write_text(DEPLOYMENTS.replace("NOTE", str(note)))
    plain.folder.mkdir()
    write_profile(plain.folder, choose_ports(plain))
    config = environment.with_profile(plain)
    stack = Stack(config)
    programs = (postgres_server(config), prefect_on_postgres(config), schedules.worker(config, deployments))
    stack.up(programs, timeout_s=280.0)
    assert config.prefect_auth is not None
    with SyncPrefectClient(config.prefect_api_url, auth_string=config.prefect_auth.get_secret_value()) as client:
        yield Yard(stack, deployments, note, client)
    stack.down()
    assert marked(**stack.mark) == []


@pytest.mark.services
def test_the_worker_executes_a_scheduled_run(yard: Yard) -> None:
    assert [one.state for one in yard.stack.status()] == ["RUNNING"] * 3
    until(lambda: bool(yard.runs("often", "COMPLETED")))
    run = yard.runs("often", "COMPLETED")[0]
    assert run.auto_scheduled
    assert yard.flow_pid() not in (os.getpid(), yard.pid_of("worker"))

    yard.client.pause_deployment(yard.deployment_id())
    for waiting in yard.runs("often", "SCHEDULED", "PENDING", "RUNNING"):
        yard.end(waiting)


@pytest.mark.services
def test_applying_again_leaves_what_did_not_change_and_removes_what_is_not_named(yard: Yard) -> None:
    client, limits = yard.client, {"default": 1, "light": 4}
    client.update_work_pool(schedules.POOL, WorkPoolUpdate(is_paused=True))
    left_out = yard.deployments.read_text().replace("name: nightly", "name: renamed")
    yard.deployments.write_text(left_out)
    folder, text = yard.stack.folder / "flows", DEPLOYMENTS.replace("NOTE", str(yard.note))

    def names() -> list[str]:
        bring = schedules.schedules_apply.bring
        return bring(client, folder, yard.deployments, schedules.COMMAND, is_services=True)

    assert names() == ["fixture/often", "fixture/renamed", "retrain/on-drift"]
    known = {one.name for one in schedules.schedules_apply.ours(client)}
    assert known == {"often", "renamed", "on-drift"}
    yard.deployments.write_text(text)
    names()
    queues = {one.name: one.concurrency_limit for one in client.read_work_queues(work_pool_name=schedules.POOL)}
    pool = client.read_work_pool(schedules.POOL)
    client.update_work_pool(schedules.POOL, WorkPoolUpdate(is_paused=False))
    assert client.read_deployment_by_name("fixture/often").paused
    assert pool.is_paused
    assert (pool.concurrency_limit, queues) == (None, limits)


@pytest.mark.services
def test_automations_are_installed_once_and_one_that_is_disabled_stays_so(yard: Yard) -> None:
    before = {one.name: one for one in yard.client.read_automations()}
    assert len(before) == 4
    yard.client.pause_automation(before[f"{automations.PREFIX}an alarm retrains"].id)
    assert set(automations.install(yard.client)) == set(before)
    after = {one.name: one for one in yard.client.read_automations()}
    assert {name: one.id for name, one in after.items()} == {name: one.id for name, one in before.items()}
    assert not after[f"{automations.PREFIX}an alarm retrains"].enabled
    yard.client.resume_automation(before[f"{automations.PREFIX}an alarm retrains"].id)


@pytest.mark.services
def test_an_alarm_of_the_monitor_starts_a_retraining_with_its_words(yard: Yard) -> None:
    reason = 'sensor 3 is dead: "all" zero, {{ braces }}'
    retrained = Path(f"{yard.note}.retrained")

    def tell() -> bool:
        """Again and again: the server takes its time to notice that an automation was resumed."""
        event = {
            "event": automations.RETRAINING,
            "resource": {"prefect.resource.id": "roadworthy.product.ring"},
            "payload": {"product": "ring", "reason": reason},
            "occurred": datetime.now(UTC).isoformat(),
            "id": str(uuid4()),
        }
        yard.client.request("POST", "/events", json=[event])  # type: ignore[arg-type]
        time.sleep(3.0)
        return retrained.exists() and retrained.read_text() != ""

    until(tell)
    assert retrained.read_text() == f"ring: {reason}"


@pytest.mark.services
def test_of_twelve_missed_runs_one_is_run(yard: Yard) -> None:
    yesterday = datetime.now(UTC) - timedelta(days=1)
    body = {"start_time": (yesterday - timedelta(days=12)).isoformat(), "end_time": yesterday.isoformat()}
    path = f"/deployments/{yard.deployment_id('nightly')}/schedule"
    queue = yard.client.read_work_queue_by_name("light", work_pool_name=schedules.POOL)
    yard.client.update_work_queue(queue.id, is_paused=True)  # as if no worker lived
    yard.client.request("POST", path, json={**body, "min_runs": 12, "max_runs": 12})  # type: ignore[arg-type]
    late = [run for run in yard.runs("nightly", "SCHEDULED") if (run.expected_start_time or yesterday) <= yesterday]
    assert len(late) == 12
    assert catch_up.skip_surplus(yard.client, datetime.now(UTC)) == 11
    assert catch_up.skip_surplus(yard.client, datetime.now(UTC)) == 0
    yard.client.update_work_queue(queue.id, is_paused=False)
    until(lambda: bool(yard.runs("nightly", "COMPLETED")))
    (run,) = yard.runs("nightly", "COMPLETED")
    assert run.expected_start_time == max(one.expected_start_time for one in late if one.expected_start_time)
    assert {one.state_name for one in yard.runs("nightly", "CANCELLED")} == {"Skipped"}


@pytest.mark.services
def test_what_came_due_without_a_run_is_owed_one_run(yard: Yard) -> None:
    yard.client.pause_deployment(yard.deployment_id("nightly"))  # so that the worker does not poll it ahead of us
    later = datetime.now(UTC) + timedelta(days=10)
    assert catch_up.owed(yard.client, later) == {}
    yard.client.resume_deployment(yard.deployment_id("nightly"))
    assert catch_up.owed(yard.client, datetime.now(UTC)) == {}
    debts = catch_up.owed(yard.client, later)
    assert list(debts) == ["fixture/nightly"]
    assert later - debts["fixture/nightly"] < timedelta(days=1)
    for _ in range(2):
        assert catch_up.give(yard.client, debts) == 1
    until(lambda: len(yard.runs("nightly", "COMPLETED")) == 2)
    assert sum("catch-up" in run.tags for run in yard.runs("nightly", "COMPLETED")) == 1


@pytest.mark.services
def test_a_killed_flow_is_crashed_and_goes_on(yard: Yard) -> None:
    killed = yard.begin(seconds=600)
    os.kill(yard.flow_pid(), signal.SIGKILL)
    yard.flow_pid()
    crashes = [name for name in yard.states(killed) if name in ("Crashed", "AwaitingRetry")]
    assert crashes[:2] == ["Crashed", "AwaitingRetry"]
    yard.end(killed)


@pytest.mark.services
def test_a_killed_worker_comes_back_leaves_no_orphan_and_its_run_goes_on(yard: Yard) -> None:
    orphan = yard.begin(seconds=600)
    flow_pid, worker_pid = yard.flow_pid(), yard.pid_of("worker")
    os.kill(worker_pid, signal.SIGKILL)
    until(lambda: is_gone(flow_pid))
    assert yard.flow_pid() != flow_pid
    assert "Crashed" in yard.states(orphan)
    assert yard.pid_of("worker") not in (0, worker_pid)
    yard.end(orphan)


@pytest.mark.services
def test_the_watch_ends_what_waits_for_ever_or_has_no_process(yard: Yard) -> None:
    shop, now = Workshop(yard.stack.config), datetime.now(UTC)
    assert list(watch_runs.stuck(yard.client, shop, now)) == []
    waiting = yard.client.create_flow_run_from_deployment(yard.deployment_id(), state=Pending())
    (found,) = watch_runs.stuck(yard.client, shop, now + timedelta(minutes=10))
    assert (found.run.id, found.what) == (waiting.id, "PENDING for 10 min, expected 2 min")
    until(lambda: yard.state(waiting) == "COMPLETED")

    silent = yard.begin(seconds=600)
    flow_pid, worker = yard.flow_pid(), psutil.Process(yard.pid_of("worker"))
    (found,) = watch_runs.stuck(yard.client, shop, now + timedelta(hours=3))
    assert found.what.endswith("min, expected 120 min at most")
    until(lambda: is_gone(flow_pid))
    resumed_pid = yard.flow_pid()
    worker.suspend()  # it cannot tell the server
    os.kill(resumed_pid, signal.SIGKILL)
    try:
        until(lambda: is_gone(resumed_pid) and not marked(**{watch_runs.RUN_ID: str(silent.id)}))
        (found,) = watch_runs.stuck(yard.client, shop, datetime.now(UTC) + timedelta(minutes=2))
        assert found.what == f"RUNNING for 2 min without a process on {os.uname().nodename}"
    finally:
        worker.resume()
    yard.end(silent)
