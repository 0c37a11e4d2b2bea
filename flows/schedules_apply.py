"""Brings a Prefect server to what `prefect.yaml` says: pool, queues, deployments.

Heavy work (training) runs one flow at a time in the pool's queue `default`; light work (monitoring, backup, what an
alias or a watch asks for) has a queue of its own, so that neither waits for the other. Whoever adds machines adds
workers to the pool; nothing here names a machine.
"""

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import DeploymentScheduleCreate, WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule, IntervalSchedule
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.utilities.callables import parameter_schema_from_entrypoint
from prefect.workers.process import ProcessWorker

POOL = "roadworthy"
QUEUES = {"default": 1, "light": 4}  # flows at a time in each queue of the pool
SERVICES_ONLY = "services"  # the tag of a deployment that only a services home has
PAGE = 100


class ScheduleError(ValueError):
    """An entry of `prefect.yaml` cannot be honoured; the message names it and says what to write."""


def bring(
    client: SyncPrefectClient, folder: Path, deployments: Path, command: str, *, is_services: bool = False
) -> list[str]:
    """Create the pool, its queues and every deployment of the file; returns their names, `flow/deployment`.

    folder: where runs start; command: what a run's process is. An unchanged deployment is left alone, with its schedule
    paused if somebody paused it; one that the file does not name any more goes. Raises ScheduleError, httpx.HTTPError.
    """
    wanted = yaml.safe_load(deployments.read_text())
    folder.mkdir(parents=True, exist_ok=True)
    _put_pool(client, folder, command)
    for name, limit in QUEUES.items():
        _put_queue(client, name, limit)
    entries = [one for one in wanted["deployments"] if is_services or SERVICES_ONLY not in one.get("tags", ())]
    for entry in entries:
        _deploy(client, entry, wanted["pull"], deployments.parent)
    names = [f"{entry['flow_name']}/{entry['name']}" for entry in entries]
    for deployment in ours(client):
        if deployment.pull_steps == wanted["pull"] and full_name(client, deployment) not in names:
            client.delete_deployment(deployment.id)
    return names


def ours(client: SyncPrefectClient) -> list[DeploymentResponse]:
    """Every deployment of the pool."""
    found: list[DeploymentResponse] = []
    while page := client.read_deployments(limit=PAGE, offset=len(found)):
        found += page
    return [one for one in found if one.work_pool_name == POOL]


def full_name(client: SyncPrefectClient, deployment: DeploymentResponse) -> str:
    """`flow/deployment`."""
    return f"{client.read_flow(deployment.flow_id).name}/{deployment.name}"


def _put_pool(client: SyncPrefectClient, folder: Path, command: str) -> None:
    """Runs start in `folder`, so that nothing is left in the system's temporary folder. A paused pool stays paused."""
    template = ProcessWorker.get_default_base_job_template()
    properties = template["variables"]["properties"]
    properties["working_dir"]["default"] = str(folder)
    properties["command"]["default"] = command
    try:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process", base_job_template=template))
    except ObjectAlreadyExists:
        limit: dict[str, Any] = {"concurrency_limit": None}  # said, or the limit of an older release would stay
        client.update_work_pool(POOL, WorkPoolUpdate(base_job_template=template, **limit))


def _put_queue(client: SyncPrefectClient, name: str, limit: int) -> None:
    """The queue with its limit; one that somebody paused stays paused."""
    try:
        queue = client.create_work_queue(name=name, work_pool_name=POOL, concurrency_limit=limit)
    except ObjectAlreadyExists:
        queue = client.read_work_queue_by_name(name, work_pool_name=POOL)
    if queue.concurrency_limit != limit:
        client.update_work_queue(queue.id, concurrency_limit=limit)


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
        work_queue_name=entry["work_pool"].get("work_queue_name", "default"),
        concurrency_limit=limit["limit"],
        concurrency_options=ConcurrencyOptions(collision_strategy=limit["collision_strategy"]),
        schedules=[_schedule(entry["name"], one) for one in entry.get("schedules", ())],
    )


@cache
def _schema(entrypoint: str) -> dict[str, Any]:
    return parameter_schema_from_entrypoint(entrypoint).model_dump_for_openapi()


def _schedule(name: str, entry: Mapping[str, Any]) -> DeploymentScheduleCreate:
    zone = entry.get("timezone", "UTC")
    schedule: CronSchedule | IntervalSchedule
    if "cron" in entry:
        if zone != "UTC" and not entry["cron"].split()[1].isdigit():
            raise ScheduleError(
                f"prefect.yaml, {name}: a schedule of several runs a day, expected timezone UTC, got {zone}, where the "
                "hour that comes twice in autumn is served once; write timezone: UTC"
            )
        schedule = CronSchedule(cron=entry["cron"], timezone=zone)
    else:
        schedule = IntervalSchedule(interval=entry["interval"], timezone=zone)
    return DeploymentScheduleCreate(schedule=schedule, slug=entry.get("slug"), active=entry.get("active", True))
