"""Deploy, roll out and roll back with real Bentos of tiny parcels, under load: no request may fail."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from flows.deploy import deploy, undeploy
from flows.deployed import deployments, free_ports, group, router
from flows.options import UsageError
from flows.replay import Limits, judge, read_file
from flows.roll_out import Plan, roll_out
from flows.up import programs, serving_programs
from flows.way_back import roll_back
from flows.workshop import Workshop
from infra.processes import marked
from infra.promotion import PROMOTE, REGISTER, PromotionRefused
from infra.settings import Settings
from models.artifact import wire
from models.artifact.manifest import hash_files, read_and_verify, write_manifest
from models.artifact.predictor import open_session
from tests.services.conftest import make_parcel, make_window

pytestmark = pytest.mark.services

QUICK = Plan(shadow_s=0.3, canary=(50.0, 100.0), dwell_s=0.5, min_requests=5, max_latency_ratio=100.0)


def other_parcel(source: Path, folder: Path, factor: float, golden_factor: float = 1.0) -> str:
    """The same parcel with its weights multiplied; returns its digest. Any `golden_factor` but 1 makes it a liar."""
    shutil.copytree(source, folder)
    model = onnx.load(folder / "model.onnx")
    (weights,) = (one for one in model.graph.initializer if one.name == "weights")
    weights.CopyFrom(numpy_helper.from_array((numpy_helper.to_array(weights) * factor).astype(np.float32), "weights"))
    content = model.SerializeToString()
    (folder / "model.onnx").write_bytes(content)
    manifest = read_and_verify(source)
    golden = json.loads((folder / "golden.json").read_bytes())
    request = wire.parse_request(manifest, json.dumps(golden["request"]).encode())
    outputs = open_session(content).run(None, request.inputs)[0]
    golden["predictions"] = wire.answer(manifest, outputs * golden_factor, request.is_list)["predictions"]
    (folder / "golden.json").write_text(json.dumps(golden, default=np.ndarray.tolist))
    return write_manifest(folder, manifest.model_copy(update={"files": hash_files(folder)}))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A home where version 1 of `tiny` is live; 2 is like it, 3 is not, 4 failed its gates, 5 is not what it says."""
    home = tmp_path_factory.mktemp("home")
    one = Workshop(Settings(home=home, serve_port=free_ports(1)[0]))
    first = home / "parcels" / "1"
    digests = {1: make_parcel(first, "forecast")}
    for version, factor, golden_factor in ((2, 1.01, 1.0), (3, 3.0, 1.0), (4, 1.02, 1.0), (5, 1.0, 2.0)):
        digests[version] = other_parcel(first, home / "parcels" / str(version), factor, golden_factor)
    for version, digest in digests.items():
        one.store.put_folder(f"parcels/{digest}", home / "parcels" / str(version))
        one.ledger.append(
            REGISTER, "tiny", version=version, digest=digest, run_id="r", evidence=f"e{version}",
            passed=version != 4, reasons=["too slow"] if version == 4 else [],
        )  # fmt: skip
    one.ledger.append(PROMOTE, "tiny", version=1, digest=digests[1], evidence="e1", run_id="r", previous=None)
    yield one
    group(one, "tiny").down()


@pytest.fixture
def url(shop: Workshop) -> Iterator[str]:
    """The router in front of two replicas of version 1."""
    record = deploy(shop, "tiny", num_replicas=2, is_open=True)
    assert (record["version"], record["state"], len(record["replicas"])) == (1, "live", 2)
    yield record["url"]
    undeploy(shop, "tiny")
    assert marked(**group(shop, "tiny").mark) == []


@contextmanager
def load(url: str) -> Iterator[Counter[Any]]:
    """Clients that ask without a break; every answer must be a prediction. Yields what came: (status, model)."""
    seen: Counter[Any] = Counter()
    over = threading.Event()

    async def ask(session: aiohttp.ClientSession) -> None:
        while not over.is_set():
            async with session.post(f"{url}/predict", json={"data": make_window()}) as answer:
                seen[answer.status, (await answer.json()).get("model_version")] += 1
            await asyncio.sleep(0.002)

    async def run() -> None:
        async with aiohttp.ClientSession() as session:
            await asyncio.gather(*(ask(session) for _ in range(4)))

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        until(lambda: seen.total() > 20)
        yield seen
    finally:
        over.set()
        thread.join()
    assert {status for status, _ in seen} == {200}, seen


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def pid_of(shop: Workshop, name: str) -> int | None:
    return next(one.pid for one in group(shop, "tiny").status() if one.name == name)


def weights(shop: Workshop) -> dict[str, float]:
    status = router(shop, "tiny").status() or {"backends": []}
    return {one["name"]: one["weight"] for one in status["backends"]}


