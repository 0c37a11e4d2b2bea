"""The data plane: one small raw ASGI application that answers everything a client may ask.

It stands outside BentoML's own stack, where most of a small model's time would go, and hands on only what is BentoML's.
"""

import asyncio
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from services import page
from services.answers import (
    ANYBODY,
    CALLER,
    Application,
    Caller,
    Headers,
    Receive,
    Refusal,
    Scope,
    Send,
    read_body,
    send_answer,
)  # fmt: skip
from services.audit import Audit
from services.host import Host
from services.observe import CONTENT_TYPE, Metrics
from services.predictions import JSON, Predictions
from services.protocol_v2_infer import Capture
from services.runtime import RefusedParcelError
from services.schemas import PREDICT_PATHS

CONTROL_PATHS = ("/healthz", "/schema.json")  # BentoML's own
EXPLAIN_PATH, ROUTE_PATH, SWAP_PATH = "/explain", "/route", "/admin/swap"
MAX_SWAP_BYTES = 10_000
_PLAIN = ((b"content-type", b"text/plain"),)
_NAMED = re.compile(r"/models/(?P<model>[^/]+)(?:/versions/(?P<version>[^/]+))?/(?P<verb>predict|explain|route)")


class Target(NamedTuple):
    """What a path asks for: `route` is its name in the metrics; model and version are empty where none is named."""

    verb: str
    route: str
    model: str = ""
    version: str = ""


_TARGETS = {
    **{path: Target("predict", path) for path in PREDICT_PATHS},
    EXPLAIN_PATH: Target("explain", EXPLAIN_PATH),
    ROUTE_PATH: Target("route", ROUTE_PATH),
    SWAP_PATH: Target("swap", SWAP_PATH),
}


class _Swap(msgspec.Struct, forbid_unknown_fields=True):
    folder: str


