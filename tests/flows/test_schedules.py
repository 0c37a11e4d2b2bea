"""The schedule, with a real Prefect server and worker: scheduled, killed and resumed runs of a tiny flow."""

import ast
import os
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import psutil
import pytest
import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import CronSchedule

from flows import schedules
from infra.processes import marked
from infra.servers import prefect_api, servers
from infra.settings import Settings
from infra.stack import Stack
from models import catalog

DEPLOYMENT = """
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
"""


def runs_in(client: SyncPrefectClient, *types: str) -> list[FlowRun]:
    return client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": types}}}))


def until(condition: Callable[[], bool], timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.2)


def test_prefect_yaml_names_what_exists_and_no_machine() -> None:
    text = schedules.DEPLOYMENTS.read_text()
    wanted = yaml.safe_load(text)
    assert str(schedules.SOURCE) not in text
    products = set()
    for entry in wanted["deployments"]:
        path, _, function = entry["entrypoint"].partition(":")
        tree = ast.parse((schedules.SOURCE / path).read_text())
        (flow,) = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
        assert set(entry["parameters"]) <= {argument.arg for argument in flow.args.args}
        assert entry["parameters"]["recipe"] in catalog.recipe_names()
        assert entry["parameters"]["data"] in catalog.datasets()
        assert entry["work_pool"]["name"] == schedules.POOL
        assert entry["concurrency_limit"]["limit"] == 1
        assert [CronSchedule(cron=one["cron"], timezone=one["timezone"]) for one in entry["schedules"]]
        products.add(entry["parameters"]["product"])
    assert products == {"freeway", "oregon_counts"}


@dataclass
class Yard:
    """A running group whose only deployment is the tiny flow."""

    stack: Stack
    deployments: Path
    note: Path
    client: SyncPrefectClient

    @property
    def deployment_id(self) -> UUID:
        return self.client.read_deployment_by_name("fixture/often").id

    def worker_pid(self) -> int | None:
        return next(one.pid for one in self.stack.status() if one.name == "worker")

    def begin(self, seconds: float) -> FlowRun:
        parameters = {"note": str(self.note), "seconds": seconds}
        return self.client.create_flow_run_from_deployment(self.deployment_id, parameters=parameters)

    def state(self, run: FlowRun) -> str:
        state = self.client.read_flow_run(run.id).state
        return state.type.value if state else ""

    def flow_pid(self) -> int:
        """The process of the run that has just begun."""
        until(lambda: self.note.exists() and self.note.read_text() != "")
        pid = int(self.note.read_text())
        self.note.unlink()
        return pid


@pytest.fixture(scope="module")
def yard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Yard]:
    folder = tmp_path_factory.mktemp("yard")
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [int(server.getsockname()[1]) for server in (one, two)]
    config = Settings(home=folder / "home", prefect_port=ports[0], mlflow_port=ports[1])
    (folder / "source").mkdir()
    shutil.copy(Path(__file__).with_name("fixture_flow.py"), folder / "source")
    note, deployments = folder / "note", folder / "source" / "prefect.yaml"
    deployments.write_text(DEPLOYMENT.replace("NOTE", str(note)))
    stack = Stack(config)
    addresses = stack.up((*servers(config), schedules.worker(config, deployments)), timeout_s=280.0)
    assert [one.name for one in addresses] == ["prefect", "mlflow"]
    assert all(httpx.get(one.url).is_success for one in addresses)
    with SyncPrefectClient(api=prefect_api(config)) as client:
        yield Yard(stack, deployments, note, client)
    stack.down()
    assert marked(**stack.mark) == []


@pytest.mark.services
@pytest.mark.timeout(600)
def test_the_worker_executes_a_scheduled_run(yard: Yard) -> None:
    assert [one.state for one in yard.stack.status()] == ["RUNNING"] * 3
    until(lambda: bool(runs_in(yard.client, "COMPLETED")))
    run = runs_in(yard.client, "COMPLETED")[0]
    assert run.auto_scheduled
    assert run.deployment_id == yard.deployment_id
    assert yard.flow_pid() not in (os.getpid(), yard.worker_pid())

    yard.client.pause_deployment(yard.deployment_id)
    until(lambda: not runs_in(yard.client, "SCHEDULED", "PENDING", "RUNNING"))
    yard.note.unlink(missing_ok=True)


@pytest.mark.services
def test_applying_again_leaves_an_unchanged_deployment_alone(yard: Yard) -> None:
    folder = yard.stack.folder / "flows"
    yard.client.update_work_pool(schedules.POOL, WorkPoolUpdate(is_paused=True))
    assert schedules.apply(prefect_api(yard.stack.config), folder, yard.deployments) == ["fixture/often"]
    pool = yard.client.read_work_pool(schedules.POOL)
    yard.client.update_work_pool(schedules.POOL, WorkPoolUpdate(is_paused=False))
    assert yard.client.read_deployment_by_name("fixture/often").paused
    assert pool.is_paused
    assert pool.concurrency_limit == 1


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_killed_flow_is_crashed_and_the_next_one_runs(yard: Yard) -> None:
    killed = yard.begin(seconds=600)
    os.kill(yard.flow_pid(), signal.SIGKILL)
    until(lambda: yard.state(killed) == "CRASHED")

    following = yard.begin(seconds=0)
    until(lambda: yard.state(following) == "COMPLETED")
    yard.note.unlink()


@pytest.mark.services
@pytest.mark.timeout(600)
def test_a_killed_worker_comes_back_and_leaves_no_orphan(yard: Yard) -> None:
    orphan = yard.begin(seconds=600)
    flow_pid, worker_pid = yard.flow_pid(), yard.worker_pid()
    os.kill(worker_pid or 0, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(flow_pid) or psutil.Process(flow_pid).status() == psutil.STATUS_ZOMBIE)
    until(lambda: yard.state(orphan) == "CRASHED")
    assert yard.worker_pid() not in (None, worker_pid)

    following = yard.begin(seconds=0)
    until(lambda: yard.state(following) == "COMPLETED")
