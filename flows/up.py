"""Runs the local servers as one supervised group.

They are Prefect with a worker, MLflow, what ships captured predictions, and serving of every live product that has no
deployment of its own.
"""

from collections.abc import Mapping
from typing import Any

from flows import console
from flows.options import UsageError
from flows.workshop import Workshop
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
    from flows.capture import shipper
    from flows.schedules import worker

    programs = [*servers(shop.config), worker(shop.config), shipper(), *serving_programs(shop, is_open=is_open)]
    return [{"name": item.name, "url": item.url} for item in Stack(shop.config).up(programs, console.say)]


def bring_down(shop: Workshop) -> list[str]:
    """Stop everything; returns the names of what was running."""
    stack = Stack(shop.config)
    names = [item.name for item in stack.status()]
    return names if stack.down(console.say) else []


def programs(shop: Workshop) -> list[dict[str, Any]]:
    """Name, state, pid, address and since-when of each program, those of deployments too."""
    records = Deployments(shop.config, shop.ledger)
    groups = {"": Stack(shop.config)}
    groups |= {f"{name}/": Stack(shop.config, records.folder_of(name)) for name in records.products()}
    return [
        {"name": prefix + item.name, "state": item.state, "pid": item.pid, "url": item.url, "since": item.since}
        for prefix, stack in groups.items()
        for item in stack.status()
    ]


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
