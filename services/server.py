"""The HTTP server: uvicorn with bounds on what strangers may hold open.

And with less work for each request.

uvicorn waits for ever for the rest of a head or a body and takes any number of connections. Here a head must come whole
in time and be of a bounded size, and a connection too many is told when to come back. A body's own time limit is kept
by `answers.read_body`, since only the application can still answer then.
"""

import asyncio
import socket
import time
from collections.abc import Awaitable, Callable
from types import FrameType
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from infra.settings import ServiceSettings
from services.answers import WHOLE_BODY, Application, Message, Refusal, overloaded
from services.observe import Load
from services.predictions import ARRIVED

MAX_HEAD_BYTES = 65_536
DRAIN_S = 10
RETRY_AFTER_S = 1.0


class Cycle(RequestResponseCycle):
    """One request and its answer; an answer that is whole is written in one piece."""

    _head: Message | None = None

    async def send(self, message: Any) -> None:
        """Keep the head until the body comes; what is not a plain whole answer goes uvicorn's way."""
        if message["type"] == "http.response.start" and not self.response_started:
            self._head = message
            return
        if self._head is not None:
            head, self._head = self._head, None
            if self._write_whole(head, message):
                return
            await super().send(cast(Any, head))
        await super().send(message)

    def _write_whole(self, head: Message, message: Message) -> bool:
        """Write head and body together; False when this answer is not plain enough for that."""
        body: bytes = message.get("body", b"")
        if (
            message.get("more_body")
            or self.disconnected
            or self.flow.write_paused
            or not self.keep_alive
            or self.scope["method"] == "HEAD"
            or not isinstance(body, bytes)
        ):
            return False
        headers = [*self.default_headers, *head["headers"]]
        parts = [STATUS_LINE[head["status"]]]
        declared = b""
        for name, value in headers:
            if name == b"connection":
                return False
            if name == b"content-length":
                declared = value
            parts += (name, b": ", value, b"\r\n")
        text = b"".join(parts)
        # A line more than there are headers: somebody's value would become a header of its own.
        if declared != b"%d" % len(body) or {text.count(b"\r"), text.count(b"\n")} != {len(headers) + 1}:
            return False
        self.response_started = self.response_complete = True
        self.waiting_for_100_continue = False
        self.transport.write(b"%b\r\n%b" % (text, body))
        self.message_event.set()
        self.on_response()
        return True


class Protocol(HttpToolsProtocol):
    """One connection; `limits` and `load` are those of a process, see `protocol`."""

    limits: ServiceSettings
    load: Load

    _in_head = False
    _num_head_bytes = 0
    _head_timer: asyncio.TimerHandle | None = None
    _is_refused = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for a head; a connection too many is told so when it asks, and one far too many is cut."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self.load.num_refused_connections += 1
            self._is_refused = True
            if len(self.connections) > 2 * self.limits.max_connections:
                self.transport.abort()
                return
        self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._head_is_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse; what leaves a head unfinished, or belongs to no request, is waited for a limited time."""
        if self._is_refused:
            got, expected = str(len(self.connections)), f"at most {self.limits.max_connections} connections"
            self._refuse(overloaded("too many connections", "connection", expected, got, RETRY_AFTER_S))
            return
        load = self.load
        if not load.woken_s:
            load.woken_s = time.perf_counter()
            self.loop.call_soon(load.turn_ended)
        super().data_received(data)
        if self._in_head:
            self._num_head_bytes += len(data)
            if self._num_head_bytes > MAX_HEAD_BYTES:
                expected, got = f"at most {MAX_HEAD_BYTES} bytes", f"{self._num_head_bytes} bytes, and not its end"
                self._refuse(Refusal(431, "the head is too large", "head", expected, got))
                return
        elif self.timeout_keep_alive_task is not None or (self.cycle and not self.cycle.response_complete):
            return  # idle, or an answer is being made
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.limits.header_timeout_s, self._head_is_late)

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head, self._num_head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The body is whole: it need not be waited for."""
        self.scope[WHOLE_BODY] = True  # type: ignore[literal-required]
        super().on_message_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        cycle.__class__ = Cycle  # uvicorn has no other way to say which class answers
        cycle.scope[ARRIVED] = self.load.woken_s or time.perf_counter()  # type: ignore[literal-required]
        self.load.in_flight += 1
        task = self.loop.create_task(cycle.run_asgi(app))
        task.add_done_callback(self._answered)
        self.tasks.add(task)

    def _answered(self, task: "asyncio.Task[None]") -> None:
        self.load.in_flight -= 1
        self.tasks.discard(task)

    def _head_is_late(self) -> None:
        self._head_timer = None
        if self._is_refused or not self._in_head:
            self.transport.close()
            return
        expected = f"the whole head within {self.limits.header_timeout_s:g} s"
        self._refuse(Refusal(408, "the head is too slow", "head", expected, f"{self._num_head_bytes} bytes"))

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without an application, and close."""
        if self.transport.is_closing():
            return
        self._stop_timer()
        headers = [*refusal.headers, (b"content-length", b"%d" % len(refusal.body)), (b"connection", b"close")]
        lines = [b"%b: %b\r\n" % header for header in headers]
        self.transport.write(b"".join([STATUS_LINE[refusal.status], *lines, b"\r\n", refusal.body]))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


def protocol(settings: ServiceSettings, load: Load) -> type[Protocol]:
    """The protocol of one process."""
    return type("Protocol", (Protocol,), {"limits": settings, "load": load})


class Server(uvicorn.Server):
    """uvicorn's server; SIGTERM and SIGINT drain it and end the process with status 0."""

    draining: Callable[[], Awaitable[None]] | None = None
    announce: Callable[[int], None] | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and tell `announce` on which port."""
        await super().startup(sockets)
        if self.started and self.announce is not None:
            self.announce(self.servers[0].sockets[0].getsockname()[1])

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain HTTP, and beside it what `draining` drains; one that fails does not cut the other short."""
        beside = [self.draining()] if self.draining else []
        for failure in await asyncio.gather(super().shutdown(sockets), *beside, return_exceptions=True):
            if failure is not None:
                raise failure

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; the signal is not raised again afterwards, as uvicorn would, since that is no failure."""
        super().handle_exit(sig, frame)
        self._captured_signals.clear()


def server(
    app: Application,
    settings: ServiceSettings,
    load: Load,
    host: str,
    port: int,
    draining: Callable[[], Awaitable[None]] | None = None,
) -> Server:
    """A server of `app`, not yet started; `draining` ends what it does not know of, while it drains itself."""
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=protocol(settings, load),
        ws="none",
        loop="uvloop",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=DRAIN_S,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
    )
    made = Server(config)
    made.draining = draining
    return made
