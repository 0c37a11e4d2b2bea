"""Runs the local servers as one supervised group.

They are Prefect with a worker, MLflow, and serving of every live product.
"""

from collections.abc import Mapping
from typing import Any

from flows import console
from flows.workshop import Workshop
from infra.servers import address, servers
from infra.stack import Stack
from infra.supervise import Program


def bring_up(shop: Workshop) -> list[dict[str, str]]:
    """Start everything and wait until each is ready; returns the addresses."""
    from flows.schedules import worker

    programs = [*servers(shop.config), worker(shop.config), *serving_programs(shop)]
    return [{"name": item.name, "url": item.url} for item in Stack(shop.config).up(programs, console.say)]


def bring_down(shop: Workshop) -> list[str]:
    """Stop everything; returns the names of what was running."""
    stack = Stack(shop.config)
    names = [item.name for item in stack.status()]
    return names if stack.down(console.say) else []


def programs(shop: Workshop) -> list[dict[str, Any]]:
    """Name, state, pid, address and since-when of each program."""
    return [
        {"name": item.name, "state": item.state, "pid": item.pid, "url": item.url, "since": item.since}
        for item in Stack(shop.config).status()
    ]


def serving_programs(shop: Workshop) -> list[Program]:
    """One server for each live product, on `serve_port` and the ports after it, in the order of names."""
    from flows.package import live_products, package_live, serving

    found = []
    for offset, product in enumerate(live_products(shop)):
        bento = package_live(shop, product)
        port = shop.config.serve_port + offset
        argv, environment = serving(shop, bento, shop.config.host, port)
        found.append(_program(f"serve-{product}", argv, environment, address(shop.config, port), port))
    return found


def _program(name: str, argv: list[str], environment: Mapping[str, str], url: str, port: int) -> Program:
    return Program(name=name, argv=tuple(argv), environment=environment, url=url, port=port, ready_url=f"{url}/readyz")
