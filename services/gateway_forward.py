"""One request to the server behind the gateway, streamed both ways.

Artifacts are gigabytes, memory is not. The caller's credentials stay here, unless the server behind is a product's
own router, which judges them itself. A client that goes away ends the request behind it too.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from multidict import CIMultiDict
from yarl import URL

from services.answers import WHOLE_BODY, Headers, Receive, Refusal, Scope, Send, header, send_answer
from services.gateway_door import REQUEST_ID, Visit
from services.quotas import is_loopback

LOG = logging.getLogger("roadworthy.gateway")

SMALL = 262_144  # bytes of an answer that is read whole and written in one piece
CONNECT_S, SILENT_S, BODY_SILENT_S, READ_S = 5.0, 300.0, 60.0, 10.0
# Of one connection, not of the request (RFC 9110, 7.6.1); what only this gateway says; the sender's page, judged.
DROPPED = frozenset(
    b"connection keep-alive proxy-connection te trailer transfer-encoding upgrade expect host origin referer forwarded "
    b"x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-prefix x-request-id".split()
)
SKIPPED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # what aiohttp would add for itself
CREDENTIALS = frozenset({b"authorization", b"x-api-key"})
_ANSWER_DROPPED = frozenset(b"connection keep-alive transfer-encoding upgrade x-request-id".split())


@dataclass(frozen=True)
class Behind:
    """A server behind the gateway: its address, and what opens it; without that it gets the caller's own key."""

    url: str
    authorization: str = ""


class Gone(Exception):  # noqa: N818 - nothing went wrong here
    """The client went away."""


class Intake:
    """The body of a request as it comes, counted; `failure` is why it ended early."""

    def __init__(self, scope: Scope, receive: Receive, max_bytes: int, silent_s: float = BODY_SILENT_S) -> None:
        """Raises Refusal 413 for what is declared to be larger than `max_bytes`."""
        self._receive, self._max_bytes, self._silent_s = receive, max_bytes, silent_s
        self._is_here = WHOLE_BODY in scope
        self.length = header(scope, b"content-length")
        self.is_empty = not self.length and not header(scope, b"transfer-encoding")
        self.failure: Refusal | Gone | None = None
        self.is_done = False
        if self.length.isdigit() and int(self.length) > max_bytes:
            raise _too_large(max_bytes)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The body in pieces; raises what `failure` then holds."""
        num_bytes = 0
        while not self.is_done:
            chunk = await self._next()
            num_bytes += len(chunk)
            if num_bytes > self._max_bytes:
                self._fail(_too_large(self._max_bytes))
            if chunk:
                yield chunk

    async def whole(self) -> bytes:
        """All of it; for bodies that were declared to be small."""
        return b"".join([chunk async for chunk in self.chunks()])

    def is_small(self, max_bytes: int) -> bool:
        return self.length.isdigit() and int(self.length) <= max_bytes

    async def gone(self) -> None:
        """Returns when the client goes away; to be awaited after the whole body came."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _next(self) -> bytes:
        try:
            message = await asyncio.wait_for(self._receive(), None if self._is_here else self._silent_s)
        except TimeoutError:
            expected = f"some of it every {self._silent_s:g} s"
            self._fail(Refusal(408, "the body is too slow", "body", expected, "none", (b"connection", b"close")))
        if message["type"] == "http.disconnect":
            self._fail(Gone())
        self.is_done = not message.get("more_body", False)
        return bytes(message.get("body", b""))

    def _fail(self, failure: Refusal | Gone) -> None:
        self.failure = failure
        raise failure


