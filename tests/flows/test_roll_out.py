"""Deploy, roll out and roll back with real Bentos of tiny parcels, under load: no request may fail."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flows.deploy import deploy, undeploy
from flows.deployed import deployments, group, router
from flows.options import UsageError
from flows.plan import PLANS
from flows.registered import registered_version
from flows.replay import Limits, judge, read_file
from flows.roll_out import roll_out
from flows.up import programs, serving_programs
from flows.way_back import roll_back
from flows.workshop import Workshop
from infra.atomic import write_atomic
from infra.deployments import DEPLOY, ROLL_BACK, ROLL_OUT
from infra.ports import free_ports
from infra.processes import marked
from infra.promotion import PromotionRefused
from models.artifact.manifest import ParcelError
from tests.flows.tiny_home import FAILED, LIAR, LIKE, OTHER, QUICK, load, tiny_home, until
from tests.services.conftest import make_window

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A home where version 1 of `tiny` is live; 2 is like it, 3 is not, 4 failed its gates, 5 is not what it says."""
    one = tiny_home(tmp_path_factory.mktemp("home"), LIKE, OTHER, FAILED, LIAR)
    yield one
    if deployments(one).find("tiny"):
        undeploy(one, "tiny")
    assert marked(**group(one, "tiny").mark) == []


@pytest.fixture
def url(shop: Workshop) -> str:
    """The router in front of two replicas of version 1; what another test left is used, for a start takes seconds."""
    found = deployments(shop).find("tiny")
    if found and (found.version, found.candidate) != (1, None):
        undeploy(shop, "tiny")
        assert marked(**group(shop, "tiny").mark) == []
    is_new = deployments(shop).find("tiny") is None
    record = deploy(shop, "tiny", num_replicas=2, is_open=True)
    assert (record["version"], len(record["replicas"])) == (1, 2) and (record["state"] == "live" or not is_new)
    return str(record["url"])


@pytest.fixture
def url_alone(shop: Workshop, request: pytest.FixtureRequest) -> str:
    """The same, with no other version warm."""
    found = deployments(shop).find("tiny")
    if found and found.previous:
        undeploy(shop, "tiny")
    return str(request.getfixturevalue("url"))


def pid_of(shop: Workshop, name: str) -> int | None:
    return next(one.pid for one in group(shop, "tiny").status() if one.name == name)


def weights(shop: Workshop) -> dict[str, float]:
    status = router(shop, "tiny").status() or {"backends": []}
    return {one["name"]: one["weight"] for one in status["backends"]}


def test_what_answers_otherwise_goes_back_by_itself(shop: Workshop, url_alone: str) -> None:
    with load(url_alone):
        record = roll_out(shop, "tiny", 3, replace(QUICK, shadow_s=30.0, max_disagreement=0.1))
    assert (record["verdict"], record["version"]) == ("rolled back", 1)
    assert record["reason"].startswith("disagreement: the answers of v3")
    kept = deployments(shop).read("tiny")
    assert (kept.state, kept.candidate, kept.of(3)) == ("rolled back", None, ())
    assert weights(shop) == {"v1-0": 50.0, "v1-1": 50.0}
    assert [one.name for one in group(shop, "tiny").status()] == ["v1-0", "v1-1", "router"]


def test_what_is_not_what_it_says_never_meets_a_client(shop: Workshop, url_alone: str) -> None:
    measured = shop.home / PLANS / "measured" / f"{registered_version(shop, 'tiny', 5).digest}.json"
    with load(url_alone):
        with pytest.raises(ParcelError, match="golden request is not reproduced"):  # it is tried before it is packed
            roll_out(shop, "tiny", 5, QUICK)
        assert deployments(shop).read("tiny").candidate is None
        write_atomic(measured, b"{}")  # it answered well where it was packed, and not where it is to serve
        record = roll_out(shop, "tiny", 5, replace(QUICK, ready_s=2.0))
    assert record["verdict"] == "rolled back" and "v5-" in record["reason"] and record["stages"] == []
    with pytest.raises(PromotionRefused, match="version 4: failed its gates: too slow"):
        roll_out(shop, "tiny", 4, QUICK)
    with pytest.raises(UsageError, match="version 9: not registered; known versions: 1, 2, 3, 4, 5"):
        roll_out(shop, "tiny", 9, QUICK)


