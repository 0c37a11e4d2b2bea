"""Puts a serving process together as one ASGI application.

Models, guard, protocols, capture and audit.

`services.main` and, inside BentoML, `services.front` serve the same one.
"""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from infra.settings import ServiceSettings
from services.answers import Application, Message, Receive, Scope, Send
from services.app import DataPlane
from services.audit import Audit
from services.batcher import Batcher
from services.capture import Capture, open_capture
from services.copies import MARK, is_copy
from services.guard import GuardLayer, open_guard
from services.host import Host
from services.observe import Load, Metrics
from services.protocol_v2 import ProtocolV2
from services.quotas import Proxies
from services.server import DRAIN_S
from services.tracing import TracedBatcher, TraceLayer, Tracer, open_tracer

if TYPE_CHECKING:
    from services.grpc_front import GrpcFront


_COPY = MARK.encode()


class Parts:
    """What is not HTTP: started before the first request, stopped after the last."""

    def __init__(
        self,
        host: Host,
        grpc_address: str,
        grpc_front: "GrpcFront | None",
        capture: Capture | None,
        audit: Audit | None,
        tracer: Tracer | None = None,
    ) -> None:
        self._host, self._grpc_address, self._grpc_front = host, grpc_address, grpc_front
        self._threads = [part for part in (capture, audit, tracer) if part is not None]
        self.grpc_port = 0

    async def start(self) -> None:
        """Open the models and listen for gRPC; raises OSError when that port is taken."""
        self._host.load()
        if self._grpc_front is not None:
            self.grpc_port = await self._grpc_front.start(self._grpc_address)
        for part in self._threads:
            part.start()

    async def drain(self) -> None:
        """Let the gRPC calls under way end, and take no more; again is harmless."""
        if self._grpc_front is not None:
            await self._grpc_front.stop(DRAIN_S)

    async def stop(self) -> None:
        """Write what was captured and audited, whatever else fails on the way."""
        async with AsyncExitStack() as ending:  # from the last to the first, and each though another raised
            for part in self._threads:
                ending.push_async_callback(asyncio.to_thread, part.stop)
            await self.drain()


@dataclass(frozen=True)
class Assembled:
    """One serving process; the lifespan of `app` starts and stops its `parts`."""

    app: Application
    host: Host
    metrics: Metrics
    parts: Parts
    settings: ServiceSettings

    @property
    def load(self) -> Load:
        return self.metrics.load


def assemble(
    folder: Path, settings: ServiceSettings, address: str = "127.0.0.1", control: Application | None = None
) -> Assembled:
    """What serves `folder` on `address`; opens no model yet.

    control: BentoML's application, where this is its process
    Raises GuardError or TokenError when the settings would leave the service open to others, TracingError.
    """
    capture = open_capture(settings)
    metrics = Metrics(captured=capture.counts if capture else None)
    tracer = open_tracer(settings, "roadworthy-service")
    host = Host(folder, settings, metrics, TracedBatcher if tracer else Batcher)
    audit = Audit(settings.audit_file) if settings.audit_file else None
    guard = open_guard(settings, address, audit, default_model=host.default_of)
    protocol_v2 = ProtocolV2(host, capture, metrics, settings.body_timeout_s)
    grpc_front = None
    if settings.grpc_port is not None:
        from services.grpc_front import GrpcFront  # 0.1 s and 15 MB, for those who ask for it

        grpc_front = GrpcFront(host, guard, capture, metrics, settings, tracer)
    swapped = [grpc_front.changed] if grpc_front else []
    plane = DataPlane(host, control, metrics, capture, protocol_v2, audit, settings.body_timeout_s, swapped)
    parts = Parts(host, f"{address}:{settings.grpc_port}", grpc_front, capture, audit, tracer)
    app: Application = GuardLayer(plane, guard, answered=metrics.answered)
    app = TraceLayer(app, tracer) if tracer else app
    return Assembled(_watched(app, parts, Proxies(settings.proxies)), host, metrics, parts, settings)


def _watched(app: Application, parts: Parts, proxies: Proxies) -> Application:
    """The application, whose lifespan takes the parts along."""

    async def watched(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            if any(name == _COPY for name, _ in scope["headers"]):
                # For the task of this request. A stranger may not keep what he was answered from being captured.
                is_copy.set(proxies.believed(str((scope.get("client") or ("",))[0])))
            await app(scope, receive, send)
            return

        async def received() -> Message:
            message = await receive()
            await (parts.start() if message["type"] == "lifespan.startup" else parts.stop())
            return message

        await app(scope, received, send)

    return watched
