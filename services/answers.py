"""What every front answers with: refusals, bodies read within bounds, ids, who is asking.

Apart from the data plane so that guard, protocols and pages share one shape of error without knowing each other.
"""

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

CALLER = "roadworthy.caller"  # where in the scope the guard puts a Caller
WHOLE_BODY = "roadworthy.whole_body"  # true in the scope: the server has all of the body
DISCARD_FACTOR = 8  # a body up to this many times too large is read away, so that its sender gets to read the answer


@dataclass(frozen=True)
class Caller:
    """Who asks: the name of a key or of a token's subject, its tenant, and the key's id; never the key itself."""

    name: str = "anonymous"
    tenant: str = ""
    key_id: str = ""


ANYBODY = Caller()


class Refusal(Exception):  # noqa: N818 - an answer, not an error
    """An answer other than a prediction; `what`, `where`, `expected` and `got` are for fronts that speak no HTTP."""

    def __init__(
        self, status: int, what: str, where: str, expected: str, got: str, *headers: tuple[bytes, bytes]
    ) -> None:
        super().__init__(what)
        self.status, self.what, self.where, self.expected, self.got = status, what, where, expected, got
        self.body = msgspec.json.encode(problem(what, where, expected, got))
        self.headers: Headers = [(b"content-type", b"application/json"), *headers]

    def in_words(self) -> str:
        """In one sentence, as the Open Inference Protocol wants its errors."""
        return f"{self.where}: {self.what}: expected {self.expected}, got {self.got}"


def problem(what: str, where: str, expected: str, got: str) -> dict[str, Any]:
    """The body of every answer that is not a prediction."""
    return {"error": {"what": what, "where": where, "expected": expected, "got": got}}


def overloaded(what: str, where: str, expected: str, got: str, retry_after_s: float) -> Refusal:
    """503 with the whole seconds (at least one) after which to ask again."""
    return Refusal(503, what, where, expected, got, (b"retry-after", b"%d" % max(1, -int(-retry_after_s // 1))))


def header(scope: Scope, wanted: bytes) -> bytes:
    """The first value of a header, by its lower-case name; empty when it did not come."""
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return b""


async def send_answer(send: Send, status: int, body: bytes, headers: Headers, with_body: bool = True) -> None:
    """Send a whole answer; its length is added to `headers`."""
    headers.append((b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body if with_body else b""})


def sortable_id() -> str:
    """A UUID version 7 (RFC 9562): milliseconds first, so that ids sort by time; the rest is random."""
    text = os.urandom(10).hex()
    now = f"{time.time_ns() // 1_000_000:012x}"
    variant = "89ab"[int(text[3], 16) & 3]
    return f"{now[:8]}-{now[8:]}-7{text[:3]}-{variant}{text[4:7]}-{text[7:19]}"


async def read_body(scope: Scope, receive: Receive, max_bytes: int, timeout_s: float | None = None) -> bytes | None:
    """The whole body, or None when the client went away; never holds more than `max_bytes`.

    Raises Refusal 413 for more than that, 408 when it has not come whole within `timeout_s`.
    """
    declared = header(scope, b"content-length")
    if declared.isdigit() and int(declared) > DISCARD_FACTOR * max_bytes:
        raise _too_large(max_bytes, f"{int(declared)} bytes declared", close=True)
    if timeout_s is None or WHOLE_BODY in scope:
        return await _whole_body(receive, max_bytes)
    try:  # asyncio says that time is over by raising; a client needs it as an answer
        async with asyncio.timeout(timeout_s):
            return await _whole_body(receive, max_bytes)
    except TimeoutError as error:
        expected = f"the whole body within {timeout_s:g} s"
        raise Refusal(408, "the body is too slow", "body", expected, "less of it", (b"connection", b"close")) from error


async def _whole_body(receive: Receive, max_bytes: int) -> bytes | None:
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
