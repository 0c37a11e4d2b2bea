"""The router: one address in front of a product's replicas, for swaps, shadows, canaries.

`python -m services.router --config FILE --port 3000 [--grpc-port 3001]`. FILE is read again on SIGHUP and on
POST /router/reload at the Unix socket beside it, which only its owner may open.
"""

import argparse
import asyncio
import logging
import os
import signal
import socket
from contextlib import nullcontext, suppress
from pathlib import Path

import aiohttp
import orjson
import uvicorn
import uvloop
from multidict import CIMultiDict

from infra.settings import ServiceSettings
from services.answers import Application, Headers, Receive, Refusal, Scope, Send, header, read_body, send_answer
from services.copies import MARK
from services.observe import CONTENT_TYPE, Load
from services.router_config import SOCKET, RouterConfigError
from services.router_forward import Ask, Reply
from services.router_grpc import start_grpc
from services.router_state import RouterMetrics, RouterState
from services.server import protocol
from services.tracing import TraceLayer, open_tracer

LOG = logging.getLogger("roadworthy.router")


DRAIN_S = 10
LOOPBACK = ("127.0.0.1", "::1")
# Of one connection, not of the request (RFC 9110, 7.6.1); the length is written anew.
_HOP = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect content-length".split()
)
_OURS = (b"x-forwarded-for", MARK.encode())  # for the router to say
_JSON: Headers = [(b"content-type", b"application/json")]


class Router:
    """The ASGI application that clients reach."""

    def __init__(self, state: RouterState, settings: ServiceSettings) -> None:
        self._state, self._settings = state, settings
        self._metrics = RouterMetrics(state)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer from a replica; a refusal of the router's own is JSON in the shape of theirs."""
        try:
            path = scope["path"]
            if path in ("/livez", "/readyz", "/metrics") or path.startswith("/router/"):
                await self._own(scope, send)
            elif path.startswith("/admin"):
                raise Refusal(
                    404, "not through the router", path, "a replica's own address: it is about one of them", path
                )
            else:
                await self._forward(scope, receive, send)
        except Refusal as refusal:
            await send_answer(send, refusal.status, refusal.body, refusal.headers)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        config = self._state.pool.config
        body = await read_body(scope, receive, config.max_body_bytes, self._settings.body_timeout_s)
        if body is None:
            return  # the client went away
        ask = _ask(scope, body, config.sticky_header.lower().encode())
        reply = await self._state.forwarder.answer(ask)
        await _pass_on(send, reply, is_head=ask.method == "HEAD")
        self._state.shadow.offer(ask, reply)

    async def _own(self, scope: Scope, send: Send) -> None:
        """What the router says about itself; to this machine only, but for the probes."""
        path = scope["path"]
        if path in ("/livez", "/readyz"):
            is_well = path == "/livez" or self._state.pool.choose("") is not None
            if not is_well:
                raise Refusal(503, "no replica is ready", path, "a ready replica", "none")
            await send_answer(send, 200, b"\n", [(b"content-type", b"text/plain")])
        elif not is_local(scope):
            raise Refusal(403, "for this machine only", path, "a request from loopback", "one from elsewhere")
        elif path == "/metrics":
            await send_answer(send, 200, self._metrics.exposition(), [(b"content-type", CONTENT_TYPE.encode())])
        elif path == "/router/status":
            await send_answer(send, 200, orjson.dumps(self._state.record()), list(_JSON))
        else:
            raise Refusal(404, "nothing is here", "path", "/router/status or /metrics", path[:200])


def admin(state: RouterState) -> Application:
    """The application at the Unix socket: status, and reading the file again."""

    async def answer(scope: Scope, _receive: Receive, send: Send) -> None:
        status = 200
        if (scope["method"], scope["path"]) == ("POST", "/router/reload"):
            try:
                await state.load()
            except RouterConfigError as error:  # the old one holds
                await send_answer(send, 422, orjson.dumps({"error": str(error)}), list(_JSON))
                return
        elif scope["path"] != "/router/status":
            status = 404
        await send_answer(send, status, orjson.dumps(state.record()), list(_JSON))

    return answer


def is_local(scope: Scope) -> bool:
    """Whether the client is on this machine and no proxy speaks for another."""
    client = scope.get("client")
    return client is not None and client[0] in LOOPBACK and not header(scope, b"x-forwarded-for")


