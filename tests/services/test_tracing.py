"""Traces of real requests through a real router and service, received as OTLP over HTTP (protobuf) by a real server."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from infra.settings import ServiceSettings
from services import inference_pb2 as messages
from services.router_client import RouterClient
from services.router_config import Backend, RouterConfig
from services.tracing import Tracer, TracingError, open_tracer
from tests.services.conftest import make_release_folder, make_window
from tests.services.test_main import announced, ended, served
from tests.services.test_router import Yard, answers, free_port, until

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GRPC = "inference.GRPCInferenceService"
HTTP_NAMES = ("POST /predict", "ask v3-0", "model tiny/3", "GET")
SAMPLED = {"traceparent": f"00-{TRACE}-{PARENT}-01"}


class Collector:
    """What a collector of traces is to us: POST /v1/traces, protobuf. `spans`: all that came, with their service."""

    def __init__(self) -> None:
        spans: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert (self.path, self.headers["content-type"]) == ("/v1/traces", "application/x-protobuf")
                request = ExportTraceServiceRequest.FromString(self.rfile.read(int(self.headers["content-length"])))
                for group in request.resource_spans:
                    service = _plain(group.resource.attributes)["service.name"]
                    spans.extend(_record(service, span) for scope in group.scope_spans for span in scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, format: str, *words: Any) -> None:
                pass

        self.spans = spans
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def of(self, name: str) -> list[dict[str, Any]]:
        """The spans of this name, by service: the router's first."""
        return sorted((one for one in self.spans if one["name"] == name), key=lambda one: str(one["service"]))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _plain(attributes: Any) -> dict[str, Any]:
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in attributes}


def _record(service: str, span: Any) -> dict[str, Any]:
    ids = {"trace": span.trace_id.hex(), "id": span.span_id.hex(), "parent": span.parent_span_id.hex()}
    return {"service": service, "name": span.name, **ids, "status": span.status.code, **_plain(span.attributes)}


@pytest.fixture
def collector() -> Iterator[Collector]:
    one = Collector()
    yield one
    one.close()


@pytest.fixture
def road(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, int, Callable[[], None]]]:
    """A service behind a router: its address, its gRPC port, and how both are ended, which sends what is left."""
    monkeypatch.setenv("ROADWORTHY_SERVE_OTLP_ENDPOINT", collector.url)
    folder = make_release_folder(tmp_path / "tiny")
    yard = Yard(tmp_path, free_port())
    ports = free_port(), free_port()
    with served(folder, "--grpc-port", str(ports[0]), "--open") as service:
        url, _ = announced(service)
        replica = Backend(name="v3-0", url=url, grpc=f"127.0.0.1:{ports[0]}", group="v3", weight=1)
        RouterClient(tmp_path).write(RouterConfig(product="tiny", backends=(replica,)))
        words = ("--config", str(tmp_path / "router.json"), "--port", str(yard.port), "--grpc-port", str(ports[1]))
        yard.run("router", "-m", "services.router", *words)
        until(lambda: answers(f"{yard.url}/readyz"))

        def end() -> None:
            router = yard.running["router"]
            router.terminate()
            assert router.wait(timeout=30) == 0
            assert ended(service) == 0

        try:
            yield yard.url, ports[1], end
        finally:
            yard.kill("router")


@pytest.mark.services
def test_one_trace_from_the_client_to_the_model(
    road: tuple[str, int, Callable[[], None]], collector: Collector
) -> None:
    url, port, end = road
    answer = httpx.post(f"{url}/predict", json={"data": [make_window(), make_window(50.0)]}, headers=SAMPLED)
    assert answer.status_code == 200
    assert httpx.get(f"{url}/nothing/here").status_code == 404
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel, pytest.raises(grpc.RpcError):
        infer = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        infer(messages.ModelInferRequest(model_name="tiny").SerializeToString(), metadata=tuple(SAMPLED.items()))
    end()
    assert {one["name"] for one in collector.spans} == {*HTTP_NAMES, f"{GRPC}/ModelInfer"}
    check_http(collector, answer.headers["x-prediction-id"], answer.headers["x-model-digest"])
    router, service = collector.of(f"{GRPC}/ModelInfer")
    assert (router["trace"], router["parent"], service["parent"]) == (TRACE, PARENT, router["id"])
    assert router["rpc.grpc.status_code"] == service["rpc.grpc.status_code"] == "INVALID_ARGUMENT"
    assert service["roadworthy.digest"] and service["roadworthy.prediction_id"]


def check_http(collector: Collector, prediction_id: str, digest: str) -> None:
    at_router, at_service = collector.of("POST /predict")
    (tried,) = (one for one in collector.of("ask v3-0") if one["trace"] == TRACE)
    (model,) = collector.of("model tiny/3")
    way = (at_router, tried, at_service, model)
    assert [one["service"] for one in way] == ["roadworthy-router"] * 2 + ["roadworthy-service"] * 2
    assert [one["parent"] for one in way] == [PARENT, at_router["id"], tried["id"], at_service["id"]]
    assert {one["trace"] for one in way} == {TRACE}
    for one in (at_router, at_service):
        assert one["roadworthy.prediction_id"] == prediction_id
        assert (one["roadworthy.digest"], one["http.response.status_code"]) == (digest, 200)
    for one in (at_service, model):
        assert (one["roadworthy.product"], one["roadworthy.version"], one["roadworthy.digest"]) == ("tiny", "3", digest)
    assert (model["roadworthy.rows"], model["roadworthy.batch_rows"]) == (2, 2)


@pytest.mark.services
def test_a_collector_that_is_gone_neither_slows_nor_holds_the_service(tmp_path: Path) -> None:
    folder = make_release_folder(tmp_path / "tiny")
    with served(folder, "--open", OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}") as process:
        url, _ = announced(process)
        with httpx.Client(timeout=2) as client:
            assert all(client.post(f"{url}/predict", json={"data": make_window()}).is_success for _ in range(20))
        began = time.monotonic()
        assert ended(process) == 0
        assert time.monotonic() - began < 10


def test_off_nothing_of_it_is_made_or_imported() -> None:
    assert open_tracer(ServiceSettings(), "any") is None


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(TracingError, match=r"OTLP_ENDPOINT: expected opentelemetry-sdk and .*otlp-proto-http, got no"):
        open_tracer(ServiceSettings(otlp_endpoint="http://127.0.0.1:4318"), "any")


def test_the_caller_decides_and_strangers_share_is_kept(collector: Collector) -> None:
    settings = ServiceSettings(otlp_endpoint=f"{collector.url}/", otlp_share=0.0)
    tracer = open_tracer(settings, "any")
    assert isinstance(tracer, Tracer)
    for headers in ({}, SAMPLED, {"traceparent": "nonsense"}, {"traceparent": f"00-{TRACE}-{PARENT}-00"}):
        with tracer.span("one", "server", tracer.parent(headers), {}) as trace:
            assert trace.carried()["traceparent"].startswith("00-")
    tracer.stop()
    assert [one["trace"] for one in collector.spans] == [TRACE]
