"""The data plane: one small raw ASGI application that answers everything a client may ask.

It stands outside BentoML's own stack, where most of a small model's time would go, and hands on only what is BentoML's.
A prediction runs inline on the event loop: the graph takes 30-100 µs for a row, a hop to a thread and back costs as
much again, and ONNX Runtime is bound to one thread, so a pool would only reorder the same work.
"""

import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import msgspec

from models.artifact.wire import InputError
from services.observe import CONTENT_TYPE, Metrics
from services.page import render
from services.runtime import LOG, Runtime, Served
from services.schemas import PREDICT_PATHS, problem

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CONTROL_PATHS = ("/healthz", "/schema.json")  # BentoML's own
# The third is what `curl -d` says when nobody tells it otherwise; the body is read as JSON all the same.
ACCEPTED_TYPES = (b"", b"application/json", b"application/x-www-form-urlencoded")
NOT_JSON = "not JSON"  # what `wire` calls a body that no JSON parser takes
DISCARD_FACTOR = 8  # a body up to this many times too large is read away, so that its sender gets to read the answer


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer other than a prediction."""

    def __init__(
        self, status: int, what: str, where: str, expected: str, got: str, *headers: tuple[bytes, bytes]
    ) -> None:
        super().__init__(what)
        self.status = status
        self.body = msgspec.json.encode(problem(what, where, expected, got))
        self.headers: Headers = [(b"content-type", b"application/json"), *headers]


class DataPlane:
    """The ASGI application over a Runtime; `control` is BentoML's application, or None in tests and benchmarks."""

    def __init__(self, runtime: Runtime, control: Application | None = None) -> None:
        self._runtime = runtime
        self._control = control or _no_control
        self._metrics = Metrics()
        self._gets: dict[str, Callable[[], tuple[int, bytes, bytes]]] = {
            "/": self._page,
            "/livez": lambda: (200, b"text/plain", b"\n"),
            "/readyz": self._readyz,
            "/metrics": lambda: (200, CONTENT_TYPE.encode(), self._metrics.exposition()),
            "/docs.json": self._docs,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; every refusal is JSON that says what, where, expected and got."""
        if scope["type"] == "lifespan":
            await self._lifespan(scope, receive, send)
        elif scope["type"] != "http" or scope["path"] in CONTROL_PATHS:
            await self._control(scope, receive, send)
        elif scope["path"] in PREDICT_PATHS:
            await self._predict(scope, receive, send)
        else:
            await self._inform(scope, send)

    async def _lifespan(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Load the parcel at start-up, before BentoML's application and the first request."""

        async def receive_and_load() -> MutableMapping[str, Any]:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self.load()
            return message

        await self._control(scope, receive_and_load, send)

    def load(self) -> None:
        """Open and verify what is served; afterwards `/readyz` says whether it worked."""
        self._runtime.load()
        if self._runtime.served:
            release = self._runtime.served.release
            self._metrics.serving(release.product, release.version, release.parcel_digest)

    async def _inform(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        try:
            status, content_type, body = self._get(path, scope["method"])
            headers: Headers = [(b"content-type", content_type)]
        except Refusal as refusal:
            status, body, headers = refusal.status, refusal.body, refusal.headers
        self._metrics.answered(path if path in self._gets else "other", status)
        await _answer(send, status, body, headers, with_body=scope["method"] != "HEAD")

    async def _predict(self, scope: Scope, receive: Receive, send: Send) -> None:
        prediction_id = sortable_id()
        headers: Headers = [(b"x-prediction-id", prediction_id.encode())]
        try:
            served = self._ready()
            headers.append((b"x-model-digest", served.release.parcel_digest.encode()))
            _check_head(scope)
            raw_body = await read_body(scope, receive, served.release.max_body_bytes)
            if raw_body is None:
                return  # the client went away
            status, body = 200, self._answer_of(served, raw_body, prediction_id)
            headers.append((b"content-type", b"application/json"))
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
            headers += refusal.headers
        self._metrics.answered(scope["path"], status)
        await _answer(send, status, body, headers)

    def _answer_of(self, served: Served, raw_body: bytes, prediction_id: str) -> bytes:
        started = time.perf_counter()
        try:
            body, num_rows = served.predict(raw_body, prediction_id)
        except InputError as error:
            status = 400 if error.what == NOT_JSON else 422
            raise Refusal(status, **error.as_dict()) from error
        except Exception as error:  # the service edge: a client learns the id, the log the rest
            LOG.exception("prediction %s failed", prediction_id)
            raise Refusal(
                500, "the prediction failed", "/predict", "an answer", f"see the log, {prediction_id}"
            ) from error
        self._metrics.predicted(num_rows, time.perf_counter() - started)
        return body

    def _ready(self) -> Served:
        if self._runtime.served is None:
            raise Refusal(503, "no model is served", "parcel", "a verified parcel", self._runtime.reason)
        return self._runtime.served

    def _get(self, path: str, method: str) -> tuple[int, bytes, bytes]:
        if path not in self._gets:
            known = ", ".join([*PREDICT_PATHS, *self._gets])
            raise Refusal(404, "nothing is here", "path", f"one of {known}", path[:200])
        if method not in ("GET", "HEAD"):
            raise Refusal(405, "wrong method", path, "GET", method, (b"allow", b"GET, HEAD"))
        return self._gets[path]()

    def _readyz(self) -> tuple[int, bytes, bytes]:
        self._ready()
        return 200, b"text/plain", b"\n"

    def _docs(self) -> tuple[int, bytes, bytes]:
        return 200, b"application/json", self._ready().openapi_json

    def _page(self) -> tuple[int, bytes, bytes]:
        return 200, b"text/html; charset=utf-8", render(self._runtime)


def sortable_id() -> str:
    """A UUID version 7 (RFC 9562): milliseconds first, so that ids sort by time; the rest is random."""
    random_bits = int.from_bytes(os.urandom(10)) & ~(0xF << 76) & ~(0x3 << 62)
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | 0x2 << 62 | random_bits
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


async def read_body(scope: Scope, receive: Receive, max_bytes: int) -> bytes | None:
    """The whole body, or None when the client went away; raises Refusal 413, never holding more than `max_bytes`."""
    declared = _header(scope, b"content-length")
    if declared.isdigit() and int(declared) > DISCARD_FACTOR * max_bytes:
        raise _too_large(max_bytes, f"{int(declared)} bytes declared", close=True)
    chunks, num_bytes, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        num_bytes += len(message.get("body", b""))
        if num_bytes <= max_bytes:
            chunks.append(message.get("body", b""))
        elif num_bytes > DISCARD_FACTOR * max_bytes:
            raise _too_large(max_bytes, f"more than {DISCARD_FACTOR * max_bytes} bytes", close=True)
        more = message.get("more_body", False)
    if num_bytes > max_bytes:
        raise _too_large(max_bytes, f"{num_bytes} bytes")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _too_large(max_bytes: int, got: str, close: bool = False) -> Refusal:
    headers = [(b"connection", b"close")] if close else []
    return Refusal(413, "the body is too large", "body", f"at most {max_bytes} bytes; send fewer rows", got, *headers)


def _check_head(scope: Scope) -> None:
    """Refuse what cannot be a JSON request before its body is read."""
    if scope["method"] != "POST":
        raise Refusal(405, "wrong method", scope["path"], "POST", scope["method"], (b"allow", b"POST"))
    media_type = _header(scope, b"content-type").partition(b";")[0].strip().lower()
    if media_type not in ACCEPTED_TYPES and not media_type.endswith(b"+json"):
        raise Refusal(415, "wrong content type", "content-type", "application/json", media_type.decode("latin-1")[:200])
    encoding = _header(scope, b"content-encoding").lower()
    if encoding not in (b"", b"identity"):
        raise Refusal(415, "encoded body", "content-encoding", "identity", encoding.decode("latin-1")[:200])


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")


async def _answer(send: Send, status: int, body: bytes, headers: Headers, with_body: bool = True) -> None:
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if with_body else b""})


async def _no_control(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands in for BentoML's application: completes the lifespan, refuses the rest."""
    if scope["type"] != "lifespan":
        raise RuntimeError(f"no control plane for {scope['type']} {scope.get('path', '')}")
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