def test_onto_the_road_and_back_and_a_kill_without_a_failed_request(shop: Workshop, url: str) -> None:
    with load(url) as seen:
        record = roll_out(shop, "tiny", 2, QUICK)
        assert (record["verdict"], record["version"], record["warm"]) == ("live", 2, 1), record
        stages = {stage["stage"]: stage for stage in record["stages"]}
        assert stages["shadow"]["compared"] > 0 and stages["canary 100 %"]["requests"] > 0
        assert 0 < stages["canary 100 %"]["disagreement"] < 0.02
        until(lambda: seen[200, "tiny/2"] > 20)

        back = roll_back(shop, "tiny")  # the registry never knew 2 as live, so only the road goes back
        assert (back["version"], back["replaced"], back["deployment"]["was_warm"]) == (1, 2, True)
        sys.stdout.write(f"rolled back in {back['deployment']['switched_s']} s\n")
        before = seen[200, "tiny/2"]
        until(lambda: seen[200, "tiny/1"] > 200)
        assert seen[200, "tiny/2"] - before <= 4  # those in flight

        killed = pid_of(shop, "v1-0")
        os.kill(killed or 0, signal.SIGKILL)
        until(
            lambda: any(
                one.name == "v1-0" and one.pid not in (None, killed.pid) for one in group(shop, "tiny").status()
            )
        )
        until(lambda: all(one["ready"] for one in (router(shop, "tiny").status() or {})["backends"]))
    assert roll_out(shop, "tiny", 1, QUICK)["verdict"] == "unchanged"
    actions = [entry.action for entry in shop.ledger.entries("tiny") if entry.action not in (REGISTER, PROMOTE)]
    assert actions[:4] == ["deploy", "roll_out", "roll_out", "roll_back"]


def test_what_answers_otherwise_goes_back_by_itself(shop: Workshop, url: str) -> None:
    with load(url):
        record = roll_out(shop, "tiny", 3, replace(QUICK, shadow_s=30.0, max_disagreement=0.1))
    assert (record["verdict"], record["version"]) == ("rolled back", 1)
    assert record["reason"].startswith("disagreement: the answers of v3")
    kept = deployments(shop).read("tiny")
    assert (kept.state, kept.candidate, kept.of(3)) == ("rolled back", None, ())
    assert weights(shop) == {"v1-0": 50.0, "v1-1": 50.0}
    assert [one.name for one in group(shop, "tiny").status()] == ["v1-0", "v1-1", "router"]


def test_what_is_not_what_it_says_never_meets_a_client(shop: Workshop, url: str) -> None:
    with load(url):
        record = roll_out(shop, "tiny", 5, replace(QUICK, ready_s=2.0))
    assert record["verdict"] == "rolled back" and "v5-" in record["reason"] and record["stages"] == []
    with pytest.raises(PromotionRefused, match="version 4: failed its gates: too slow"):
        roll_out(shop, "tiny", 4, QUICK)
    with pytest.raises(UsageError, match="version 9: not registered; known versions: 1, 2, 3, 4, 5"):
        roll_out(shop, "tiny", 9, QUICK)


KILLED = """
import sys
from pathlib import Path
from flows.roll_out import Plan, roll_out
from flows.workshop import Workshop
from infra.settings import Settings
shop = Workshop(Settings(home=Path(sys.argv[1])))
roll_out(shop, "tiny", 2, Plan(canary=(50.0, 100.0), dwell_s=600.0))
"""


def test_a_killed_roll_out_is_begun_again_or_taken_back(shop: Workshop, url: str) -> None:
    def killed_in_canary() -> None:
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(shop.home)])
        until(lambda: weights(shop).get("v2-0", 0.0) > 0)
        process.kill()
        process.wait()
        assert deployments(shop).read("tiny").state == "rolling"

    with load(url) as seen:
        killed_in_canary()
        assert roll_back(shop, "tiny")["deployment"]["version"] == 1
        assert weights(shop) == {"v1-0": 50.0, "v1-1": 50.0}
        killed_in_canary()
        assert roll_out(shop, "tiny", 2, QUICK)["verdict"] == "live"
        until(lambda: weights(shop) == {"v2-0": 50.0, "v2-1": 50.0, "v1-0": 0.0, "v1-1": 0.0})
    assert seen[200, "tiny/2"] > 0


def test_deploying_again_changes_nothing_but_what_is_asked(shop: Workshop, url: str, tmp_path: Path) -> None:
    before = {one.name: one.pid for one in group(shop, "tiny").status()}
    assert deploy(shop, "tiny", num_replicas=2, is_open=True)["url"] == url
    assert {one.name: one.pid for one in group(shop, "tiny").status()} == before
    with pytest.raises(UsageError, match="is deployed as process on port"):
        deploy(shop, "tiny", "container")
    with load(url):
        assert len(deploy(shop, "tiny", num_replicas=1)["replicas"]) == 1
    assert [one.name for one in group(shop, "tiny").status()] == ["v1-0", "router"]
    assert {one["name"] for one in programs(shop)} == {"tiny/v1-0", "tiny/router"} and serving_programs(shop) == []

    answer = httpx.post(f"{url}/predict", json={"data": make_window()}).json()
    lines = [{"time": number / 100, "body": {"data": make_window()}, "answer": answer} for number in range(30)]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    due = read_file(tmp_path / "asked.jsonl")
    result = judge(shop, url, due, 1.0, Limits(max_p99_ms=10_000))
    assert (result["verdict"], result["requests"], result["compared"]) == ("passed", 30, 30) and not result[
        "disagreement"
    ]
    nobody = judge(shop, f"http://127.0.0.1:{free_ports(1)[0]}", due, 100.0, Limits())
    assert (nobody["verdict"], nobody["errors"]) == ("refused", 30)