def _ask(scope: Scope, body: bytes, sticky: bytes) -> Ask:
    target = bytes(scope["raw_path"]).decode("latin-1")
    if not target.startswith("/"):
        raise Refusal(400, "not a path", "request target", "one that begins with /", target[:200])
    if scope["query_string"]:
        target += "?" + bytes(scope["query_string"]).decode("latin-1")
    headers: CIMultiDict[str] = CIMultiDict()
    for name, value in scope["headers"]:
        if name not in _HOP and name not in _OURS:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
    address = scope["client"][0] if scope.get("client") else ""
    headers["X-Forwarded-For"] = address
    # From loopback come proxies and this machine's own programs: many clients under one address, so it names nobody.
    known = (header(scope, name) for name in (sticky, b"authorization", b"x-api-key"))
    client = next((value.decode("latin-1") for value in known if value), "" if address in LOOPBACK else address)
    return Ask(scope["method"], target, headers, body, client, is_repeatable=True)


async def _pass_on(send: Send, reply: Reply, is_head: bool) -> None:
    headers = [(name, value) for name, value in reply.headers if name.lower() not in _HOP]
    headers.append((b"x-served-by", reply.name.encode()))
    if is_head:
        headers.append((b"content-length", reply.header(b"content-length") or b"0"))
        await send({"type": "http.response.start", "status": reply.status, "headers": headers})
        await send({"type": "http.response.body", "body": b""})
    else:
        await send_answer(send, reply.status, reply.body, headers)


class _Server(uvicorn.Server):
    """A server among others in one loop: signals are handled for all of them in one place."""

    def capture_signals(self) -> "nullcontext[None]":  # type: ignore[override]
        return nullcontext()


async def serve(path: Path, host: str, port: int, grpc_port: int | None, settings: ServiceSettings) -> None:
    """Run until SIGTERM or SIGINT, then finish what is in flight. Raises RouterConfigError at the start."""
    tracer = open_tracer(settings, "roadworthy-router")
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=4.0)  # below uvicorn's 5 s: it closes second
    jar = aiohttp.DummyCookieJar()
    async with aiohttp.ClientSession(connector=connector, cookie_jar=jar, auto_decompress=False) as session:
        state = RouterState(path, session)
        await state.load()
        router = Router(state, settings)
        app: Application = TraceLayer(router, tracer) if tracer else router
        servers = [_Server(_config(app, host, port, settings)), _Server(_admin_config(state))]
        told = (state.pool, state.watch, settings, host)
        grpc_front = await start_grpc(*told, grpc_port, tracer) if grpc_port else None
        background = [asyncio.create_task(work()) for work in (state.pool.watch, state.judge, state.shadow.run)]
        for task in background:
            task.add_done_callback(_end_when_broken)
        _handle_signals(state, servers)
        with _admin_socket(path.parent) as listener:
            await asyncio.gather(servers[0].serve(), servers[1].serve(sockets=[listener]))
        if grpc_front is not None:
            await grpc_front.stop(DRAIN_S)
        for task in background:
            task.cancel()
    if tracer is not None:
        await asyncio.to_thread(tracer.stop)


def _config(app: Application, host: str, port: int, settings: ServiceSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app, host=host, port=port, http=protocol(settings, Load()), ws="none", lifespan="off", log_level="warning",
        access_log=False, server_header=False, date_header=False, proxy_headers=False,
        timeout_graceful_shutdown=DRAIN_S, ssl_certfile=settings.tls_cert, ssl_keyfile=settings.tls_key,
    )  # fmt: skip


def _admin_config(state: RouterState) -> uvicorn.Config:
    return uvicorn.Config(admin(state), ws="none", lifespan="off", log_level="warning", access_log=False)


def _admin_socket(folder: Path) -> socket.socket:
    """Bound through the folder's descriptor: a socket's path may have 107 characters, a folder's more."""
    (folder / SOCKET).unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    before = os.umask(0o177)
    try:
        listener.bind(f"/proc/self/fd/{descriptor}/{SOCKET}")
    finally:
        os.umask(before)
        os.close(descriptor)
    return listener


def _handle_signals(state: RouterState, servers: list[_Server]) -> None:
    loop = asyncio.get_running_loop()

    def end() -> None:
        for server in servers:
            server.should_exit = True

    async def reload() -> None:
        try:
            await state.load()
        except RouterConfigError:
            LOG.exception("the old configuration holds")

    reloads: set[asyncio.Task[None]] = set()

    def begin_reload() -> None:
        task = loop.create_task(reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end)
    loop.add_signal_handler(signal.SIGHUP, begin_reload)


def _end_when_broken(task: "asyncio.Task[None]") -> None:
    """A router whose guard or health checks died must not go on: its supervisor starts a new one."""
    if not task.cancelled() and task.exception() is not None:
        LOG.error("a background task died", exc_info=task.exception())
        os.kill(os.getpid(), signal.SIGTERM)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--grpc-port", type=int, default=None)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with suppress(KeyboardInterrupt):
        uvloop.run(serve(given.config, given.host, given.port, given.grpc_port, ServiceSettings()))


if __name__ == "__main__":
    main()
