"""A HOME of its own, a small road with something to learn, and the command as a stranger calls it."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest

from infra import ports

COMMAND = [str(Path(sys.executable).with_name("roadworthy"))]
SMALL = {
    "data.horizon_steps": 4, "train.num_epochs": 4, "distil.num_epochs": 4, "prune.num_epochs": 2,
    "judge.num_resamples": 100,
}  # fmt: skip


@dataclass(frozen=True)
class Road:
    """The command in one HOME."""

    home: Path
    ports: tuple[int, int, int]  # MLflow, Prefect, serving

    @property
    def environment(self) -> dict[str, str]:
        names = ("ROADWORTHY_MLFLOW_PORT", "ROADWORTHY_PREFECT_PORT", "ROADWORTHY_SERVE_PORT")
        ports = {name: str(port) for name, port in zip(names, self.ports, strict=True)}
        foreign = ("MLFLOW_", "PREFECT_", "BENTOML_", "ROADWORTHY_")  # what other tests left in this process
        own = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
        return {**own, **ports, "ROADWORTHY_HOME": str(self.home), "COLUMNS": "160"}

    def start(self, *words: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*COMMAND, *words], env=self.environment, stdout=subprocess.PIPE, start_new_session=True
        )

    def call(self, *words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([*COMMAND, *words], env=self.environment, capture_output=True, text=True, timeout=600)

    def ask(self, *words: str, status: int = 0) -> Any:
        """The JSON answer; stdout must hold it and nothing else."""
        done = self.call(*words, "--json")
        assert done.returncode == status, done.stdout + done.stderr
        return json.loads(done.stdout)

    def run(self, recipe: str, status: int = 0, **settings: object) -> Any:
        words = [f"--set={key}={value}" for key, value in {**SMALL, **settings}.items()]
        return self.ask("run", recipe, "--data", "ring", *words, status=status)

    @staticmethod
    def free_port() -> int:
        return ports.free_port()

    @staticmethod
    def wait_until(condition: Callable[[], bool], seconds: float) -> None:
        """Raises TimeoutError; a server that does not answer yet is waited for."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                if condition():
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise TimeoutError(f"not within {seconds:.0f} s")


def write_ring(path: Path, num_days: int = 24, num_sensors: int = 6) -> Path:
    """Speeds at 15 min of a road where jams travel upstream: the neighbours tell what comes."""
    random = np.random.default_rng(3)
    num_steps = num_days * 96
    slot = np.arange(num_steps) % 96
    rush = np.exp(-((slot - 32) ** 2) / 40) + np.exp(-((slot - 70) ** 2) / 60)
    shock = np.zeros(num_steps)
    for step in range(1, num_steps):
        shock[step] = 0.9 * shock[step - 1] + random.normal(0, 0.12)
    speeds = np.stack(
        [100 - 35 * np.roll(rush * (1 + shock), 2 * lag) + 9 * np.roll(shock, 2 * lag) for lag in range(num_sensors)]
    )
    speeds = (speeds + random.normal(0, 1.5, speeds.shape)).clip(5, 130).round(2)
    pl.DataFrame({f"s{place}": row for place, row in enumerate(speeds[::-1])}).write_csv(path)
    return path


@pytest.fixture(scope="module")
def road(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Road]:
    folder = tmp_path_factory.mktemp("road")
    one = Road(folder / "home", (Road.free_port(), Road.free_port(), Road.free_port()))
    source = write_ring(folder / "ring.csv")
    words = ("--cadence", "15min", "--unit", "km/h", "--start", "2024-05-06")
    one.ask("data", "add", "ring", "--wide", str(source), *words)
    yield one
    one.call("down")
