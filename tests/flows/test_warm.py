"""The forge of flow processes: forks end as they would by themselves, and not one outlives who asked for it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from flows import schedules, warm

pytestmark = pytest.mark.services  # a real MLflow store, or processes: too slow for the fast suite

START = str(schedules.SOURCE / "flows" / "warm_start.py")
NUMERICAL = ("numpy", "torch", "onnxruntime", "pyarrow", "mlflow")


def ask(folder: Path, run_id: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-I", "-S", START, warm.SOCKET, sys.executable]
    # a server that does not answer: the engine tries for a while
    environment = {**os.environ, "PREFECT__FLOW_RUN_ID": run_id, "PREFECT_API_URL": "http://127.0.0.1:9/api"}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def forge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, psutil.Process]]:
    folder = tmp_path_factory.mktemp("forge")
    environment = {**os.environ, "PYTHONPATH": str(schedules.SOURCE)}
    process = subprocess.Popen([sys.executable, "-m", "flows.warm"], cwd=folder, env=environment)
    deadline = time.monotonic() + 60
    while not (folder / warm.SOCKET).exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    yield folder, psutil.Process(process.pid)
    process.terminate()
    assert process.wait(timeout=30) == 0


def child_of(forge: psutil.Process) -> psutil.Process:
    deadline = time.monotonic() + 30
    while not (children := forge.children()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return children[0]


def test_the_forge_can_be_forked(forge: tuple[Path, psutil.Process]) -> None:
    folder, process = forge
    ask(folder, "no run at all").communicate(timeout=60)
    assert process.num_threads() == 1
    loaded = " ".join(one.path for one in process.memory_maps())
    assert [name for name in NUMERICAL if f"/{name}/" in loaded] == []


def test_a_fork_ends_as_the_engine_ends(forge: tuple[Path, psutil.Process]) -> None:
    asked = ask(forge[0], "no run at all")
    assert "badly formed hexadecimal UUID" in asked.communicate(timeout=60)[1]
    assert asked.returncode == 1


def test_without_a_forge_the_engine_runs_by_itself(tmp_path: Path) -> None:
    asked = ask(tmp_path, "no run at all")
    assert "badly formed hexadecimal UUID" in asked.communicate(timeout=60)[1]
    assert asked.returncode == 1


def test_a_killed_fork_is_told_and_a_killed_asker_takes_its_fork_along(forge: tuple[Path, psutil.Process]) -> None:
    folder, process = forge
    asked = ask(folder, "01990000-0000-7000-8000-000000000001")
    child_of(process).kill()
    assert asked.wait(timeout=30) == -signal.SIGKILL
    asked = ask(folder, "01990000-0000-7000-8000-000000000001")
    child = child_of(process)
    asked.kill()
    child.wait(timeout=30)
