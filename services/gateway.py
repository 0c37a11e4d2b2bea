"""The gateway: the one way in to MLflow, Prefect and what is served, by role.

    python -m services.gateway --config FILE --host 127.0.0.1 --mlflow-port 5000 --prefect-port 4200 --port 8080

MLflow and Prefect each have a port of their own, since both answer at `/`; serving is at `/<product>/…` of the third.
FILE is read again when it changes. The servers behind listen on loopback and know only the gateway.
"""

import argparse
import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack, nullcontext, suppress
from pathlib import Path

import aiohttp
import uvicorn
import uvloop
from pydantic import ValidationError

from infra.api_keys import TokenError
from infra.profile import ProfileError
from infra.settings import ServiceSettings
from services.admission import Guard, GuardError, open_guard
from services.answers import Application
from services.audit import Audit
from services.gateway_app import Gateway
from services.gateway_config import GatewayConfigError, Told
from services.gateway_door import Door
from services.gateway_forward import Courier
from services.gateway_matrix import MLFLOW, PREFECT, SERVING
from services.gateway_observe import GatewayMetrics
from services.observe import Load
from services.quotas import Proxies
from services.server import Protocol

DRAIN_S = 10


class GatewayProtocol(Protocol):
    """One connection, which may become a WebSocket: then nobody waits for a head any more."""

    def data_received(self, data: bytes) -> None:
        """Parse."""
        super().data_received(data)
        if self.transport.get_protocol() is not self:
            self._stop_timer()


class _Server(uvicorn.Server):
    """A server among others in one loop: signals are handled for all of them in one place."""

    def capture_signals(self) -> "nullcontext[None]":  # type: ignore[override]
        return nullcontext()


async def serve(path: Path, host: str, ports: dict[str, int], settings: ServiceSettings) -> None:
    """Run until SIGTERM or SIGINT, then finish what is in flight. Raises at the start what `main` says."""
    told = Told(path)
    config = told.config()
    audit = Audit(config.audit) if config.audit else None
    door = Door(_guard(settings, config.keys, audit), Proxies(settings.proxies), audit)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)  # below uvicorn's 5 s: it closes second
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
        )
        if audit:
            audit.start()
            stack.push_async_callback(asyncio.to_thread, audit.stop)
        gateway = Gateway(told, door, Courier(session), GatewayMetrics())
        servers = [_Server(_config(gateway.of(name), host, port, settings)) for name, port in ports.items()]
        _handle_signals(servers)
        await asyncio.gather(*(server.serve() for server in servers))


def _guard(settings: ServiceSettings, keys: Path, audit: Audit | None) -> Guard:
    """Keys always; tokens too where an issuer is set. Raises GuardError, TokenError."""
    auth = "jwt" if settings.auth == "jwt" else "keys"  # an open gateway would open everything
    return open_guard(settings.model_copy(update={"auth": auth, "keys_file": keys}), "", audit)


def _config(app: Application, host: str, port: int, settings: ServiceSettings) -> uvicorn.Config:
    protocol = type("BoundProtocol", (GatewayProtocol,), {"limits": settings, "load": Load()})
    return uvicorn.Config(
        app, host=host, port=port, http=protocol, ws="websockets-sansio", ws_max_size=16_000_000, lifespan="off",
        log_level="warning", access_log=False, server_header=False, date_header=False, proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S, ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key,
    )  # fmt: skip


def _handle_signals(servers: list[_Server]) -> None:
    def end() -> None:
        for server in servers:
            server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, end)


def main() -> int:
    """The command line; status 2: the files or the settings cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--mlflow-port", type=int, default=5000)
    parser.add_argument("--prefect-port", type=int, default=4200)
    parser.add_argument("--port", type=int, default=8080)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    ports = {MLFLOW: given.mlflow_port, PREFECT: given.prefect_port, SERVING: given.port}
    try:
        with suppress(KeyboardInterrupt):
            uvloop.run(serve(given.config, given.host, ports, ServiceSettings()))
    except (GatewayConfigError, ProfileError, GuardError, TokenError, ValidationError) as error:
        sys.stderr.write(f"services.gateway: {error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
