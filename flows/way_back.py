"""Back to the version that was live before: first on the road, then in the registry.

The road comes first because the registry needs MLflow, which takes seconds to import; where the registry will go back
to is in the ledger, which takes milliseconds to read.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filelock import FileLock

from flows import console
from flows.deploy import start
from flows.deployed import (
    FULL,
    check,
    deployments,
    new_attempt,
    remove_containers,
    router,
    routing,
    weighted,
    with_replicas,
)
from flows.workshop import Workshop
from infra.deployments import ROLL_BACK, Deployment, Replica
from infra.promotion import standing
from infra.refs import ModelRef


def roll_back(shop: Workshop, product: str) -> dict[str, Any]:
    """The version that was live before is live again, on the road and in the registry; says which, and how fast.

    A deployment that runs ahead of the registry (a version rolled out, or being rolled out, that was never promoted)
    comes back to the live version, and the registry stays. Raises PromotionRefused when there is nothing to go back to.
    """
    deployed = deployments(shop).find(product)
    state = standing(shop.ledger.entries(product))
    live = state.live
    if deployed is None or live is None:
        return _in_registry(shop, product)
    ahead = deployed.candidate or deployed.version
    is_ahead = ahead != live.version and live.version in (deployed.version, deployed.warm)
    if not is_ahead and not state.before:
        return _in_registry(shop, product)  # which refuses, in its own words
    target = live if is_ahead else state.before[-1]
    switched = switch(shop, deployed, target)
    if is_ahead:
        record = {"product": product, "version": live.version, "digest": live.digest, "replaced": ahead}
    else:
        record = _in_registry(shop, product)
    return {**record, "deployment": switched}


def _in_registry(shop: Workshop, product: str) -> dict[str, Any]:
    from flows.promote import roll_back as of_registry  # imports torch and MLflow: after the road is safe

    return of_registry(shop, product)


def switch(shop: Workshop, deployed: Deployment, target: ModelRef) -> dict[str, Any]:
    """All requests go to `target` at once if it is warm, after its start otherwise; what was stays warm."""
    began = time.monotonic()
    was_warm = bool(deployed.of(target.version))
    if not was_warm:
        deployed = _warmed(shop, deployed, target)
    with alone(shop, deployed.product):
        meant = _switched(deployments(shop).read(deployed.product), target.version)
        meant = deployments(shop).begin(meant, ROLL_BACK, target.version, "by command")
        tell(shop, meant)
    switched_s = time.monotonic() - began
    named = {one.name for one in (*meant.replicas, *meant.previous)}
    stop_others(shop, meant, tuple(one for one in (*deployed.replicas, *deployed.previous) if one.name not in named))
    return {"version": target.version, "was_warm": was_warm, "switched_s": round(switched_s, 3)}


def _switched(record: Deployment, version: int) -> Deployment:
    """With `version` on the road. What was on it stays warm; a candidate that never got there does not."""
    old = record.of(record.version) if record.version != version else record.previous
    old = tuple(one for one in old if one.version not in (version, record.candidate))
    update = {
        "version": version, "candidate": None, "replicas": record.of(version), "previous": old,
        "state": "rolled back", "reason": "by command", "roll_out": new_attempt(),
    }  # fmt: skip
    return weighted(record.model_copy(update=update), {version: FULL})


def _warmed(shop: Workshop, deployed: Deployment, target: ModelRef) -> Deployment:
    """With replicas of `target` that run and answer as they were judged. Raises StackError, DeploymentError."""
    with alone(shop, deployed.product):
        found = deployments(shop).read(deployed.product)
        meant = with_replicas(shop, found.model_copy(update={"roll_out": new_attempt()}), target)
        meant = deployments(shop).begin(meant, ROLL_BACK, target.version, "its replicas are started first")
    console.say(f"version {target.version} is not warm: starting it first")
    start(shop, meant)
    for replica in meant.of(target.version):
        check(shop, replica)
    return meant


def back(shop: Workshop, record: Deployment, reason: str) -> Deployment:
    """End a roll-out: everything to the version before, at once; then the candidate's replicas are stopped."""
    gone = record.of(record.candidate) if record.candidate else ()
    update = {
        "replicas": tuple(one for one in record.replicas if one not in gone),
        "previous": tuple(one for one in record.previous if one not in gone),
        "candidate": None, "state": "rolled back", "reason": reason,
    }  # fmt: skip
    meant = weighted(record.model_copy(update=update), {record.version: FULL})
    with alone(shop, record.product):
        found = deployments(shop).find(record.product)
        if found is None or found.roll_out != record.roll_out:
            return found or record  # another command has taken over, and decides
        meant = deployments(shop).begin(meant, ROLL_BACK, record.version, reason)
        tell(shop, meant)
    stop_others(shop, meant, gone)
    return meant


def tell(shop: Workshop, record: Deployment) -> None:
    """The router does what the record says; one that does not run finds it in its file."""
    client = router(shop, record.product)
    if client.status() is None:
        client.write(routing(record))
    else:
        client.apply(routing(record))


def stop_others(shop: Workshop, record: Deployment, gone: tuple[Replica, ...]) -> None:
    """What the record does not name any more finishes its requests and ends; what it names runs."""
    router(shop, record.product).drain({one.name for one in gone})
    start(shop, record)
    kept = {one.name for one in (*record.replicas, *record.previous)}
    remove_containers(shop, record, [one for one in gone if one.name not in kept])


@contextmanager
def alone(shop: Workshop, product: str) -> Iterator[None]:
    """One command at a time changes a deployment; held for moments, so a rollback need not wait for a roll-out."""
    with FileLock(deployments(shop).folder_of(product) / "deployment.lock"):
        yield
