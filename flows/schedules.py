"""Says what runs when: `prefect.yaml`'s deployments and the worker that executes their runs.

The worker is a program of the local group (`python -m flows.schedules`). Before it takes the first run it settles what
a killed worker left (a flow without a worker is ended and its run is CRASHED, so that no orphan trains on and its place
is free), applies the deployments, installs the automations of a services home, and catches up: what came due while
nothing ran is run once.
"""

import logging
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, WorkPoolFilter
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_AUTH_STRING
from prefect.states import Crashed

from flows import automations, catch_up, schedules_apply, warm
from infra.processes import stop_marked
from infra.ready import wait_for
from infra.servers import PREFECT_SETTINGS, prefect_api
from infra.settings import Settings, settings
from infra.stack import stack_mark
from infra.supervise import Program

POOL = schedules_apply.POOL
SERVER_S = 120.0  # how long a worker waits for the Prefect server
SOURCE = Path(__file__).parents[1]
DEPLOYMENTS = SOURCE / "prefect.yaml"
COMMAND = f"{sys.executable} -I -S {SOURCE / 'flows' / 'warm_start.py'} {warm.SOCKET} {sys.executable}"
IN_SERVICES = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(automations.HEARTBEAT_S),
    "PREFECT_CLIENT_RETRY_EXTRA_CODES": "500",  # the server's answer while PostgreSQL starts again
}
WITHOUT_WORKER = ("PENDING", "RUNNING", "CANCELLING")

logger = logging.getLogger(__name__)


def prefect_client(api_url: str) -> SyncPrefectClient:
    """A client of this API, with the auth string of this process where there is one."""
    return SyncPrefectClient(api=api_url, auth_string=PREFECT_API_AUTH_STRING.value())


def worker_name() -> str:
    """Each machine's worker has its own; runs carry it as a label."""
    return f"roadworthy-{platform.node()}"


def worker(config: Settings, deployments: Path = DEPLOYMENTS) -> Program:
    """The worker as a program of the group; ready once the server has heard from it."""
    api = prefect_api(config)
    return Program(
        name="worker",
        argv=(sys.executable, "-m", "flows.schedules", api, str(deployments)),
        environment={
            **PREFECT_SETTINGS,
            "PREFECT_API_URL": api,
            "PREFECT_WORKER_QUERY_SECONDS": "1",
            "PREFECT_WORKER_PREFETCH_SECONDS": "10",  # a run's process starts before it is due, and waits
            **(IN_SERVICES if config.is_services else {}),
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


def apply(api_url: str, folder: Path, deployments: Path = DEPLOYMENTS, *, is_services: bool = False) -> list[str]:
    """Bring the server at `api_url` to the file; see `schedules_apply.bring`."""
    with prefect_client(api_url) as client:
        return schedules_apply.bring(client, folder, deployments, COMMAND, is_services=is_services)


def release(api_url: str, mark: Mapping[str, str]) -> int:
    """Settle what a killed worker of this machine left: its flow processes end, their runs become CRASHED.

    To be called when that worker does not live; returns how many runs.
    """
    stop_marked(5.0, **mark, SUPERVISOR_PROCESS_NAME="worker")
    with prefect_client(api_url) as client:
        left = [run for run in _without_worker(client) if _worker_of(run) in ("", worker_name())]
        for run in left:
            client.set_flow_run_state(run.id, Crashed(message="its worker was killed; run it again"), force=True)
    return len(left)


def _without_worker(client: SyncPrefectClient) -> list[FlowRun]:
    pool = WorkPoolFilter.model_validate({"name": {"any_": [POOL]}})
    wanted = FlowRunFilter.model_validate({"state": {"type": {"any_": WITHOUT_WORKER}}})
    found: list[FlowRun] = []
    while page := client.read_flow_runs(flow_run_filter=wanted, work_pool_filter=pool, limit=100, offset=len(found)):
        found += page
    return found


def _worker_of(run: FlowRun) -> str:
    return str(run.labels.get("prefect.worker.name", ""))


def main(api_url: str, deployments: Path) -> None:
    """Wait for the server, settle, deploy, catch up, then become `prefect worker start`."""
    config = settings()
    folder = config.folder / "run" / "flows"
    if not wait_for(f"{api_url}/health", SERVER_S):
        raise SystemExit(f"no Prefect server answers at {api_url} after {SERVER_S:.0f} s")
    num_runs = release(api_url, stack_mark(config))
    with prefect_client(api_url) as client:
        debts = catch_up.owed(client, datetime.now(UTC))
        names = apply(api_url, folder, deployments, is_services=config.is_services)
        installed = automations.install(client) if config.is_services else []
        num_given, num_skipped = (
            catch_up.give(client, debts),
            catch_up.skip_surplus(client, datetime.now(UTC), timedelta(0)),
        )
    logger.info("%d runs of a killed worker settled; deployments: %s", num_runs, ", ".join(names))
    logger.info("automations: %s", ", ".join(installed) or "none")
    logger.info("caught up: %d runs given, %d of the same schedule skipped", num_given, num_skipped)
    subprocess.Popen([sys.executable, "-m", "flows.warm"], cwd=folder)
    command = ["-m", "prefect", "worker", "start", "--pool", POOL, "--type", "process", "--name", worker_name()]
    os.execv(sys.executable, [sys.executable, *command])  # noqa: S606 - a fixed command of our own


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    main(sys.argv[1], Path(sys.argv[2]))
