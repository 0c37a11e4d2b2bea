"""Capture in a process that is ended: by SIGTERM in a burst, by `kill -9`, and with a full disk."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.spool import OPEN, READY, adopt, read_segment, segments

ROOT = Path(__file__).parents[2]
# As many predictions as asked for, with files of at most so many bytes: the disk is full in the middle of a segment.
FULL_DISK = """
import json, resource, sys
from pathlib import Path
import numpy as np
from services.answers import ANYBODY, sortable_id
from services.capture import Capture, Limits
from services.schemas import Release

class Served:
    release = Release(product="tiny", version=1, parcel_digest="d")

resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
limits = Limits(write_every_s=0.001, retry_s=0.001, batch_bytes=4000)
capture = Capture(Path(sys.argv[1]), per_second=1e9, limits=limits)
ids = [sortable_id() for _ in range(60)]
for one in ids:
    capture.offer(Served, one, ANYBODY, "rest", {"x": np.zeros(1500, np.uint8)}, {})
capture.start()
capture.stop()
print(json.dumps({"ids": ids, **capture.counts()}))
"""


@pytest.fixture
def service(served_folder: Callable[[str], Path], tmp_path: Path) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """A running service that captures all into `tmp_path / "spool"`, and where it predicts."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    folder, url = served_folder("forecast"), f"http://127.0.0.1:{port}"
    settings = {"SIGNATURES": "off", "CAPTURE_FOLDER": str(tmp_path / "spool"), "CAPTURE_PER_S": "1e9"}
    environment = {**os.environ, **{f"ROADWORTHY_SERVE_{name}": value for name, value in settings.items()}}
    command = [sys.executable, "-m", "services.main", "--folder", str(folder), "--port", str(port), "--open"]
    with subprocess.Popen(command, cwd=ROOT, env=environment) as process:
        try:
            until(lambda: answers(f"{url}/readyz"), process)
            yield process, f"{url}/predict"
        finally:
            process.kill()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


def until(done: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 60
    while not done():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def burst(url: str, window: dict[str, Any], acknowledged: list[str]) -> None:
    """Ask until nobody answers; the ids of all answers of 200 that came whole."""
    with httpx.Client() as client:
        while True:
            try:
                answer = client.post(url, json={"data": window})
            except httpx.TransportError:
                return
            if answer.status_code == httpx.codes.OK:
                acknowledged.append(answer.headers["x-prediction-id"])


def captured(spool: Path) -> list[str]:
    read = [read_segment(path) for path in segments(spool, OPEN, READY)]
    return [record.prediction_id for segment in read for record in segment.records]


def end_in_a_burst(
    service: tuple["subprocess.Popen[bytes]", str], window: dict[str, Any], spool: Path, number: int
) -> list[str]:
    """Send the signal while four clients ask and something is on the disk; returns what was acknowledged."""
    process, url = service
    acknowledged: list[str] = []
    clients = [threading.Thread(target=burst, args=(url, window, acknowledged)) for _ in range(4)]
    for client in clients:
        client.start()
    until(lambda: len(acknowledged) >= 100 and bool(captured(spool)), process)
    process.send_signal(number)
    process.wait(30)
    for client in clients:
        client.join()
    return acknowledged


@pytest.mark.services
def test_nothing_acknowledged_is_lost_on_sigterm(
    service: tuple["subprocess.Popen[bytes]", str], window: dict[str, Any], tmp_path: Path
) -> None:
    acknowledged = end_in_a_burst(service, window, tmp_path / "spool", signal.SIGTERM)
    found = captured(tmp_path / "spool")
    assert set(acknowledged) <= set(found)
    assert len(found) == len(set(found))
    assert not segments(tmp_path / "spool", OPEN)


@pytest.mark.services
def test_a_killed_process_leaves_a_segment_that_can_be_read_and_shipped(
    service: tuple["subprocess.Popen[bytes]", str], window: dict[str, Any], tmp_path: Path
) -> None:
    spool = tmp_path / "spool"
    adopt(spool)  # of a living process: nothing
    acknowledged = end_in_a_burst(service, window, spool, signal.SIGKILL)
    (path,) = segments(spool, OPEN)
    found = captured(spool)
    answered_only = [one for one in found if one not in set(acknowledged)]
    assert len(answered_only) <= 4  # the clients' last answers, which were never read
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)  # a power cut in the middle of a write
    assert captured(spool) == found[:-1]
    adopt(spool)
    assert [one.suffix for one in segments(spool, OPEN, READY)] == [READY]
    assert read_segment(segments(spool, READY)[0]).num_torn_bytes > 0


def test_a_full_disk_in_the_middle_of_a_segment_loses_and_repeats_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "spool")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    said = json.loads(done.stdout)
    assert said["failed"] > 0
    assert said["written"] == 60
    assert captured(tmp_path / "spool") == said["ids"]
