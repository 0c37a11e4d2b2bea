"""What the commands of a deployment take and refuse, and what the router is told; nothing is started."""

from pathlib import Path

import pytest

from flows.cli_deploy import seconds, shares
from flows.deploy import deploy, undeploy
from flows.deployed import routing, weighted
from flows.options import UsageError
from flows.roll_out import Plan, roll_out
from flows.workshop import Workshop
from infra.deployments import Deployment, DeploymentError, Deployments, Replica
from infra.ports import free_ports
from infra.promotion import PROMOTE
from infra.settings import Settings


def replica(version: int, number: int) -> Replica:
    return Replica(
        name=f"v{version}-{number}", version=version, digest="d", port=4000 + number, grpc_port=5000 + number
    )


DEPLOYED = Deployment(
    product="tiny", engine="process", host="127.0.0.1", port=3000, grpc_port=4000, num_replicas=2, version=1,
    replicas=(replica(1, 0), replica(1, 1), replica(2, 0)), previous=(replica(0, 0),),
)  # fmt: skip


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    one = Workshop(Settings(home=tmp_path))
    one.ledger.append(PROMOTE, "tiny", version=1, digest="d", evidence="e", run_id="r", previous=None)
    return one


def test_durations_and_shares_are_read() -> None:
    assert [seconds("--dwell", text) for text in ("30s", "5m", "1h", "0.5", "0")] == [30.0, 300.0, 3600.0, 0.5, 0.0]
    assert shares("10, 50,100") == (10.0, 50.0, 100.0) and shares("100") == (100.0,)
    for wrong in ("5 minutes", "-1s", "", "m"):
        with pytest.raises(UsageError, match=r"--shadow .*: expected a duration"):
            seconds("--shadow", wrong)
    for wrong in ("10,50", "50,10,100", "0,100", "ten,100", "", "100,101"):
        with pytest.raises(UsageError, match="expected growing shares"):
            shares(wrong)


def test_weights_are_shared_by_the_replicas_of_a_version() -> None:
    told = routing(weighted(DEPLOYED, {1: 90.0, 2: 10.0}))
    assert {one.name: (one.group, one.weight) for one in told.backends} == {
        "v1-0": ("v1", 45.0), "v1-1": ("v1", 45.0), "v2-0": ("v2", 10.0), "v0-0": ("v0", 0.0),
    }  # fmt: skip
    assert told.backends[0].grpc == "127.0.0.1:5000"
    guard = Plan().guard(2, 1)
    assert (guard.group, guard.back_to, guard.max_disagreement) == ("v2", "v1", 0.25)


def test_what_cannot_be_done_is_said_before_anything_starts(shop: Workshop) -> None:
    with pytest.raises(UsageError, match="product 'other': nothing is live; live products: tiny"):
        deploy(shop, "other")
    for verb in (undeploy, roll_out):
        with pytest.raises(DeploymentError, match=r"deployed: none; start one: roadworthy deploy tiny"):
            verb(shop, "tiny")
    everywhere = Workshop(shop.config.model_copy(update={"host": "0.0.0.0"}))
    with pytest.raises(UsageError, match=r"--open: expected a loopback host, got 0\.0\.0\.0"):
        deploy(everywhere, "tiny", is_open=True)
    records = Deployments(shop.config, shop.ledger)
    records.write(DEPLOYED)
    with pytest.raises(UsageError, match="was never finished; first: roadworthy deploy tiny"):
        roll_out(shop, "tiny")
    records.write(DEPLOYED.model_copy(update={"state": "live"}))
    with pytest.raises(UsageError, match="is deployed as process on port 3000; to change that: roadworthy undeploy"):
        deploy(shop, "tiny", "container")


def test_free_ports_differ() -> None:
    assert len(set(free_ports(8))) == 8
