"""grpc.health.v1 over what is served at this moment: the process, the service, every model.

The library's own servicer keeps statuses that somebody must remember to set, and forgets other watchers of a name when
one of them leaves.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import grpc
from grpc_health.v1 import health_pb2

from services.answers import Refusal
from services.protocol_v2_infer import is_ready

if TYPE_CHECKING:
    from services.host import Host

SERVICE = "grpc.health.v1.Health"
_RECHECK_S = 1.0  # a watcher hears of a swap within this time even where nobody calls `changed`


class Health:
    """Answers Check and Watch; `whole_service` is the name of the service beside "" that stands for the process."""

    def __init__(self, host: "Host", whole_service: str) -> None:
        self._host = host
        self._whole = ("", whole_service)
        self._change = asyncio.Event()
        self._stopping = False

    def handlers(self) -> Any:
        """The generic handler of the service."""
        to_bytes = health_pb2.HealthCheckResponse.SerializeToString
        from_bytes = health_pb2.HealthCheckRequest.FromString
        methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, from_bytes, to_bytes),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, from_bytes, to_bytes),
        }
        return grpc.method_handlers_generic_handler(SERVICE, methods)

    def changed(self) -> None:
        """Wake the watchers: something else is served now."""
        self._change.set()
        self._change = asyncio.Event()

    def stop(self) -> None:
        """Say NOT_SERVING from now on, and let the watchers go after having told them."""
        self._stopping = True
        self.changed()

    def _status(self, name: str) -> int | None:
        """SERVING or NOT_SERVING; None for a name that is not known."""
        model = "" if name in self._whole else name
        try:  # the host says "unknown" by raising; the protocol wants it as a status
            ready = is_ready(self._host, model) and not self._stopping
        except Refusal:
            return None
        return int(health_pb2.HealthCheckResponse.SERVING if ready else health_pb2.HealthCheckResponse.NOT_SERVING)

    async def _check(self, request: Any, context: Any) -> Any:
        status = self._status(request.service)
        if status is None:
            known = ", ".join(repr(name) for name in (*self._whole, *self._host.names()))
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service, expected one of {known}")
        return health_pb2.HealthCheckResponse(status=status)

    async def _watch(self, request: Any, _context: Any) -> AsyncIterator[Any]:
        last: int | None = None
        while True:
            change = self._change
            status = self._status(request.service)
            if status is None:
                status = int(health_pb2.HealthCheckResponse.SERVICE_UNKNOWN)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            if self._stopping:
                return
            last = status
            try:
                async with asyncio.timeout(_RECHECK_S):
                    await change.wait()
            except TimeoutError:
                continue
