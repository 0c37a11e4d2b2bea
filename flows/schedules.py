"""Says what runs when: `prefect.yaml`'s deployments and the worker that executes their runs.

The worker is a program of the local group (`python -m flows.schedules`). Before it takes the first run it applies the
deployments and settles what a killed worker left: a flow without a worker is ended and its run is CRASHED, so that no
orphan trains on and the work pool's one place is free.
"""

import hashlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.settings import PREFECT_API_AUTH_STRING
from prefect.states import Crashed
from prefect.utilities.callables import parameter_schema_from_entrypoint
from prefect.workers.process import ProcessWorker

from infra.processes import stop_marked
from infra.ready import wait_for
from infra.servers import PREFECT_SETTINGS, prefect_api
from infra.settings import Settings, settings
from infra.stack import stack_mark
from infra.supervise import Program

POOL = "roadworthy"
SERVER_S = 120.0  # how long a worker waits for the Prefect server
SOURCE = Path(__file__).parents[1]
DEPLOYMENTS = SOURCE / "prefect.yaml"
WITHOUT_WORKER = ("PENDING", "RUNNING", "CANCELLING")

logger = logging.getLogger(__name__)


def prefect_client(api_url: str) -> SyncPrefectClient:
    """A client of this API, with the auth string of this process where there is one."""
    return SyncPrefectClient(api=api_url, auth_string=PREFECT_API_AUTH_STRING.value())


def worker(config: Settings, deployments: Path = DEPLOYMENTS) -> Program:
    """The worker as a program of the group; ready once the server has heard from it."""
    api = prefect_api(config)
    return Program(
        name="worker",
        argv=(sys.executable, "-m", "flows.schedules", api, str(deployments)),
        environment={
            **PREFECT_SETTINGS,
            "PREFECT_API_URL": api,
            "PREFECT_WORKER_QUERY_SECONDS": "3",
            "PYTHONPATH": str(SOURCE),
            "ROADWORTHY_SOURCE": str(deployments.parent),
        },
        ready_url=f"{api}/work_pools/{POOL}",
        ready_text='"status":"READY"',
        ready_auth=config.prefect_auth.get_secret_value() if config.prefect_auth else "",
        priority=300,
        needs=(f"{api}/health",) if config.is_services else (),
        start_retries=100 if config.is_services else 2,
    )


def apply(api_url: str, folder: Path, deployments: Path = DEPLOYMENTS) -> list[str]:
    """Create the work pool and every deployment of the file; returns their names, `flow/deployment`.

    Runs start in `folder`. A deployment that did not change is left alone, with its schedule paused if somebody paused
    it. Raises httpx.HTTPError when the server refuses or is not there.
    """
    wanted = yaml.safe_load(deployments.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    with prefect_client(api_url) as client:
        _put_pool(client, folder)
        for entry in wanted["deployments"]:
            _deploy(client, entry, wanted["pull"], deployments.parent)
    return [f"{entry['flow_name']}/{entry['name']}" for entry in wanted["deployments"]]


def release(api_url: str, mark: Mapping[str, str]) -> int:
    """Settle what a killed worker left: its flow processes end, their runs become CRASHED; returns how many runs.

    To be called when no worker of the pool lives.
    """
    stop_marked(5.0, **mark, SUPERVISOR_PROCESS_NAME="worker")
    pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    left = FlowRunFilter.model_validate({"state": {"type": {"any_": WITHOUT_WORKER}}})
    num_runs = 0
    with prefect_client(api_url) as client:
        while runs := client.read_flow_runs(flow_run_filter=left, work_pool_filter=pool, limit=100):
            for run in runs:
                client.set_flow_run_state(run.id, Crashed(message="its worker was killed; run it again"), force=True)
            num_runs += len(runs)
    return num_runs


def main(api_url: str, deployments: Path) -> None:
    """Wait for the server, settle, deploy, then become `prefect worker start`."""
    config = settings()
    if not wait_for(f"{api_url}/health", SERVER_S):
        raise SystemExit(f"no Prefect server answers at {api_url} after {SERVER_S:.0f} s")
    num_runs = release(api_url, stack_mark(config))
    names = apply(api_url, config.folder / "run" / "flows", deployments)
    logger.info("%d runs of a killed worker settled; deployments: %s", num_runs, ", ".join(names))
    command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", "roadworthy"]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - a fixed command of our own


def _put_pool(client: SyncPrefectClient, folder: Path) -> None:
    """One run at a time, started in `folder`, so that nothing is left in the system's temporary folder.

    A pool that somebody paused stays paused.
    """
    template = ProcessWorker.get_default_base_job_template()
    properties = template["variables"]["properties"]
    properties["working_dir"]["default"] = str(folder)
    properties["command"]["default"] = f"{sys.executable} -m prefect.engine"
    try:
        client.create_work_pool(
            WorkPoolCreate(name=POOL, type="process", base_job_template=template, concurrency_limit=1)
        )
    except ObjectAlreadyExists:
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template, concurrency_limit=1))


def _deploy(client: SyncPrefectClient, entry: Mapping[str, Any], pull: list[dict[str, Any]], source: Path) -> None:
    path, _, function = entry["entrypoint"].partition(":")
    schema = _schema(f"{source / path}:{function}")
    version = hashlib.sha256(json.dumps([entry, pull, schema], sort_keys=True).encode()).hexdigest()[:12]
    try:
        known = client.read_deployment_by_name(f"{entry['flow_name']}/{entry['name']}")
    except ObjectNotFound:
        known = None
    if known is not None and known.version == version:
        return
    limit = entry["concurrency_limit"]
    client.create_deployment(
        flow_id=client.create_flow_from_name(entry["flow_name"]),
        name=entry["name"],
        version=version,
        description=entry.get("description"),
        tags=entry.get("tags"),
        entrypoint=entry["entrypoint"],
        parameters=entry.get("parameters"),
        parameter_openapi_schema=schema,
        enforce_parameter_schema=True,
        pull_steps=pull,
        work_pool_name=entry["work_pool"]["name"],
        concurrency_limit=limit["limit"],
        concurrency_options=ConcurrencyOptions(collision_strategy=limit["collision_strategy"]),
        schedules=[_schedule(one) for one in entry.get("schedules", ())],
    )


@cache
def _schema(entrypoint: str) -> dict[str, Any]:
    return parameter_schema_from_entrypoint(entrypoint).model_dump_for_openapi()


def _schedule(entry: Mapping[str, Any]) -> DeploymentScheduleCreate:
    zone = entry.get("timezone", "UTC")
    schedule: CronSchedule | IntervalSchedule
    if "cron" in entry:
        schedule = CronSchedule(cron=entry["cron"], timezone=zone)
    else:
        schedule = IntervalSchedule(interval=entry["interval"], timezone=zone)
    return DeploymentScheduleCreate(schedule=schedule, slug=entry.get("slug"), active=entry.get("active", True))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    main(sys.argv[1], Path(sys.argv[2]))
