"""gRPC through the same replicas: whole messages as bytes; no schema is known here.

Unary calls are tried again like requests over HTTP. The few streams that the replicas offer (reflection, health) are
handed through once.
"""

import time
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import grpc.aio

from infra.settings import ServiceSettings
from services.copies import MARK
from services.grpc_door import address_of
from services.router_guard import Watch
from services.router_pool import CHECK_AGAIN_S, GRPC_OPTIONS, Pool, Upstream
from services.tracing import Tracer
from services.tracing_grpc import TraceCalls, carried

STREAMS = ("/grpc.reflection.", "/grpc.health.v1.Health/Watch")
_OWN = ("grpc-", ":", "user-agent", "content-type", "te")  # metadata of one connection, not of the call
_OURS = ("x-forwarded-for", MARK)  # for the router to say
_FAULTS = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN)
Metadata = tuple[tuple[str, str | bytes], ...]


class Passthrough(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every method by asking a replica."""

    def __init__(self, pool: Pool, watch: Watch) -> None:
        self._pool, self._watch = pool, watch

    def service(self, details: Any) -> Any:
        """The handler of one method, for grpc."""
        if details.method.startswith(STREAMS):
            return grpc.stream_stream_rpc_method_handler(partial(self._stream, details.method))
        return grpc.unary_unary_rpc_method_handler(partial(self._answer, details.method))

    async def _answer(self, method: str, request: bytes, context: Any) -> bytes:
        metadata = _asked(context)
        deadline = time.monotonic() + self._pool.config.wait_s
        avoiding: set[str] = set()
        while True:
            upstream = await self._choose(metadata, avoiding, deadline, context)
            try:
                return await self._call(upstream, method, request, metadata, context)
            except grpc.aio.AioRpcError as error:
                avoiding |= self._whom_to_avoid(upstream, error)
                others = self._pool.choose("", avoiding)
                is_gone = _is_gone(error) and time.monotonic() < deadline
                if not avoiding or (others is None and not is_gone):
                    trailing = _forwarded(error.trailing_metadata() or ())
                    await context.abort(error.code(), error.details() or "", trailing)

    async def _call(self, upstream: Upstream, method: str, request: bytes, metadata: Metadata, context: Any) -> bytes:
        began, failed = time.monotonic(), True
        key = id(context)
        upstream.started[key] = began
        upstream.num_requests += 1
        try:
            call = upstream.channel.unary_unary(method)(request, metadata=metadata, timeout=self._timeout_s(context))
            answer: bytes = await call
            failed = False
            served_by = ("x-served-by", upstream.backend.name)
            await context.send_initial_metadata((*_forwarded(await call.initial_metadata()), served_by))
            context.set_trailing_metadata(_forwarded(await call.trailing_metadata()))
            return answer
        except grpc.aio.AioRpcError as error:
            failed = error.code() in _FAULTS
            raise
        finally:
            del upstream.started[key]
            upstream.num_errors += failed
            self._watch.answered(upstream.backend.group, time.monotonic() - began, failed)

    async def _stream(self, method: str, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        metadata = _asked(context)
        upstream = await self._choose(metadata, set(), time.monotonic() + self._pool.config.wait_s, context)
        try:
            async for answer in upstream.channel.stream_stream(method)(requests, metadata=metadata):
                yield answer
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "")

    async def _choose(self, metadata: Metadata, avoiding: set[str], deadline: float, context: Any) -> Upstream:
        """A replica that speaks gRPC and is ready, waited for until the deadline."""
        while True:
            mute = {name for name, one in self._pool.upstreams.items() if not one.backend.grpc}
            upstream = self._pool.choose(self._client(metadata), avoiding | mute)
            if upstream is not None:
                return upstream
            left = deadline - time.monotonic()
            if left <= 0 or len(mute) == len(self._pool.upstreams):
                await context.abort(grpc.StatusCode.UNAVAILABLE, "no replica that speaks gRPC is ready")
            avoiding.clear()
            await self._pool.until_ready(min(left, CHECK_AGAIN_S))

    def _client(self, metadata: Metadata) -> str:
        names = (self._pool.config.sticky_header.lower(), "authorization", "x-api-key")
        found = {name: value for name, value in metadata if name in names}
        return next((str(found[name]) for name in names if name in found), "")

    def _whom_to_avoid(self, upstream: Upstream, error: grpc.aio.AioRpcError) -> set[str]:
        guard = self._pool.config.guard
        if error.code() in _FAULTS and guard is not None and guard.group == upstream.backend.group:
            return {one.backend.name for one in self._pool.members(guard.group)}
        return {upstream.backend.name} if error.code() is grpc.StatusCode.UNAVAILABLE else set()

    def _timeout_s(self, context: Any) -> float:
        left = context.time_remaining()
        return min(float(left), self._pool.config.try_timeout_s) if left else self._pool.config.try_timeout_s


async def start_grpc(
    pool: Pool, watch: Watch, settings: ServiceSettings, host: str, port: int, tracer: Tracer | None = None
) -> grpc.aio.Server:
    """The passthrough on `host:port`, with TLS where a certificate is set. Raises RuntimeError: the port is taken."""
    watchers = (TraceCalls(tracer),) if tracer else ()
    server = grpc.aio.server(interceptors=watchers, options=(*GRPC_OPTIONS, ("grpc.so_reuseport", 0)))
    server.add_generic_rpc_handlers((Passthrough(pool, watch),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    if settings.tls_cert and settings.tls_key:
        pair = (settings.tls_key.read_bytes(), settings.tls_cert.read_bytes())
        server.add_secure_port(address, grpc.ssl_server_credentials([pair]))
    else:
        server.add_insecure_port(address)
    await server.start()
    return server


def _is_gone(error: grpc.aio.AioRpcError) -> bool:
    """Whether nobody answered; a replica that is only busy says so with metadata of its own."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and not error.trailing_metadata()


def _asked(context: Any) -> Metadata:
    """The client's metadata, and who it is; what it says of that itself, or of being a copy, is not passed on."""
    passed = (pair for pair in _forwarded(context.invocation_metadata()) if pair[0] not in _OURS)
    return carried((*passed, ("x-forwarded-for", address_of(context))))


def _forwarded(metadata: Any) -> Metadata:
    return tuple((name, value) for name, value in metadata or () if not name.startswith(_OWN))
