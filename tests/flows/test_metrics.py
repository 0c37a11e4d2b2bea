"""The eyes of a home: real Prometheus scraping a real router, service and exporter."""

import re
from collections.abc import Iterator

import httpx
import pytest

from flows.deploy import deploy, undeploy
from flows.metrics import eyes, targets
from flows.workshop import Workshop
from infra.ports import free_ports
from infra.stack import Stack
from tests.flows.tiny_home import load, tiny_home, until
from tests.infra.test_prometheus import alerts, expressions

METRIC = re.compile(r"\b(?:roadworthy|process|product)[_:][a-z_:0-9]+")
# Only after something has happened that does not happen here.
LATER = {
    "roadworthy_gateway",
    "roadworthy_watch",
    "roadworthy_backup",
    "roadworthy_drill",
    "roadworthy_monitor",
    "roadworthy_flow",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workshop, str]]:
    """A deployed product under load, and the address of the Prometheus that watches it."""
    shop = tiny_home(tmp_path_factory.mktemp("home"))
    metrics_port, prometheus_port = free_ports(2)
    ports = {"metrics_port": metrics_port, "prometheus_port": prometheus_port}
    shop = Workshop(shop.config.model_copy(update=ports))
    stack = Stack(shop.config)
    try:
        url = deploy(shop, "tiny", is_open=True)["url"]
        programs = eyes(shop.config)
        told = shop.home / "run" / "prometheus" / "prometheus.yaml"
        told.write_text(re.sub(r"_(interval|timeout): \d+s", r"_\1: 1s", told.read_text()))  # nobody waits here
        stack.up(programs)
        with load(url):
            yield shop, f"http://127.0.0.1:{prometheus_port}"
    finally:
        stack.down()
        undeploy(shop, "tiny")


@pytest.mark.services
def test_everything_is_found_and_scraped(watched: tuple[Workshop, str]) -> None:
    shop, prometheus = watched

    def healthy() -> set[str]:
        found = httpx.get(f"{prometheus}/api/v1/targets").json()["data"]["activeTargets"]
        return {one["labels"]["job"] for one in found if one["health"] == "up"}  # no gateway here

    until(lambda: healthy() == {"prometheus", "metrics", "router", "service"})
    (service,) = targets(shop, "service")
    assert service["labels"] == {"product": "tiny", "version": "1", "replica": "v1-0"}


@pytest.mark.services
def test_every_metric_of_alerts_and_panels_exists(watched: tuple[Workshop, str]) -> None:
    _, prometheus = watched
    wanted = {
        name for text in [*expressions(), *(one["expr"] for one in alerts())] for name in METRIC.findall(text)
    }  # fmt: skip
    wanted = {name for name in wanted if not name.startswith(tuple(LATER)) and not name.startswith("product:")}

    def known() -> set[str]:
        return set(httpx.get(f"{prometheus}/api/v1/label/__name__/values").json()["data"])

    until(lambda: not wanted - known())
    rules = httpx.get(f"{prometheus}/api/v1/rules").json()["data"]["groups"]
    assert {one["health"] for group in rules for one in group["rules"]} <= {"ok", "unknown"}
