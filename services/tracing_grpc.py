"""Spans of gRPC calls, with parents and attributes as `tracing` gives HTTP requests."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import grpc.aio

from services.tracing import DIGEST, OWN, PREDICTION_ID, Trace, Tracer, current

_TOLD = {"x-prediction-id": PREDICTION_ID, "x-model-digest": DIGEST, "x-served-by": f"{OWN}replica"}
_SKIPPED = ("/grpc.health.", "/grpc.reflection.")
_FAULTS = ("UNKNOWN", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "DEADLINE_EXCEEDED")

Metadata = tuple[tuple[str, str | bytes], ...]


class TraceCalls(grpc.aio.ServerInterceptor):  # type: ignore[misc]
    """Stands before every other interceptor of a server."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], details: Any) -> Any:
        """The handler of a method, watched; None where there is no such method."""
        handler = await continuation(details)
        if handler is None or details.method.startswith(_SKIPPED):
            return handler
        kind = next(
            name
            for name in ("unary_unary", "stream_unary", "unary_stream", "stream_stream")
            if getattr(handler, name) is not None
        )
        watch = self._stream if handler.response_streaming else self._single
        return handler._replace(**{kind: watch(getattr(handler, kind), details.method)})

    def _single(self, answer: Callable[[Any, Any], Awaitable[Any]], method: str) -> Any:
        async def watched(request: Any, context: Any) -> Any:
            with self._tracer.span(method.lstrip("/"), "server", self._parent(context), _named(method)) as trace:
                try:
                    return await answer(request, context)
                finally:
                    _ended(trace, context)

        return watched

    def _stream(self, answers: Callable[[Any, Any], AsyncIterator[Any]], method: str) -> Any:
        async def watched(request: Any, context: Any) -> AsyncIterator[Any]:
            with self._tracer.span(method.lstrip("/"), "server", self._parent(context), _named(method)) as trace:
                async for answer in answers(request, context):
                    yield answer
                _ended(trace, context)

        return watched

    def _parent(self, context: Any) -> Any:
        metadata = context.invocation_metadata() or ()
        return self._tracer.parent({name: str(value) for name, value in metadata if name.startswith("trace")})


def carried(metadata: Metadata) -> Metadata:
    """The metadata of a call that is passed on, under the span of this task; unchanged where there is none."""
    trace = current.get()
    if trace is None:
        return metadata
    own = trace.carried()
    return (*(pair for pair in metadata if pair[0] not in own), *own.items())


def _named(method: str) -> dict[str, str]:
    service, _, name = method.lstrip("/").rpartition("/")
    return {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name}


def _ended(trace: Trace, context: Any) -> None:
    found = {_TOLD[name]: str(value) for name, value in context.trailing_metadata() or () if name in _TOLD}
    code = context.code() or grpc.StatusCode.OK
    name = code.name if isinstance(code, grpc.StatusCode) else grpc.StatusCode.OK.name
    trace.span.set_attributes({"rpc.grpc.status_code": name, **found})
    if name in _FAULTS:
        trace.failed(name)
