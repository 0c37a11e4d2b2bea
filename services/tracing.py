"""Spans of a request from router to model, for OpenTelemetry; W3C `traceparent` in and out.

Off unless ROADWORTHY_SERVE_OTLP_ENDPOINT names a collector (OTLP over HTTP): then nothing of it is imported, no layer
stands before the application, and a prediction pays one look at a context variable. What a span carries tells nobody's
name, address or reading: ids, product, version, digest, rows, status.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from infra.settings import ServiceSettings
from services.answers import Application, Headers, Message, Receive, Scope, Send
from services.batcher import Batcher, Inputs

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span

QUIET = frozenset(
    {"/livez", "/readyz", "/metrics", "/healthz", "/v2/health/live", "/v2/health/ready", "/router/status"}
)
EXPORT_S = 3  # for one attempt to send spans; also how long an end waits for a collector that is gone
SERVER_ERROR = 500
OWN = "roadworthy."
PREDICTION_ID, DIGEST, PRODUCT, VERSION = (f"{OWN}{name}" for name in ("prediction_id", "digest", "product", "version"))
_TOLD = {b"x-prediction-id": PREDICTION_ID, b"x-model-digest": DIGEST, b"x-served-by": f"{OWN}replica"}

current: ContextVar["Trace | None"] = ContextVar("trace", default=None)  # of the request that this task answers


class TracingError(RuntimeError):
    """Traces are asked for and cannot be made; the message says what is missing."""


class Trace:
    """One span under way; whoever has it makes children of it. One that is not recorded only passes its ids on."""

    def __init__(self, tracer: "Tracer", span: "Span") -> None:
        self._tracer, self.span = tracer, span
        self.is_recording = span.is_recording()

    @contextmanager
    def child(self, name: str, kind: str = "internal", **attributes: Any) -> "Iterator[Trace]":
        """A part of it; `attributes` are ours, by their names without the prefix."""
        if not self.is_recording:
            yield self
            return
        told = {f"{OWN}{key}": value for key, value in attributes.items()}
        with self._tracer.span(name, kind, self._tracer.under(self.span), told) as trace:
            yield trace

    def carried(self) -> dict[str, str]:
        """The headers that make a callee's spans children of this one."""
        return self._tracer.headers(self.span)

    def note(self, **attributes: Any) -> None:
        """More of our own attributes."""
        self.span.set_attributes({f"{OWN}{key}": value for key, value in attributes.items()})

    def answered(self, status: int, told: Mapping[str, str]) -> None:
        """How an HTTP request ended; a path that nobody knows names no span."""
        self.span.set_attributes({"http.response.status_code": status, **told})
        if status >= SERVER_ERROR:
            self.failed(f"status {status}")

    def failed(self, why: str) -> None:
        """It is an error, for whoever looks for those."""
        from opentelemetry.trace import Status, StatusCode

        self.span.set_status(Status(StatusCode.ERROR, why))


