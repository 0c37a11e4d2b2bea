"""The record of a deployment: whole on the disk, and in the ledger before it takes effect."""

from pathlib import Path

import pytest

from infra.deployments import (
    DEPLOY,
    NUM_EVENTS,
    ROLL_OUT,
    Deployment,
    DeploymentError,
    Deployments,
    Replica,
)
from infra.ledger import Ledger
from infra.promotion import standing
from infra.settings import Settings


@pytest.fixture
def records(tmp_path: Path) -> Deployments:
    return Deployments(Settings(home=tmp_path), Ledger(tmp_path / "ledger" / "ledger.jsonl"))


def replica(version: int, number: int = 0) -> Replica:
    return Replica(
        name=f"v{version}-{number}", version=version, digest=f"d{version}", port=4000 + 10 * version + number
    )


def deployment(**fields: object) -> Deployment:
    base = Deployment(
        product="tiny", engine="process", host="127.0.0.1", port=3000, grpc_port=4000, num_replicas=1, version=1,
        replicas=(replica(1),),
    )  # fmt: skip
    return base.model_copy(update=fields)


def test_the_ledger_has_it_before_the_record(records: Deployments, tmp_path: Path) -> None:
    kept = records.begin(deployment(), DEPLOY, 1, "on port 3000")
    assert records.read("tiny") == kept and records.products() == ["tiny"]
    assert (records.folder_of("tiny") / "deployment.json").stat().st_mode & 0o777 == 0o600
    ledger = Ledger(tmp_path / "ledger" / "ledger.jsonl")
    (entry,) = ledger.entries("tiny")
    assert (entry.action, entry.details["version"], entry.details["digest"]) == (DEPLOY, 1, "d1")
    assert standing(ledger.entries("tiny")).live is None  # what is deployed does not say what is live
    records.remove(kept)
    assert records.find("tiny") is None and records.products() == []


def test_a_record_knows_its_versions(records: Deployments) -> None:
    one = deployment(replicas=(replica(2), replica(2, 1)), previous=(replica(1),), version=2)
    assert [each.name for each in one.of(2)] == ["v2-0", "v2-1"] and one.of(3) == ()
    assert (one.warm, one.of(1)[0].group, deployment().warm) == (1, "v1", None)
    for number in range(NUM_EVENTS + 5):
        one = one.noted(ROLL_OUT, number)
    assert [event.version for event in one.history][-1] == NUM_EVENTS + 4 and len(one.history) == NUM_EVENTS


def test_what_is_not_deployed_and_what_cannot_be_read_say_so(records: Deployments) -> None:
    records.write(deployment())
    with pytest.raises(DeploymentError, match=r"product 'other'.*deployed: tiny; start one: roadworthy deploy other"):
        records.read("other")
    (records.folder_of("tiny") / "deployment.json").write_text('{"product": 1}')
    with pytest.raises(DeploymentError, match="expected the record of a deployment"):
        records.find("tiny")
