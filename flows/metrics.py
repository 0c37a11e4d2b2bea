"""The eyes of a services home: an exporter of its facts, and Prometheus.

`python -m flows.metrics` answers on loopback: /metrics, /livez, and /targets/router and /targets/service, the running
deployments in the form of Prometheus' HTTP service discovery: replicas come and go with every roll-out.
"""

import logging
import sys
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from flows import console
from flows.facts import Facts
from flows.gauges import Gauges
from flows.workshop import Workshop, open_workshop
from infra.deployments import Deployment, DeploymentError, Deployments
from infra.prometheus import LOOPBACK, PrometheusError, prometheus_server
from infra.settings import ServiceSettings, Settings
from infra.supervise import Program

KINDS = ("router", "service")


def eyes(config: Settings) -> list[Program]:
    """Exporter and Prometheus, for the group of a services home.

    Where Prometheus is not to be had, that is said, and the platform comes up without it: without alerts and history.
    """
    url = f"http://{LOOPBACK}:{config.metrics_port}"
    exporter = Program(
        name="metrics", argv=(sys.executable, "-m", "flows.metrics"),
        environment={"ROADWORTHY_METRICS_PORT": str(config.metrics_port)}, url=url, port=config.metrics_port,
        ready_url=f"{url}/livez", priority=700, settle_s=1,
    )  # fmt: skip
    try:
        return [exporter, prometheus_server(config)]
    except PrometheusError as error:
        console.say(f"no Prometheus, so no alerts and no history: {error}; then roadworthy up")
        return [exporter]


def exporter(shop: Workshop) -> Starlette:
    """The application; it reads the home when somebody asks, in a thread."""
    gauges = Gauges(Facts(shop))

    def metrics(_request: Request) -> Response:
        return Response(gauges.exposition(), media_type=CONTENT_TYPE_LATEST)

    def found(request: Request) -> Response:
        kind = request.path_params["kind"]
        if kind not in KINDS:
            return JSONResponse({"error": f"expected one of {', '.join(KINDS)}, got {kind[:40]}"}, status_code=404)
        return JSONResponse(targets(shop, kind))

    def alive(_request: Request) -> Response:
        return Response("\n", media_type="text/plain")

    return Starlette(routes=[Route("/metrics", metrics), Route("/targets/{kind}", found), Route("/livez", alive)])


def targets(shop: Workshop, kind: str) -> list[dict[str, Any]]:
    """The routers, or the replicas, of everything that is deployed; [{"targets": […], "labels": {…}}]."""
    records = Deployments(shop.config, shop.ledger)
    found = []
    for product in records.products():
        try:
            found += _targets(records.read(product), kind)
        except DeploymentError:  # undeployed a moment ago
            continue
    return found


def _targets(one: Deployment, kind: str) -> list[dict[str, Any]]:
    if kind == "router":
        scheme = "https" if ServiceSettings().tls_cert else "http"
        return [{"targets": [f"{LOOPBACK}:{one.port}"], "labels": {"product": one.product, "__scheme__": scheme}}]
    return [
        {
            "targets": [f"{LOOPBACK}:{replica.port}"],
            "labels": {"product": one.product, "version": str(replica.version), "replica": replica.name},
        }
        for replica in (*one.replicas, *one.previous)
    ]


def main() -> None:
    """Serve until SIGTERM."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.WARNING)
    shop = open_workshop()
    uvicorn.run(exporter(shop), host=LOOPBACK, port=shop.config.metrics_port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
