"""Keeps every live product served where nobody runs `up`: the part `serving` of the platform in containers.

A roll-out started elsewhere in the same pod talks to the same supervisors, by their sockets under HOME.
"""

import signal
import threading
from types import FrameType

from flows import console
from flows.deploy import deploy
from flows.deployed import deployments, group
from flows.live import live_products
from flows.options import known_errors
from flows.workshop import Workshop

EVERY_S = 5.0


def keep_serving(shop: Workshop, every_s: float = EVERY_S) -> None:
    """Bring up what is live and does not run, again and again; SIGTERM takes all of it down and ends this."""
    is_over = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        is_over.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    while not is_over.is_set():
        for product in missing(shop):
            bring_back(shop, product)
        is_over.wait(every_s)
    for product in deployments(shop).products():
        group(shop, product).down(console.say)


def missing(shop: Workshop) -> list[str]:
    """Live products of which nothing runs; a group whose supervisor answers looks after itself."""
    known = deployments(shop).products()
    return [product for product in live_products(shop) if product not in known or not is_running(shop, product)]


def is_running(shop: Workshop, product: str) -> bool:
    """Whether a supervisor of the product's group answers."""
    states = {one.state for one in group(shop, product).status()}
    return bool(states - {"GONE", "UNSUPERVISED"})


def bring_back(shop: Workshop, product: str) -> None:
    """Deploy it as its record says, or as one replica; what goes wrong is said, and tried again later."""
    found = deployments(shop).find(product)
    try:
        if found is None:
            deploy(shop, product)
        else:
            deploy(shop, product, found.engine, found.num_replicas, found.port, found.grpc_port)
        console.say(f"{product}: served")
    except known_errors() as error:
        console.say(f"{product}: not served: {error}")