class Courier:
    """Carries requests to the servers behind and their answers back."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session

    async def carry(
        self, visit: Visit, scope: Scope, send: Send, behind: Behind, target: str, body: Intake | bytes
    ) -> None:
        """Ask and answer; `visit.status` is the answer's. Raises Refusal while nothing is answered yet, or Gone."""
        intake = body if isinstance(body, Intake) else None
        data = body if isinstance(body, bytes) else None if body.is_empty else body.chunks()
        try:
            async with self.session.request(
                visit.method, URL(behind.url + target, encoded=True), headers=_headers(visit, scope, behind),
                data=data or None, allow_redirects=False, skip_auto_headers=SKIPPED, ssl=not _is_here(behind.url),
                timeout=aiohttp.ClientTimeout(sock_connect=CONNECT_S, sock_read=SILENT_S),
            ) as answer:  # fmt: skip
                visit.status = answer.status
                await self._pass_on(visit, send, answer, behind, intake)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            if visit.status:  # the answer has begun: all that is left is to end it
                LOG.warning("%s broke off: %s", visit.service, error)
                raise Gone from error
            if intake is not None and intake.failure is not None:
                raise intake.failure from None
            LOG.warning("%s does not answer: %s", visit.service, error)
            got = type(error).__name__
            raise Refusal(502, f"{visit.service} does not answer", visit.service, "an answer", got) from error

    async def read(self, service: str, behind: Behind, target: str) -> dict[str, Any]:
        """What a server says at an address, for the gateway itself; empty for no JSON object. Raises Refusal 502."""
        headers = {"Authorization": behind.authorization, "Accept-Encoding": "identity"}
        timeout = aiohttp.ClientTimeout(total=READ_S)
        try:
            async with self.session.get(behind.url + target, headers=headers, timeout=timeout) as answer:
                told = orjson.loads(await answer.read())
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            got = type(error).__name__
            raise Refusal(502, f"{service} does not answer", service, "an answer", got) from error
        return told if isinstance(told, dict) else {}

    async def _pass_on(
        self, visit: Visit, send: Send, answer: aiohttp.ClientResponse, behind: Behind, intake: Intake | None
    ) -> None:
        headers = _answer_headers(visit, answer, behind)
        declared = answer.headers.get("content-length", "")
        is_head = visit.method == "HEAD" or answer.status in (204, 304)
        if is_head or (declared.isdigit() and int(declared) <= SMALL):
            whole = b"" if is_head else await answer.read()
            kept = headers if is_head else [pair for pair in headers if pair[0].lower() != b"content-length"]
            if is_head:
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                await send({"type": "http.response.body", "body": b""})
            else:
                await send_answer(send, answer.status, whole, kept)
            return
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        watch = asyncio.create_task(_close_when_gone(intake, answer)) if intake is not None else None
        try:
            async for chunk in answer.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        finally:
            if watch is not None:
                watch.cancel()
        await send({"type": "http.response.body", "body": b""})


async def _close_when_gone(intake: Intake, answer: aiohttp.ClientResponse) -> None:
    if intake.is_done or intake.is_empty:
        await intake.gone()
        answer.close()


def _headers(visit: Visit, scope: Scope, behind: Behind) -> CIMultiDict[str]:
    kept: CIMultiDict[str] = CIMultiDict()
    dropped = DROPPED | CREDENTIALS if behind.authorization else DROPPED
    for name, value in scope["headers"]:
        if name not in dropped:
            kept.add(name.decode("latin-1"), value.decode("latin-1"))
    if behind.authorization:
        kept["Authorization"] = behind.authorization
    kept["X-Request-Id"] = visit.request_id
    kept["X-Forwarded-For"] = visit.address
    kept["X-Forwarded-Host"] = header(scope, b"host").decode("latin-1")
    kept["X-Forwarded-Proto"] = scope.get("scheme", "http")
    return kept


def _answer_headers(visit: Visit, answer: aiohttp.ClientResponse, behind: Behind) -> Headers:
    headers: Headers = []
    for name, value in answer.raw_headers:
        low = name.lower()
        if low == b"location" and value.startswith(behind.url.encode()):
            value = value[len(behind.url) :] or b"/"
        if low not in _ANSWER_DROPPED and not (low == b"www-authenticate" and behind.authorization):
            headers.append((name, value))
    headers.append((REQUEST_ID, visit.request_id.encode()))
    if behind.authorization and "x-frame-options" not in answer.headers:
        headers.append((b"x-frame-options", b"SAMEORIGIN"))  # a browser's key would open the frame on another's page
    return headers


def _is_here(url: str) -> bool:
    """TLS of this machine's own router is for the name that clients use, not for loopback."""
    return is_loopback(URL(url).host or "")


def _too_large(max_bytes: int) -> Refusal:
    close = (b"connection", b"close")
    return Refusal(413, "the body is too large", "body", f"at most {max_bytes} bytes", "more", close)
