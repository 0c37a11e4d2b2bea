"""The parts of a deployment: programs, what the router is told, how replicas are checked."""

import json
import secrets
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import numpy as np

from flows.live import parcel_folder
from flows.local_key import key_header
from flows.package import package_version, serving
from flows.workshop import Workshop
from infra.containers import Engine as ContainerEngine
from infra.deployments import Deployment, DeploymentError, Deployments, Replica
from infra.ports import free_ports
from infra.refs import BentoRef, ModelRef
from infra.servers import address
from infra.settings import ServiceSettings
from infra.stack import Stack
from infra.supervise import Program
from models.artifact import wire
from models.artifact.manifest import GOLDEN_FILE
from services.copies import MARK
from services.router_client import RouterClient
from services.router_config import Backend, CanaryGuard, RouterConfig, Shadow

LOOPBACK = "127.0.0.1"
ROUTER = "router"
NUM_TRIES = 5  # of a golden request
FULL = 100.0  # the weights of what is on the road add up to this


def deployments(shop: Workshop) -> Deployments:
    """The records of this home."""
    return Deployments(shop.config, shop.ledger)


def group(shop: Workshop, product: str) -> Stack:
    """The supervised group of a product's deployment."""
    return Stack(shop.config, deployments(shop).folder_of(product))


def router(shop: Workshop, product: str) -> RouterClient:
    """To steer the router of a product's deployment."""
    return RouterClient(deployments(shop).folder_of(product))


def programs(shop: Workshop, deployment: Deployment) -> list[Program]:
    """The replicas and the router, for supervisord."""
    replicas = [_replica_program(shop, deployment, one) for one in (*deployment.replicas, *deployment.previous)]
    place = ["--host", deployment.host, "--port", str(deployment.port), "--grpc-port", str(deployment.grpc_port)]
    file = str(router(shop, deployment.product).config_path)
    argv = (sys.executable, "-P", "-m", "services.router", "--config", file, *place)
    url = url_of(shop, deployment)
    return [*replicas, Program(ROUTER, argv, url=url, port=deployment.port, priority=900)]


def _replica_program(shop: Workshop, deployment: Deployment, replica: Replica) -> Program:
    if deployment.engine == "container":
        argv, environment = _container(shop, deployment, replica), dict[str, str]()
    else:
        bento = BentoRef(product=deployment.product, version=replica.version, tag=replica.name, path=replica.bento)
        argv, environment = serving(
            shop, bento, LOOPBACK, replica.port, replica.grpc_port, is_open=deployment.is_open
        )  # fmt: skip
        if ServiceSettings().tls_cert:  # TLS ends at the router; behind it is loopback
            argv = ["/usr/bin/env", "-u", "ROADWORTHY_SERVE_TLS_CERT", "-u", "ROADWORTHY_SERVE_TLS_KEY", *argv]
    url = replica_url(replica)
    return Program(
        name=replica.name, argv=tuple(argv), environment=environment, url=url, port=replica.port,
        ready_url=f"{url}/readyz", settle_s=1,
    )  # fmt: skip


def _container(shop: Workshop, deployment: Deployment, replica: Replica) -> list[str]:
    """The command of a hardened container, without TLS: that ends at the router, and behind it is loopback."""
    from flows.container import container_command
    from flows.image import ImageRef

    image = ImageRef(
        product=deployment.product, version=replica.version, digest=replica.digest, tag=replica.image, engine="",
        size_bytes=0,
    )  # fmt: skip
    words = container_command(
        shop, image, container_name(deployment, replica), replica.port, replica.grpc_port, is_open=deployment.is_open
    )
    return [word for word in words if not word.startswith("--env=ROADWORTHY_SERVE_TLS_")]


def container_name(deployment: Deployment, replica: Replica) -> str:
    return f"roadworthy-{deployment.product}-{replica.name}"


def remove_containers(shop: Workshop, deployment: Deployment, gone: Sequence[Replica]) -> None:
    """What outlived its command, as when that was killed."""
    if deployment.engine == "container":
        for replica in gone:
            ContainerEngine.find(shop.home).remove(container_name(deployment, replica))


def with_replicas(shop: Workshop, deployment: Deployment, ref: ModelRef) -> Deployment:
    """With as many replicas of `ref` as it wants, without a weight; those there are kept, new ones get free ports."""
    known = deployment.of(ref.version)
    num_new = deployment.num_replicas - len(known)
    if num_new <= 0:
        return deployment
    bento, image = _packaged(shop, deployment, ref)
    ports = free_ports(2 * num_new)
    made = tuple(
        Replica(
            name=f"v{ref.version}-{number}", version=ref.version, digest=ref.digest, bento=bento, image=image,
            port=ports.pop(), grpc_port=ports.pop(),
        )
        for number in range(len(known), deployment.num_replicas)
    )  # fmt: skip
    return deployment.model_copy(update={"replicas": (*deployment.replicas, *made)})


