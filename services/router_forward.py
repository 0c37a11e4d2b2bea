"""One request to a replica, and to another when that one fails before it has answered.

Every answer is read whole before the client sees its first byte. A prediction changes nothing, so asking again is safe:
a replica that is swapped, killed or bad costs its clients time, never an error.
"""

import asyncio
import time
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from services.answers import Headers, Refusal, overloaded
from services.router_guard import Watch
from services.router_pool import CHECK_AGAIN_S, Pool, Upstream
from services.tracing import current

SKIPPED = ("Accept", "Accept-Encoding", "Content-Type", "User-Agent")  # what aiohttp would add for itself
MAX_BROKEN = 3  # after so many replicas broke off on it, a request is not tried on yet another


@dataclass(frozen=True)
class Ask:
    """A client's request; `client` is who stays with a replica, "" for nobody known."""

    method: str
    target: str
    headers: CIMultiDict[str]
    body: bytes
    client: str
    is_repeatable: bool


@dataclass(frozen=True)
class Reply:
    """A replica's whole answer."""

    status: int
    headers: Headers
    body: bytes
    name: str
    group: str

    def header(self, wanted: bytes) -> bytes:
        """By its lower-case name; empty when there is none."""
        return next((value for name, value in self.headers if name.lower() == wanted), b"")


class BrokenOffError(Exception):
    """No answer came; `was_sent` when the replica may have begun to work, `is_late` when it took too long."""

    def __init__(self, reason: str, was_sent: bool, is_late: bool = False) -> None:
        super().__init__(reason)
        self.was_sent, self.is_late = was_sent, is_late


class Forwarder:
    """Sends requests to the replicas of a pool and tells the watch how it went."""

    def __init__(self, pool: Pool, watch: Watch, session: aiohttp.ClientSession) -> None:
        self._pool, self._watch, self._session = pool, watch, session
        self._number = count()
        self.num_waiting = 0
        self.num_retries = 0

    async def answer(self, ask: Ask) -> Reply:
        """The first good answer; the last bad one when nobody has a better. Raises Refusal 502, 503 or 504."""
        deadline = time.monotonic() + self._pool.config.wait_s
        avoiding: set[str] = set()
        last: Reply | None = None
        num_broken = 0
        while True:
            upstream = self._pool.choose(ask.client, avoiding)
            if upstream is None:
                if last is not None and not _is_not_ready(last):
                    return last
                await self._wait(deadline, last, ask.client)
                avoiding.clear()
                continue
            self.num_retries += bool(avoiding)
            try:
                reply = await self.send(upstream, ask)
            except BrokenOffError as error:
                num_broken += error.was_sent
                avoiding.add(upstream.backend.name)
                self._give_up(ask, error, num_broken, avoiding)
                continue
            if not (wider := self._whom_to_avoid(upstream, reply)) or not ask.is_repeatable:
                return reply
            avoiding |= wider
            last = reply

    async def send(self, upstream: Upstream, ask: Ask) -> Reply:
        """One answer of this replica, counted; a child of the request's span where there is one."""
        if (trace := current.get()) is None:
            return await self._send(upstream, ask)
        name, group = upstream.backend.name, upstream.backend.group
        product = self._pool.config.product
        with trace.child(f"ask {name}", "client", product=product, replica=name, group=group) as own:
            headers = ask.headers.copy()
            headers.update(own.carried())
            reply = await self._send(upstream, replace(ask, headers=headers))
            own.answered(reply.status, {})
            return reply

    async def _send(self, upstream: Upstream, ask: Ask) -> Reply:
        """Once more at once when the replica had just closed an idle connection."""
        began = time.monotonic()
        number = next(self._number)
        upstream.started[number] = began
        upstream.num_requests += 1
        failed = True
        try:
            reply = await self._exchange(upstream, ask)
            failed = reply.status >= 500
            return reply
        except BrokenOffError as error:
            self._pool.failed(upstream, str(error))
            raise
        finally:
            del upstream.started[number]
            upstream.num_errors += failed
            self._watch.answered(upstream.backend.group, time.monotonic() - began, failed)

    async def _exchange(self, upstream: Upstream, ask: Ask) -> Reply:
        for is_last in (not ask.is_repeatable, True):
            try:
                return await self._once(upstream, ask)
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, aiohttp.ClientPayloadError) as error:
                was_refused = isinstance(error, aiohttp.ClientConnectorError)
                if was_refused or is_last:
                    raise BrokenOffError(f"{type(error).__name__}: {error}", was_sent=not was_refused) from error
            except TimeoutError as error:
                seconds = self._pool.config.try_timeout_s
                raise BrokenOffError(f"no answer in {seconds:g} s", was_sent=True, is_late=True) from error
            except (aiohttp.ClientError, OSError) as error:
                raise BrokenOffError(f"{type(error).__name__}: {error}", was_sent=True) from error
        raise AssertionError("unreachable")

    async def _once(self, upstream: Upstream, ask: Ask) -> Reply:
        timeout = aiohttp.ClientTimeout(total=self._pool.config.try_timeout_s)
        async with self._session.request(
            ask.method, _url(upstream.backend.url, ask.target), headers=ask.headers, data=ask.body or None,
            allow_redirects=False, skip_auto_headers=SKIPPED, timeout=timeout,
        ) as answer:  # fmt: skip
            body = await answer.read()
            backend = upstream.backend
            return Reply(answer.status, list(answer.raw_headers), body, backend.name, backend.group)

    def _whom_to_avoid(self, upstream: Upstream, reply: Reply) -> set[str]:
        """The replicas not to try next because of this answer; none when the answer is to be passed on."""
        if _is_not_ready(reply):
            self._pool.failed(upstream, f"answered {reply.status}")
        guard = self._pool.config.guard
        if reply.status >= 500 and guard is not None and guard.group == upstream.backend.group:
            return {one.backend.name for one in self._pool.members(guard.group)}
        return {upstream.backend.name} if reply.status in (502, 503) else set()

    def _give_up(self, ask: Ask, error: BrokenOffError, num_broken: int, avoiding: set[str]) -> None:
        """Raise Refusal when another try makes no sense."""
        if error.is_late and self._pool.choose(ask.client, avoiding) is None:
            raise Refusal(504, "no replica answers", "replicas", "an answer in time", str(error)) from error
        if (error.was_sent and not ask.is_repeatable) or num_broken >= MAX_BROKEN:
            raise Refusal(502, "the replica broke off", "replicas", "a whole answer", str(error)) from error

    async def _wait(self, deadline: float, last: Reply | None, client: str) -> None:
        """Until some replica may be ready; raises Refusal 503 at the deadline, and when too many wait already."""
        left = deadline - time.monotonic()
        if left <= 0 or self.num_waiting >= self._pool.config.max_waiting:
            why = f"{len(self._pool.upstreams)} replicas, none ready"
            got = f"{why}; the last answered {last.status}" if last else why
            raise overloaded("no replica is ready", "replicas", "a ready replica", got, 1.0)
        self.num_waiting += 1
        try:
            if self._pool.choose(client) is None:
                await self._pool.until_ready(left)
            else:  # one that was avoided is ready again
                await asyncio.sleep(CHECK_AGAIN_S)
        finally:
            self.num_waiting -= 1


def _is_not_ready(reply: Reply) -> bool:
    """A replica that cannot work yet or no more; one that is only busy says when to come again."""
    return reply.status in (502, 503) and not reply.header(b"retry-after")


@lru_cache(maxsize=1024)
def _url(base: str, target: str) -> URL:
    return URL(base + target, encoded=True)
