"""A product on the road: supervised replicas behind a router, started, checked, stopped.

The group of a product lives in HOME/deployments/<product>: its record, the router's file, the logs. Replicas listen on
loopback; clients reach the router.
"""

from typing import Any

from flows import console
from flows.deployed import (
    FULL,
    LOOPBACK,
    check,
    deployments,
    group,
    new_attempt,
    programs,
    remove_containers,
    replica_url,
    router,
    routing,
    url_of,
    weighted,
    with_replicas,
)
from flows.gateway import refresh
from flows.live import live_model, live_products
from flows.options import UsageError
from flows.package import grpc_port_above
from flows.workshop import Workshop
from infra.deployments import DEPLOY, UNDEPLOY, Deployment, DeploymentError, Engine
from infra.refs import ModelRef
from infra.stack import StackError

READY_S = 120.0


def deploy(
    shop: Workshop,
    product: str,
    engine: Engine = "process",
    num_replicas: int = 1,
    port: int | None = None,
    grpc_port: int | None = None,
    *,
    is_open: bool = False,
) -> dict[str, Any]:
    """Put the live version on the road, or bring what is deployed up again.

    1. record and ledger, 2. replicas and router, ready, 3. the golden request of each replica, and gRPC's health,
    4. live. Raises UsageError, StackError, DeploymentError.
    """
    records = deployments(shop)
    found = records.find(product)
    if found is not None and found.state != "starting":
        return addresses(shop, _up_again(shop, _as_asked(shop, found, engine, num_replicas, port)))
    if is_open and shop.config.host not in (LOOPBACK, "localhost", "::1"):
        raise UsageError(f"--open: expected a loopback host, got {shop.config.host}; without keys nobody else may ask")
    live = live_model(shop, product)
    place = port or default_port(shop, product)
    meant = Deployment(
        product=product, engine=engine, host=shop.config.host, port=place,
        grpc_port=grpc_port or grpc_port_above(place), is_open=is_open, num_replicas=num_replicas,
        version=live.version, roll_out=new_attempt(),
    )  # fmt: skip
    meant = weighted(with_replicas(shop, meant, live), {live.version: FULL})
    records.begin(meant, DEPLOY, live.version, f"{num_replicas} × {engine} on port {place}")
    try:
        _up_again(shop, meant)
    except (StackError, DeploymentError) as error:
        group(shop, product).down()
        remove_containers(shop, meant, meant.replicas)
        records.remove(meant)
        raise DeploymentError(f"{product} version {live.version} is not deployed: {error}") from error
    refresh(shop)
    return addresses(shop, records.write(meant.model_copy(update={"state": "live"})))


def undeploy(shop: Workshop, product: str) -> dict[str, Any]:
    """Take a product off the road; leaves nothing running. Raises DeploymentError when it is not deployed."""
    records = deployments(shop)
    found = records.read(product)
    records.begin(found, UNDEPLOY, found.version)
    num_processes = group(shop, product).down(console.say)
    remove_containers(shop, found, (*found.replicas, *found.previous))
    records.remove(found)
    refresh(shop)
    return {"product": product, "version": found.version, "stopped": num_processes}


def _as_asked(shop: Workshop, found: Deployment, engine: Engine, num_replicas: int, port: int | None) -> Deployment:
    """What is deployed, with as many replicas as are wanted now. UsageError for what only a new start changes."""
    if engine != found.engine or port not in (None, found.port):
        got = f"{found.engine} on port {found.port}"
        raise UsageError(f"{found.product}: is deployed as {got}; to change that: roadworthy undeploy {found.product}")
    if num_replicas == found.num_replicas or found.state == "rolling":
        return found
    digest = found.of(found.version)[0].digest
    ref = ModelRef(product=found.product, version=found.version, digest=digest)
    wanted = with_replicas(shop, found.model_copy(update={"num_replicas": num_replicas}), ref)
    kept = (
        tuple(one for one in wanted.replicas if one.version != found.version) + wanted.of(found.version)[:num_replicas]
    )
    wanted = weighted(wanted.model_copy(update={"replicas": kept}), {found.version: FULL})
    return deployments(shop).begin(wanted, DEPLOY, found.version, f"{num_replicas} replicas")


def _up_again(shop: Workshop, deployment: Deployment) -> Deployment:
    """Everything of the record is running, ready and checked afterwards."""
    client = router(shop, deployment.product)
    if client.status() is None:  # a router that runs may be in the middle of a canary: it is not told anything else
        client.write(routing(deployment))
    start(shop, deployment)
    for replica in deployment.of(deployment.version):
        check(shop, replica)
    if deployment.state != "rolling":
        client.apply(routing(deployment))
    return deployment


def start(shop: Workshop, deployment: Deployment, ready_s: float = READY_S) -> None:
    """Start what does not run, stop what the record does not name; all is ready then. Raises StackError."""
    group(shop, deployment.product).up(programs(shop, deployment), timeout_s=ready_s)


def addresses(shop: Workshop, deployment: Deployment) -> dict[str, Any]:
    """What people need to know of a deployment."""
    return {
        "product": deployment.product,
        "version": deployment.version,
        "state": deployment.state,
        "engine": deployment.engine,
        "url": url_of(shop, deployment),
        "grpc": f"{deployment.host}:{deployment.grpc_port}",
        "replicas": [{"name": one.name, "url": replica_url(one), "weight": one.weight} for one in deployment.replicas],
        "previous": [{"name": one.name, "url": replica_url(one)} for one in deployment.previous],
    }


def default_port(shop: Workshop, product: str) -> int:
    """The port on which `up` would serve the product."""
    return shop.config.serve_port + live_products(shop).index(product)
