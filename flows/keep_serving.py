"""Keeps every live product served where nobody runs `up`: the part `serving` in containers.

A roll-out started elsewhere in the same pod talks to the same supervisors, by their sockets under HOME.
"""

import signal
import subprocess
import sys
import threading
from types import FrameType

from flows import console
from flows.deployed import deployments, group
from flows.live import live_products
from flows.workshop import Workshop

EVERY_S = 5.0
DEPLOY_S = 600.0


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


def command(shop: Workshop, product: str) -> list[str]:
    """Deploys it as its record says, or as one replica; a process of its own, so that its end is not ours."""
    found = deployments(shop).find(product)
    kept = [] if found is None else ["--replicas", str(found.num_replicas), "--engine", found.engine]
    return [sys.executable, "-c", "from flows.cli import main; main()", "deploy", product, *kept]


def bring_back(shop: Workshop, product: str) -> bool:
    """Whether it is served now; what went wrong is said by the command, and tried again later."""
    try:
        return subprocess.run(command(shop, product), timeout=DEPLOY_S).returncode == 0
    except subprocess.TimeoutExpired:
        console.say(f"{product}: not served after {DEPLOY_S:.0f} s")
        return False
