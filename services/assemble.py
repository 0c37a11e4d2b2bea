"""Puts a serving process together: models, guard, protocols, capture and audit, as one ASGI application.

`services.main` and, inside BentoML, `services.front` serve the same one.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from infra.settings import ServiceSettings
from services.answers import Application, Message, Receive, Scope, Send
from services.app import DataPlane
from services.audit import Audit
from services.capture import Capture, open_capture
from services.grpc_front import GrpcFront
from services.guard import GuardLayer, open_guard
from services.host import Host
from services.observe import Load, Metrics
from services.protocol_v2 import ProtocolV2
from services.server import DRAIN_S


@dataclass(frozen=True)
class Assembled:
    """One serving process; `app` starts and stops the rest with its lifespan."""

    app: Application
    host: Host
    metrics: Metrics

    @property
    def load(self) -> Load:
        return self.metrics.load


def assemble(
    folder: Path, settings: ServiceSettings, address: str = "127.0.0.1", control: Application | None = None
) -> Assembled:
    """What serves `folder` on `address`; opens no model yet.

    control: BentoML's application, where this is its process
    Raises GuardError or TokenError when the settings would leave the service open to others.
    """
    capture = open_capture(settings)
    metrics = Metrics(captured=capture.counts if capture else None)
    host = Host(folder, settings, metrics)
    audit = Audit(settings.audit_file) if settings.audit_file else None
    guard = open_guard(settings, address, audit, default_model=lambda: host.default)
    protocol_v2 = ProtocolV2(host, capture, metrics, settings.body_timeout_s)
    plane = DataPlane(host, control, metrics, capture, protocol_v2, audit, settings.body_timeout_s)
    grpc_front = GrpcFront(host, guard, capture, metrics, settings) if settings.grpc_port is not None else None
    app = GuardLayer(plane, guard, answered=metrics.answered)
    return Assembled(_Lifespan(app, host, settings, address, grpc_front, capture, audit), host, metrics)


class _Lifespan:
    """Starts what is not HTTP before the first request, and stops it after the last."""

    def __init__(
        self,
        app: Application,
        host: Host,
        settings: ServiceSettings,
        address: str,
        grpc_front: GrpcFront | None,
        capture: Capture | None,
        audit: Audit | None,
    ) -> None:
        self._app, self._host, self._settings, self._address = app, host, settings, address
        self._grpc_front, self._capture, self._audit = grpc_front, capture, audit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand on; a lifespan is watched on its way."""
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def watched() -> Message:
            message = await receive()
            await (self._start() if message["type"] == "lifespan.startup" else self._stop())
            return message

        await self._app(scope, watched, send)

    async def _start(self) -> None:
        self._host.load()
        for part in (self._capture, self._audit):
            if part is not None:
                part.start()
        if self._grpc_front is not None:
            await self._grpc_front.start(f"{self._address}:{self._settings.grpc_port}")

    async def _stop(self) -> None:
        if self._grpc_front is not None:
            await self._grpc_front.stop(DRAIN_S)
        for part in (self._capture, self._audit):
            if part is not None:
                await asyncio.to_thread(part.stop)
