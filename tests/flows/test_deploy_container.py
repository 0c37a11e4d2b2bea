"""Hardened containers behind the router: asked over REST and gRPC, killed, swapped under load."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from flows.deploy import deploy, undeploy
from flows.deployed import deployments, group, router
from flows.roll_out import roll_out
from flows.way_back import roll_back
from flows.workshop import Workshop
from infra.containers import Engine
from infra.containers_conf import volatile_folder
from tests.flows.tiny_home import LIKE, QUICK, load, tiny_home, until

pytestmark = pytest.mark.containers


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    """A home with two versions; its engine's storage is gone afterwards."""
    one = tiny_home(tmp_path_factory.mktemp("home"), LIKE)
    yield one
    group(one, "tiny").down()
    engine = Engine.find(one.home)
    for name in engine.containers():
        engine.remove(name)
    subprocess.run(["umount", "--lazy", engine.home / "containers" / "overlay"], capture_output=True)
    for folder in (volatile_folder(engine.home), engine.home / "containers", engine.home / "cache"):
        shutil.rmtree(folder, ignore_errors=True)


def test_containers_are_swapped_and_killed_without_a_failed_request(shop: Workshop) -> None:
    record = deploy(shop, "tiny", "container", is_open=True)
    engine = Engine.find(shop.home)
    inspected = engine.inspect("roadworthy-tiny-v1-0")
    assert inspected["HostConfig"]["ReadonlyRootfs"] and not inspected["EffectiveCaps"]
    with grpc.insecure_channel(record["grpc"]) as channel:
        asked = health_pb2.HealthCheckRequest()
        serving = health_pb2.HealthCheckResponse.SERVING
        assert health_pb2_grpc.HealthStub(channel).Check(asked, timeout=30).status == serving
    with load(record["url"]) as seen:
        os.kill(inspected["State"]["Pid"], signal.SIGKILL)
        until(lambda: not psutil.pid_exists(inspected["State"]["Pid"]))
        until(lambda: (router(shop, "tiny").status() or {})["backends"][0]["ready"])
        before = seen.total()
        until(lambda: seen.total() > before + 20)
        warm = engine.inspect("roadworthy-tiny-v1-0")["State"]["Pid"]
        assert roll_out(shop, "tiny", 2, QUICK)["verdict"] == "live"
        assert engine.inspect("roadworthy-tiny-v1-0")["State"]["Pid"] == warm  # what is kept warm is not started anew
        until(lambda: seen[200, "tiny/2"] > 20)
        assert roll_back(shop, "tiny")["deployment"]["was_warm"]
    assert deployments(shop).read("tiny").version == 1
    undeploy(shop, "tiny")
    assert engine.containers() == []
