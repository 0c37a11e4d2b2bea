"""The home that is broken and mended: real servers, one tiny live product with two replicas, and its writers."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
import psutil

from bench.chaos_asker import Asker
from bench.chaos_drivers import DRIVERS, LIVE
from flows.deployed import deployments, group, url_of
from flows.live import live_model, parcel_folder
from flows.local_key import key_header
from flows.workshop import Workshop, open_workshop
from infra.ports import free_ports, holder
from infra.processes import stop_marked
from infra.stack import Stack
from models.artifact.manifest import GOLDEN_FILE

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

SOURCE = Path(__file__).parents[1]
PORTS = ("mlflow", "prefect", "serve", "gateway", "postgres", "s3", "prometheus")
RUN = ("run", "forecast/linear", "--data", LIVE, "--set", "data.horizon_steps=4", "--set", "judge.num_resamples=100")
QUEUE = "chaos"  # of the platform's pool: what is scheduled and what is broken do not wait for each other
ENTRYPOINT = "bench/chaos_flow.py:errand"


class BrokenHomeError(RuntimeError):
    """The home could not be made or did not come back; the message says what was asked and what came."""


@dataclass
class Home:
    """`folder` is HOME; `aside` holds what must survive every fault: journals, logs of the writers."""

    folder: Path
    aside: Path
    extra: Mapping[str, str] = field(default_factory=dict)
    writers: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def call(self, *words: str) -> Any:
        """One command as a stranger types it, with its JSON. Raises BrokenHomeError."""
        roadworthy = str(Path(sys.executable).with_name("roadworthy"))
        done = subprocess.run(
            [roadworthy, *words, "--json"], env={**os.environ, **self.extra}, capture_output=True, text=True
        )
        if done.returncode:
            raise BrokenHomeError(f"roadworthy {' '.join(words)}: {(done.stdout + done.stderr)[-2000:]}")
        return json.loads(done.stdout)

    def make(self) -> None:
        """Data in, a model trained and promoted, servers up, two replicas of it on the road."""
        os.environ["ROADWORTHY_HOME"] = str(self.folder)
        for name, port in zip(PORTS, free_ports(len(PORTS)), strict=True):
            os.environ[f"ROADWORTHY_{name.upper()}_PORT"] = str(port)
        table = write_readings(self.aside / "ring.csv")
        words = ("--cadence", "15min", "--unit", "km/h", "--start", "2024-05-06")
        self.call("data", "add", LIVE, "--wide", str(table), *words)
        self.call(*RUN)
        self._up()

    def _up(self) -> None:
        """Twice at most: on a busy machine `up` may lose its patience the first time."""
        try:
            self.call("up", "--profile", "services")
        except BrokenHomeError as error:
            print(error, file=sys.stderr)
            self.call("up", "--profile", "services")

    @cached_property
    def shop(self) -> Workshop:
        return open_workshop()

    @cached_property
    def prefect(self) -> "SyncPrefectClient":
        from prefect.client.orchestration import SyncPrefectClient

        from infra.servers import prefect_api

        return SyncPrefectClient(api=prefect_api(self.shop.config), auth_string=self._prefect_auth)

    @property
    def _prefect_auth(self) -> str | None:
        secret = self.shop.config.prefect_auth
        return secret.get_secret_value() if secret else None

    def deploy_errand(self) -> None:
        """The flow that is broken; Prefect is imported only now, when its settings are in the environment.

        Its pull step is not that of prefect.yaml: a starting worker removes what bears that and is not in the file.
        """
        _ = self.shop
        from prefect.exceptions import ObjectAlreadyExists

        from flows.schedules import POOL

        with suppress(ObjectAlreadyExists):
            self.prefect.create_work_queue(name=QUEUE, work_pool_name=POOL, concurrency_limit=2)
        step = "prefect.deployments.steps.set_working_directory"
        self.prefect.create_deployment(
            flow_id=self.prefect.create_flow_from_name("errand"),
            name="chaos",
            entrypoint=ENTRYPOINT,
            pull_steps=[{step: {"directory": str(SOURCE)}}],
            work_pool_name=POOL,
            work_queue_name=QUEUE,
        )

    def send_errand(self, number: int) -> str:
        """Ask for a run of the errand; returns its id."""
        found = self.prefect.read_deployment_by_name("errand/chaos").id
        return str(self.prefect.create_flow_run_from_deployment(found, parameters={"number": number}).id)

    def asker(self) -> Asker:
        """A client of the router, with the golden request."""
        deployment = deployments(self.shop).read(LIVE)
        url = url_of(self.shop, deployment)
        parcel = parcel_folder(self.shop, live_model(self.shop, LIVE).digest)
        body = json.dumps(json.loads((parcel / GOLDEN_FILE).read_bytes())["request"]).encode()
        return Asker(url, body, {**key_header(self.shop, url), "content-type": "application/json"})

    def journal(self, name: str) -> Path:
        return self.aside / f"{name}.jsonl"

    def keep_writing(self) -> None:
        """Start the writers that do not run."""
        for name in DRIVERS:
            if name not in self.writers or self.writers[name].poll() is not None:
                words = [sys.executable, "-m", "bench.chaos_drivers", name, str(self.journal(name))]
                with (self.aside / f"{name}.log").open("ab") as log:
                    environment = {**os.environ, **self.extra}
                    self.writers[name] = subprocess.Popen(words, cwd=SOURCE, env=environment, stdout=log, stderr=log)

    def pids(self) -> dict[str, int]:
        """The supervised processes that run, by name; `replica` stands for each, in turn."""
        stacks = (Stack(self.shop.config), group(self.shop, LIVE))
        return {one.name: one.pid for stack in stacks for one in stack.status() if one.pid}

    def not_running(self) -> list[str]:
        """Programs that are not as they should be."""
        stacks = (Stack(self.shop.config), group(self.shop, LIVE))
        wrong = [f"{one.name} {one.state}" for stack in stacks for one in stack.status() if one.state != "RUNNING"]
        return wrong or self._orphans()

    def _orphans(self) -> list[str]:
        """Servers whose port is held by what a killed one left, while the supervised one starts in vain."""
        config, pids = self.shop.config, self.pids()
        places = {"mlflow": config.mlflow_server_port, "prefect": config.prefect_server_port}
        held = {name: holder(config.host, port) for name, port in places.items()}
        return [
            f"{name}: {one}, which is not supervised"
            for name, one in held.items()
            if one is not None and one.pid not in {process.pid for process in family(pids.get(name, 0))}
        ]

    def stop_writing(self) -> None:
        """The writers end."""
        for writer in self.writers.values():
            writer.kill()
            writer.wait()

    def down(self) -> None:
        """Everything ends. What does not end by itself is ended by its mark."""
        try:
            self.call("down")
        except BrokenHomeError as error:
            print(error, file=sys.stderr)
            for stack in (Stack(self.shop.config), group(self.shop, LIVE)):
                stop_marked(5.0, **stack.mark)


def write_readings(path: Path, num_days: int = 24, num_sensors: int = 3) -> Path:
    """Speeds at 15 min of a road where jams travel upstream: the neighbours tell what comes."""
    random = np.random.default_rng(3)
    slot = np.arange(num_days * 96) % 96
    rush = np.exp(-((slot - 32) ** 2) / 40) + np.exp(-((slot - 70) ** 2) / 60)
    shock = np.zeros(len(slot))
    for step in range(1, len(slot)):
        shock[step] = 0.9 * shock[step - 1] + random.normal(0, 0.12)
    rows = [100 - 35 * np.roll(rush * (1 + shock), 2 * lag) + 9 * np.roll(shock, 2 * lag) for lag in range(num_sensors)]
    speeds = (np.stack(rows) + random.normal(0, 1.5, (num_sensors, len(slot)))).clip(5, 130).round(2)
    pl.DataFrame({f"s{place}": row for place, row in enumerate(speeds[::-1])}).write_csv(path)
    return path


def family(pid: int) -> list[psutil.Process]:
    """A process and all its descendants."""
    try:
        return [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def until(condition: Callable[[], bool], timeout_s: float, pause_s: float = 0.5) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(pause_s)
    return False