class Tracer:
    """Makes spans and sends them from a thread of its own; what does not fit its queue is dropped."""

    def __init__(self, provider: Any) -> None:
        from opentelemetry.trace import SpanKind
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        self._provider = provider
        self._tracer = provider.get_tracer("roadworthy")
        self._propagator = TraceContextTextMapPropagator()
        self._kinds = {"internal": SpanKind.INTERNAL, "server": SpanKind.SERVER, "client": SpanKind.CLIENT}

    def start(self) -> None:
        """Nothing: the thread runs since the tracer was made."""

    def stop(self) -> None:
        """Send what is left, within seconds."""
        self._provider.force_flush(1000 * EXPORT_S)
        self._provider.shutdown()

    @contextmanager
    def span(self, name: str, kind: str, parent: "Context | None", attributes: Mapping[str, Any]) -> Iterator[Trace]:
        """A span, under way until the block ends; `current` in this task meanwhile."""
        span = self._tracer.start_span(name, parent, self._kinds[kind], dict(attributes))
        trace = Trace(self, span)
        before = current.set(trace)
        try:
            yield trace
        except BaseException as error:
            trace.failed(type(error).__name__)
            raise
        finally:
            current.reset(before)
            span.end()

    def under(self, span: "Span") -> "Context":
        """What makes a span the child of `span`."""
        from opentelemetry.context import Context
        from opentelemetry.trace import set_span_in_context

        return set_span_in_context(span, Context())

    def parent(self, headers: Mapping[str, str]) -> "Context":
        """The span that a caller names in its headers; none where it names none."""
        from opentelemetry.context import Context

        return self._propagator.extract(headers, Context())

    def headers(self, span: "Span") -> dict[str, str]:
        """`traceparent` and `tracestate` that name `span`."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, self.under(span))
        return carrier


def open_tracer(settings: ServiceSettings, service: str) -> Tracer | None:
    """The tracer of this process, None where no collector is named. Raises TracingError."""
    if not settings.otlp_endpoint:
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
    except ImportError as error:
        wanted = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
        got = f"expected {wanted}, got no {error.name}"
        raise TracingError(f"ROADWORTHY_SERVE_OTLP_ENDPOINT: {got}; pip install them, or unset it") from error
    endpoint = settings.otlp_endpoint.rstrip("/").removesuffix("/v1/traces") + "/v1/traces"
    told = {"service.name": service, "service.namespace": "roadworthy", "service.instance.id": str(uuid.uuid4())}
    sampler = ParentBased(TraceIdRatioBased(settings.otlp_share))
    provider = TracerProvider(resource=Resource.create(told), sampler=sampler, shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=endpoint, timeout=EXPORT_S)))
    return Tracer(provider)


class TraceLayer:
    """A span for each HTTP request of an ASGI application; probes and scrapes have none."""

    def __init__(self, app: Application, tracer: Tracer) -> None:
        self._app, self._tracer = app, tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, watched."""
        if scope["type"] != "http" or scope["path"] in QUIET:
            await self._app(scope, receive, send)
            return
        named = {"http.request.method": scope["method"], "url.path": scope["path"][:200]}
        parent = self._tracer.parent(_text(scope["headers"]))
        with self._tracer.span(f"{scope['method']} {scope['path'][:200]}", "server", parent, named) as trace:
            if not trace.is_recording:
                await self._app(scope, receive, send)
                return

            async def watched(message: Message) -> None:
                if message["type"] == "http.response.start":
                    if message["status"] == 404:  # strangers' paths are no names
                        trace.span.update_name(scope["method"])
                    trace.answered(message["status"], _told(message["headers"]))
                await send(message)

            await self._app(scope, receive, watched)


def _text(headers: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
    """Only what names a caller's span."""
    wanted = (b"traceparent", b"tracestate")
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in headers if name in wanted}


def _told(headers: Headers) -> dict[str, str]:
    return {_TOLD[name]: value.decode("latin-1") for name, value in headers if name in _TOLD}


class Together(np.ndarray[Any, Any]):
    """An answer that remembers how many rows the call of the graph had that made it."""

    num_rows: int = 0

    def __array_finalize__(self, whole: NDArray[Any] | None) -> None:
        """A part remembers what the whole knew."""
        self.num_rows = getattr(whole, "num_rows", 0)


class TracedBatcher(Batcher):
    """A Batcher whose answers say how large a batch they were part of."""

    def _timed(self, inputs: Inputs, num_rows: int) -> NDArray[np.float32]:
        outputs = super()._timed(inputs, num_rows).view(Together)
        outputs.num_rows = num_rows
        return outputs


async def traced_run(trace: Trace, batcher: Batcher, inputs: Inputs, product: str, version: str, digest: str) -> Any:
    """What the batcher answers, as a span of the model; the request's own span is told which model it was."""
    trace.note(product=product, version=version, digest=digest)
    num_rows = len(next(iter(inputs.values())))
    about: dict[str, Any] = {"product": product, "version": version, "digest": digest, "rows": num_rows}
    with trace.child(f"model {product}/{version}", **about) as own:
        outputs = await batcher.run(inputs)
        own.note(batch_rows=getattr(outputs, "num_rows", num_rows))
    return np.asarray(outputs)
