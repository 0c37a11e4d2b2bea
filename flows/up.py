"""Runs the local servers as one supervised group.

They are Prefect with a worker, MLflow, what ships captured predictions, and serving of every live product that has no
deployment of its own. In a services home the servers are the real ones, on PostgreSQL and S3, behind the gateway, with
Prometheus; every live product has a router and a replica.
"""

from collections.abc import Mapping
from typing import Any

from flows import console
from flows.options import UsageError
from flows.workshop import Workshop
from infra import seaweedfs
from infra.deployments import Deployments
from infra.servers import address, servers
from infra.settings import ServiceSettings
from infra.stack import Stack
from infra.supervise import Program
from services.quotas import is_loopback


def bring_up(shop: Workshop, *, is_open: bool = False) -> list[dict[str, str]]:
    """Start everything and wait until each is ready; returns the addresses.

    is_open: the services ask nobody for a key, on loopback only; raises UsageError elsewhere, StackError
    """
    if shop.config.is_services:
        from flows.up_services import bring_up_services

        return bring_up_services(shop, is_open=is_open)
    programs = [*own_programs(shop), *serving_programs(shop, is_open=is_open)]
    return [{"name": item.name, "url": item.url} for item in Stack(shop.config).up(programs, console.say)]


def own_programs(shop: Workshop) -> list[Program]:
    """The servers, the worker and the shipper of captures; in a services home gateway, receiver and eyes too."""
    from flows.capture import shipper
    from flows.schedules import worker

    programs = [*servers(shop.config), worker(shop.config), shipper()]
    if shop.config.is_services:
        from flows.gateway import gateway
        from flows.hooks import hooks
        from flows.metrics import eyes

        programs += [gateway(shop), hooks(shop.config), *eyes(shop.config)]
    return programs


def bring_down(shop: Workshop) -> list[str]:
    """Stop everything; returns the names of what was running. In a services home the deployments stop too."""
    groups = _groups(shop) if shop.config.is_services else {"": Stack(shop.config)}
    stopped = []
    for prefix, stack in reversed(groups.items()):
        names = [prefix + item.name for item in stack.status()]
        stopped += names if stack.down(console.say) else []
    if shop.config.is_services:
        seaweedfs.remove_sockets(shop.config)
    return stopped


def programs(shop: Workshop) -> list[dict[str, Any]]:
    """Name, state, pid, address and since-when of each program, those of deployments too."""
    return [
        {"name": prefix + item.name, "state": item.state, "pid": item.pid, "url": item.url, "since": item.since}
        for prefix, stack in _groups(shop).items()
        for item in stack.status()
    ]


def _groups(shop: Workshop) -> dict[str, Stack]:
    records = Deployments(shop.config, shop.ledger)
    groups = {"": Stack(shop.config)}
    return groups | {f"{name}/": Stack(shop.config, records.folder_of(name)) for name in records.products()}


def serving_programs(shop: Workshop, *, is_open: bool = False) -> list[Program]:
    """One server for each live product, on `serve_port` and the ports after it, in the order of names; gRPC 1000 above.

    What is deployed is left alone: it has a router, and replicas that are rolled out by their own commands.
    """
    from flows.package import grpc_port_above, live_products, package_live, serving

    if is_open and not is_loopback(shop.config.host):
        raise UsageError(f"--open: expected a loopback host, got {shop.config.host}; without keys nobody else may ask")
    found = []
    deployed = Deployments(shop.config, shop.ledger).products()
    for offset, product in enumerate(live_products(shop)):
        if product in deployed:
            continue
        bento = package_live(shop, product)
        port = shop.config.serve_port + offset
        argv, environment = serving(shop, bento, shop.config.host, port, grpc_port_above(port), is_open=is_open)
        url = address(shop.config, port)
        if ServiceSettings().tls_cert:
            url = url.replace("http://", "https://", 1)
        found.append(_program(f"serve-{product}", argv, environment, url, port))
    return found


def _program(name: str, argv: list[str], environment: Mapping[str, str], url: str, port: int) -> Program:
    return Program(name=name, argv=tuple(argv), environment=environment, url=url, port=port, ready_url=f"{url}/readyz")