class DataPlane:
    """The ASGI application over a Host.

    control: BentoML's application, or None where there is none
    protocol_v2: answers every path under /v2
    swapped: called, in the event loop, when other models are served
    """

    def __init__(
        self,
        host: Host,
        control: Application | None = None,
        metrics: Metrics | None = None,
        capture: Capture | None = None,
        protocol_v2: Application | None = None,
        audit: Audit | None = None,
        body_timeout_s: float | None = None,
        swapped: Sequence[Callable[[], None]] = (),
    ) -> None:
        self._host, self._control, self._protocol_v2, self._audit = host, control or _no_control, protocol_v2, audit
        self._swapped = swapped
        self._metrics, self._body_timeout_s = metrics or Metrics(), body_timeout_s
        self._predictions = Predictions(host, self._metrics, capture, body_timeout_s)
        self._gets: dict[str, Callable[[], tuple[int, Headers, bytes]]] = {
            "/": self._page,
            "/livez": lambda: (200, list(_PLAIN), b"\n"),
            "/readyz": self._readyz,
            "/metrics": lambda: (200, [(b"content-type", CONTENT_TYPE.encode())], self._metrics.exposition()),
            "/docs.json": self._docs,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; every refusal is JSON that says what, where, expected and got."""
        if scope["type"] != "http":
            await self._control(scope, receive, send)
            return
        path = scope["path"]
        target = _TARGETS.get(path) or _named(path)
        if target is not None:
            await self._act(target, scope, receive, send)
        elif self._protocol_v2 is not None and (path == "/v2" or path.startswith("/v2/")):
            await self._protocol_v2(scope, receive, send)
        elif path in CONTROL_PATHS:
            await self._control(scope, receive, send)
        else:
            await self._inform(scope, send)

    async def _act(self, target: Target, scope: Scope, receive: Receive, send: Send) -> None:
        headers: Headers = []
        try:
            body: bytes | None
            if target.verb == "predict":
                body = await self._predictions.predict(scope, receive, target.model, target.version, headers)
            elif target.verb == "explain":
                body = await self._predictions.explain(scope, receive, target.model, target.version, headers)
            elif target.verb == "route":
                body = await self._predictions.route(scope, receive, target.model, target.version, headers)
            else:
                body = await self._swap(scope, receive, headers)
            if body is None:
                return  # the client went away
            status = 200
        except Refusal as refusal:
            status, body = refusal.status, refusal.body
            headers += refusal.headers
        self._metrics.answered(target.route, status)
        await send_answer(send, status, body, headers)

    async def _inform(self, scope: Scope, send: Send) -> None:
        path = scope["path"]
        try:
            status, headers, body = self._get(path, scope["method"])
        except Refusal as refusal:
            status, body, headers = refusal.status, refusal.body, refusal.headers
        self._metrics.answered(path if path in self._gets else "other", status)
        await send_answer(send, status, body, headers, with_body=scope["method"] != "HEAD")

    async def _swap(self, scope: Scope, receive: Receive, headers: Headers) -> bytes | None:
        """Serve another folder, verified beside the one that goes on answering meanwhile."""
        if scope["method"] != "POST":
            raise Refusal(405, "wrong method", SWAP_PATH, "POST", scope["method"], (b"allow", b"POST"))
        raw_body = await read_body(scope, receive, MAX_SWAP_BYTES, self._body_timeout_s)
        if raw_body is None:
            return None
        try:  # msgspec says what is wrong with JSON by raising; a client needs it as an answer
            folder = Path(msgspec.json.decode(raw_body, type=_Swap).folder)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refusal(422, "not a swap", "body", '{"folder": "…"}', str(error)) from error
        caller: Caller = scope.get(CALLER, ANYBODY)
        try:
            await asyncio.to_thread(self._host.swap, folder)
        except RefusedParcelError as error:
            self._note("model.refused", caller, str(error))
            raise Refusal(422, "the folder is not served", "folder", "a signed release folder", str(error)) from error
        for tell in self._swapped:
            tell()
        self._note("model.swapped", caller, self._host.find().release.parcel_digest)
        headers.append(JSON)
        return msgspec.json.encode({"served": self._host.names()})

    def _note(self, event: str, caller: Caller, why: str) -> None:
        if self._audit is not None:
            self._audit.note(event, caller, SWAP_PATH, why, verb="operate")

    def _get(self, path: str, method: str) -> tuple[int, Headers, bytes]:
        if path not in self._gets:
            known = ", ".join([*_TARGETS, "/models/{model}/predict", *self._gets, "/v2"])
            raise Refusal(404, "nothing is here", "path", f"one of {known}", path[:200])
        if method not in ("GET", "HEAD"):
            raise Refusal(405, "wrong method", path, "GET", method, (b"allow", b"GET, HEAD"))
        return self._gets[path]()

    def _readyz(self) -> tuple[int, Headers, bytes]:
        self._host.find()
        return 200, list(_PLAIN), b"\n"

    def _docs(self) -> tuple[int, Headers, bytes]:
        return 200, [JSON], self._host.document()

    def _page(self) -> tuple[int, Headers, bytes]:
        return 200, [*page.headers(), (b"content-type", b"text/html; charset=utf-8")], self._host.page()


def _named(path: str) -> Target | None:
    """What a path that names a model asks for, None for every other path."""
    if not path.startswith("/models/"):
        return None
    found = _NAMED.fullmatch(path)
    if found is None:
        return None
    verb, version = found["verb"], found["version"] or ""
    return Target(verb, f"/models/{{model}}/{'versions/{version}/' if version else ''}{verb}", found["model"], version)


async def _no_control(scope: Scope, receive: Receive, send: Send) -> None:
    """Stands in for BentoML's application: answers its two paths and completes the lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] != "http":
        raise RuntimeError(f"no control plane for {scope['type']} {scope.get('path', '')}")
    if scope["path"] == "/healthz":  # what BentoML's own answers, too
        await send_answer(send, 200, b"\n", list(_PLAIN), with_body=scope["method"] != "HEAD")
        return
    refusal = Refusal(404, "BentoML is not in this process", "path", "/docs.json", scope["path"])
    await send_answer(send, refusal.status, refusal.body, refusal.headers)