def test_deploying_again_changes_nothing_but_what_is_asked(shop: Workshop, url_alone: str, tmp_path: Path) -> None:
    before = {one.name: one.pid for one in group(shop, "tiny").status()}
    assert deploy(shop, "tiny", num_replicas=2, is_open=True)["url"] == url_alone
    assert {one.name: one.pid for one in group(shop, "tiny").status()} == before
    with pytest.raises(UsageError, match="is deployed as process on port"):
        deploy(shop, "tiny", "container")
    with grpc.insecure_channel(deploy(shop, "tiny", num_replicas=2)["grpc"]) as channel:
        asked = health_pb2.HealthCheckRequest(service="tiny")
        answer, call = health_pb2_grpc.HealthStub(channel).Check.with_call(asked, timeout=30)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        assert dict(call.initial_metadata())["x-served-by"] in ("v1-0", "v1-1")
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):  # refusals pass through as they are
            channel.unary_unary("/inference.GRPCInferenceService/Nothing")(b"", timeout=30)
    with load(url_alone):
        assert len(deploy(shop, "tiny", num_replicas=1)["replicas"]) == 1
    assert [one.name for one in group(shop, "tiny").status()] == ["v1-0", "router"]
    assert {one["name"] for one in programs(shop)} == {"tiny/v1-0", "tiny/router"} and serving_programs(shop) == []

    answer = httpx.post(f"{url_alone}/predict", json={"data": make_window()}).json()
    lines = [{"time": number / 100, "body": {"data": make_window()}, "answer": answer} for number in range(30)]
    (tmp_path / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    due = read_file(tmp_path / "asked.jsonl")
    result = judge(shop, url_alone, due, 1.0, Limits(max_p99_ms=10_000))
    assert (result["verdict"], result["requests"], result["compared"]) == ("passed", 30, 30) and not result[
        "disagreement"
    ]
    nobody = judge(shop, f"http://127.0.0.1:{free_ports(1)[0]}", due, 100.0, Limits())
    assert (nobody["verdict"], nobody["errors"]) == ("refused", 30)


def test_onto_the_road_and_back_and_a_kill_without_a_failed_request(shop: Workshop, url: str) -> None:
    def actions() -> list[str]:
        return [one.action for one in shop.ledger.entries("tiny") if one.action in (DEPLOY, ROLL_OUT, ROLL_BACK)]

    earlier = actions()
    assert earlier[0] == DEPLOY
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
        until(lambda: seen[200, "tiny/1"] > 100)
        assert seen[200, "tiny/2"] - before <= 4  # those in flight

        killed = pid_of(shop, "v1-0")
        os.kill(killed or 0, signal.SIGKILL)
        until(lambda: pid_of(shop, "v1-0") not in (None, killed))
        until(lambda: all(one["ready"] for one in (router(shop, "tiny").status() or {})["backends"]))
    assert roll_out(shop, "tiny", 1, QUICK)["verdict"] == "unchanged"
    assert actions()[len(earlier) :] == [ROLL_OUT, ROLL_OUT, ROLL_BACK]


def test_a_rollback_takes_road_and_registry_back(shop: Workshop, url: str) -> None:
    second = registered_version(shop, "tiny", 2)
    shop.registry.promote(second, "e2")
    with load(url):
        assert roll_out(shop, "tiny", plan=QUICK)["version"] == 2  # what the registry calls live
        record = roll_back(shop, "tiny")
    assert (record["version"], record["replaced"], record["deployment"]["version"]) == (1, 2, 1)
    assert shop.registry.live("tiny") == registered_version(shop, "tiny", 1)
    assert weights(shop) == {"v1-0": 50.0, "v1-1": 50.0, "v2-0": 0.0, "v2-1": 0.0}
    with pytest.raises(PromotionRefused, match="nothing to roll back to"):
        roll_back(shop, "tiny")


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