def _packaged(shop: Workshop, deployment: Deployment, ref: ModelRef) -> tuple[str, str]:
    """Folder of the Bento, tag of the image: the one that this engine needs. Raises BentoError, EngineError."""
    if deployment.engine == "process":
        return package_version(shop, ref).path, ""
    from flows.image import package_version_image

    return "", package_version_image(shop, ref).tag


def weighted(deployment: Deployment, weights: dict[int, float]) -> Deployment:
    """With these weights by version, shared by its replicas; every other version gets none."""

    def give(replicas: Sequence[Replica]) -> tuple[Replica, ...]:
        return tuple(
            one.model_copy(update={"weight": weights.get(one.version, 0.0) / max(1, len(deployment.of(one.version)))})
            for one in replicas
        )

    return deployment.model_copy(update={"replicas": give(deployment.replicas), "previous": give(deployment.previous)})


def routing(deployment: Deployment, shadow: Shadow | None = None, guard: CanaryGuard | None = None) -> RouterConfig:
    """What the router is told about a deployment."""
    backends = tuple(
        Backend(
            name=one.name, url=replica_url(one), grpc=f"{LOOPBACK}:{one.grpc_port}" if one.grpc_port else "",
            group=one.group, weight=one.weight,
        )
        for one in (*deployment.replicas, *deployment.previous)
    )  # fmt: skip
    return RouterConfig(
        product=deployment.product, roll_out=deployment.roll_out, backends=backends, shadow=shadow, guard=guard
    )


def check(shop: Workshop, replica: Replica) -> float:
    """How far a replica's golden answer is off, as a share of its scale; raises DeploymentError beyond tolerance."""
    url = replica_url(replica)
    golden = json.loads((parcel_folder(shop, replica.digest) / GOLDEN_FILE).read_bytes())
    try:
        answer = _patiently(f"{url}/predict", golden["request"], {**key_header(shop, url), MARK: "1"})
    except httpx.TransportError as error:
        raise DeploymentError(f"{replica.name}: expected the golden answer, got {error}") from error
    if answer.status_code != httpx.codes.OK:
        raise DeploymentError(
            f"{replica.name}: the golden request was answered {answer.status_code}: {answer.text[:500]}"
        )
    if (digest := answer.headers.get("x-model-digest")) != replica.digest:
        raise DeploymentError(f"{replica.name}: expected parcel {replica.digest[:12]}, got {str(digest)[:12]}")
    expected, got = wire.numbers(golden["predictions"]), wire.numbers(answer.json()["predictions"])
    off = _off(expected, got)
    if not off <= golden["tolerance"]:
        allowed = f"{golden['tolerance']:.2%}"
        raise DeploymentError(f"{replica.name}: the golden answer is off by {off:.2%} of its scale, allowed {allowed}")
    if replica.grpc_port:
        _check_grpc(replica)
    return off


def _patiently(url: str, request: Any, headers: Mapping[str, str]) -> httpx.Response:
    """The answer; a replica that says it is overloaded, on a machine where much starts at once, is asked again."""
    for _ in range(NUM_TRIES):
        answer = httpx.post(url, json=request, headers=headers, timeout=10.0, trust_env=False)
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            break
        time.sleep(1.0)
    return answer


def _off(expected: Any, got: Any) -> float:
    if expected.shape != got.shape:
        return float("inf")
    return float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def _check_grpc(replica: Replica) -> None:
    """grpc.health.v1 says SERVING; raises DeploymentError otherwise."""
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(f"{LOOPBACK}:{replica.grpc_port}") as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=5.0)
        except grpc.RpcError as error:
            raise DeploymentError(f"{replica.name}: expected gRPC's health, got {error}") from error
    if answer.status != health_pb2.HealthCheckResponse.SERVING:
        raise DeploymentError(f"{replica.name}: expected gRPC's health to be SERVING, got {answer.status}")


def url_of(shop: Workshop, deployment: Deployment) -> str:
    """Where clients reach the router."""
    url = address(shop.config, deployment.port)
    return url.replace("http://", "https://", 1) if ServiceSettings().tls_cert else url


def replica_url(replica: Replica) -> str:
    return f"http://{LOOPBACK}:{replica.port}"


def new_attempt() -> str:
    """The name of one attempt to put something on the road."""
    return secrets.token_hex(4)
