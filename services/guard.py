"""The guard in front of HTTP.

One small ASGI layer around an application that knows nothing of it.

It finds key, verb and model in the head of a request, asks `services.admission`, and answers in the shape of the
protocol whom that refuses. gRPC asks the same Guard itself.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import msgspec

from infra.api_keys import Verb
from services.admission import Guard, GuardError, Guest, open_guard, too_large
from services.answers import CALLER, Application, Message, Receive, Refusal, Scope, Send, send_answer
from services.quotas import is_loopback
from services.schemas import PREDICT_PATHS

__all__ = ["Guard", "GuardError", "GuardLayer", "Guest", "Target", "open_guard", "target"]


class Target(NamedTuple):
    """What a request wants: a verb, None where all may; the model named in its path, or ""; its route, for people."""

    verb: Verb | None
    model: str
    route: str


VERB_OF: dict[str, Verb] = {
    "predict": "predict",
    "infer": "predict",
    "explain": "explain",
    "route": "predict",
}  # by a path's last word
ASK_IN_BROWSER = (b"www-authenticate", b'Basic realm="the key is the password"')  # who opens the page can type it in
ALWAYS_OPEN = frozenset({"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"})
READ = frozenset({"/", "/metrics", "/docs.json", "/v2", "/v2/repository/index", "/healthz", "/schema.json"})
NAMED = READ | {*PREDICT_PATHS, "/explain", "/route", "/admin/swap"}  # every other path is a stranger's own words
MAX_REMEMBERED = 256  # characters: a thousand paths of 64 kB would stay in memory for good


def target(path: str) -> Target:
    """Verb, model and route of a decoded path; what nobody knows is read, and answered 404 by who knows that."""
    return _remembered(path) if len(path) <= MAX_REMEMBERED else _judged(path)


def _judged(path: str) -> Target:
    if path in ALWAYS_OPEN:
        return Target(None, "", path)
    words = path.strip("/").split("/")
    verb: Verb = "operate" if words[0] == "admin" else VERB_OF.get(words[-1], "read")
    names = words[1:] if words[0] == "v2" else words
    if names[:1] == ["models"] and len(names) > 1:
        head = "/v2/models/{model}" if words[0] == "v2" else "/models/{model}"
        if len(names) == 2:
            return Target("read", names[1], head)  # a model's own name is no verb
        return Target(verb, names[1], f"{head}/…/{words[-1]}" if words[-1] in VERB_OF else head)
    return Target(verb, "", path if path in NAMED else "other")


_remembered = lru_cache(maxsize=1024)(_judged)


class GuardLayer:
    """Stands in front of an ASGI application: lets in whom the guard admits, and tells the application who it is."""

    def __init__(self, app: Application, guard: Guard, answered: Callable[[str, int], None] | None = None) -> None:
        """`answered` counts what is refused here, by route and status."""
        self._app, self._guard, self._answered = app, guard, answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Admit or answer; a WebSocket is closed, since nothing here speaks it."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        elif scope["type"] != "http":
            await self._app(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        verb, model, route = target(scope["path"])
        headers = dict(reversed(scope["headers"]))  # of two the first counts
        address = str(scope["client"][0]) if scope.get("client") else "local"
        if verb is None or (route == "/metrics" and _is_scraped_here(scope, headers)):
            await self._app(scope, receive, send)
            return

        def header(name: str) -> str:
            return str(headers.get(name.encode(), b""), "latin-1")

        declared = headers.get(b"content-length", b"")
        num_bytes = int(declared) if declared.isdigit() else 0
        try:
            guest = await self._guard.admit(header, verb, model, address, num_bytes, route)
        except Refusal as refusal:
            await self._refuse(refusal, scope, send, route)
            return
        scope[CALLER] = guest
        if not guest.max_body_bytes or declared:
            await self._app(scope, receive, send)
            return
        try:  # the length comes out while the application reads; what it does not answer itself is answered here
            await self._app(scope, _bounded(receive, guest.max_body_bytes), send)
        except Refusal as refusal:
            await self._refuse(refusal, scope, send, route)

    async def _refuse(self, refusal: Refusal, scope: Scope, send: Send, route: str) -> None:
        body = refusal.body
        if (scope["path"] + "/").startswith("/v2/"):  # that protocol's error is one text
            body = msgspec.json.encode({"error": refusal.in_words()})
        if self._answered:
            self._answered(route, refusal.status)
        headers = list(refusal.headers)
        if refusal.status == 401 and scope["path"] == "/":
            headers.append(ASK_IN_BROWSER)
        await send_answer(send, refusal.status, body, headers, with_body=scope["method"] != "HEAD")


def _is_scraped_here(scope: Scope, headers: dict[bytes, bytes]) -> bool:
    client = scope.get("client") or ("",)
    return is_loopback(str(client[0])) and b"x-forwarded-for" not in headers


def _bounded(receive: Receive, max_bytes: int) -> Receive:
    """Counts a body that did not declare its length, and ends it where the key's limit is. Raises Refusal 413."""
    num_bytes = 0

    async def counted() -> Message:
        nonlocal num_bytes
        message = await receive()
        num_bytes += len(message.get("body", b""))
        if num_bytes > max_bytes:
            raise too_large(max_bytes, f"more than {max_bytes} bytes")
        return message

    return counted
