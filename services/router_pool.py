"""The replicas behind the router: which are ready, whose turn it is, which must finish.

A client stays with its replica by weighted rendezvous hashing (Schindelhauer & Schomaker, 2005): each replica draws a
number from the client's name, the highest wins. A weight that grows takes clients from others and moves nobody else.
"""

import asyncio
import hashlib
import math
import random
import time
from collections.abc import Callable, Collection, Iterable
from typing import Any

import aiohttp
import grpc.aio

from services.router_config import Backend, RouterConfig

CHECK_S, CHECK_AGAIN_S = 1.0, 0.1  # between looks at /readyz, when all are ready and when one is not
NUM_SILENT = 3  # so often may a look at /readyz take too long, as on a busy machine, before it counts
GRPC_OPTIONS = (
    ("grpc.max_receive_message_length", 64 << 20),
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a killed replica is back within seconds
    ("grpc.max_reconnect_backoff_ms", 1000),
)


class Upstream:
    """One replica, as the router sees it."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.is_ready = False
        self.reason = "not looked at yet"
        self.num_requests = 0
        self.num_errors = 0
        self.started: dict[int, float] = {}  # when each request now in flight was sent, monotonic
        self.num_silent = 0
        self._channel: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        """To its gRPC port, opened at the first call."""
        if self._channel is None:
            self._channel = grpc.aio.insecure_channel(self.backend.grpc, options=GRPC_OPTIONS)
        return self._channel

    async def close(self) -> None:
        if self._channel is not None:
            await self._channel.close()

    def record(self) -> dict[str, Any]:
        """For status."""
        return {
            **self.backend.model_dump(),
            "ready": self.is_ready,
            "reason": self.reason,
            "in_flight": len(self.started),
            "requests": self.num_requests,
            "errors": self.num_errors,
        }


class Pool:
    """All replicas; `apply` replaces what the router was told as a whole."""

    def __init__(self, config: RouterConfig, session: aiohttp.ClientSession) -> None:
        self.config = config
        self.upstreams: dict[str, Upstream] = {}
        self.draining: list[Upstream] = []
        self.off: frozenset[str] = frozenset()  # groups taken off the road
        self._session = session
        self._became_ready = asyncio.Event()

    async def apply(self, config: RouterConfig, off: Collection[str]) -> None:
        """Take `config`: new replicas are looked at first; those gone get nothing new and finish what they have."""
        kept: dict[str, Upstream] = {}
        for backend in config.backends:
            known = self.upstreams.get(backend.name)
            is_same = known is not None and (known.backend.url, known.backend.grpc) == (backend.url, backend.grpc)
            kept[backend.name] = known if known is not None and is_same else Upstream(backend)
        await asyncio.gather(*(self._look(one) for name, one in kept.items() if self.upstreams.get(name) is not one))
        for backend in config.backends:
            kept[backend.name].backend = backend
        self.draining += [one for one in self.upstreams.values() if one not in kept.values()]
        self.config, self.upstreams, self.off = config, kept, frozenset(off)
        self._say_ready()

    def weight(self, upstream: Upstream) -> float:
        """Its share as it is now: none for a group that was taken off the road, then something for the one before."""
        backend, guard = upstream.backend, self.config.guard
        if not self.off:
            return backend.weight
        takes_over = guard is not None and guard.back_to == backend.group and backend.group not in self.off
        return 0.0 if backend.group in self.off else max(backend.weight, float(takes_over))

    def choose(self, client: str, avoiding: Collection[str] = ()) -> Upstream | None:
        """Whose turn it is among those ready and not in `avoiding`; without a client's name, by the weights alone."""
        able = [
            one for name, one in self.upstreams.items()
            if one.is_ready and name not in avoiding and self.weight(one) > 0
        ]  # fmt: skip
        return self._pick(able, client, self.weight)

    def choose_for_copy(self, client: str, is_wanted: Callable[[str], bool]) -> Upstream | None:
        """A ready replica of a wanted group, whatever its weight: a candidate in the shadow has none."""
        able = [one for one in self.upstreams.values() if one.is_ready and is_wanted(one.backend.group)]
        return self._pick(able, client, lambda _: 1.0)

    @staticmethod
    def _pick(able: list[Upstream], client: str, weight: Callable[[Upstream], float]) -> Upstream | None:
        if len(able) < 2:
            return able[0] if able else None
        if not client:
            return random.choices(able, [weight(one) for one in able])[0]  # noqa: S311 - a share, no secret
        return max(able, key=lambda one: weight(one) / -math.log(_draw(client, one.backend.name)))

    def members(self, group: str) -> list[Upstream]:
        return [one for one in self.upstreams.values() if one.backend.group == group]

    def failed(self, upstream: Upstream, reason: str) -> None:
        """It does not answer: nothing is sent to it until /readyz says otherwise."""
        upstream.is_ready, upstream.reason = False, reason

    async def until_ready(self, timeout_s: float) -> None:
        """Returns when a replica became ready, or after `timeout_s`."""
        try:  # asyncio says by raising that the time is over
            await asyncio.wait_for(self._became_ready.wait(), timeout_s)
        except TimeoutError:
            return

    async def watch(self) -> None:
        """Look at /readyz of all, for ever; forget those that have finished."""
        while True:
            await asyncio.gather(*(self._look(one) for one in self.upstreams.values()))
            for one in [one for one in self.draining if not one.started]:
                self.draining.remove(one)
                await one.close()
            all_ready = all(one.is_ready for one in self.upstreams.values())
            await asyncio.sleep(CHECK_S if all_ready and not self.draining else CHECK_AGAIN_S)

    async def _look(self, upstream: Upstream) -> None:
        try:
            timeout = aiohttp.ClientTimeout(total=2.0)
            async with self._session.get(f"{upstream.backend.url}/readyz", timeout=timeout) as answer:
                is_ready, reason = answer.status == 200, f"/readyz answered {answer.status}"
        except TimeoutError:
            upstream.num_silent += 1
            is_ready = upstream.is_ready and upstream.num_silent < NUM_SILENT
            reason = "/readyz does not answer"
        except (aiohttp.ClientError, OSError) as error:
            is_ready, reason = False, f"{type(error).__name__}: {error}"
        else:
            upstream.num_silent = 0
        was_ready, upstream.is_ready = upstream.is_ready, is_ready
        upstream.reason = "" if is_ready else reason
        if is_ready and not was_ready:
            self._say_ready()

    def _say_ready(self) -> None:
        self._became_ready.set()
        self._became_ready = asyncio.Event()


def waiting_s(upstreams: Iterable[Upstream]) -> list[float]:
    """How long each request in flight has been waiting."""
    now = time.monotonic()
    return [now - start for one in upstreams for start in one.started.values()]


def _draw(client: str, name: str) -> float:
    """A number in (0, 1) that this client always draws for this replica."""
    raw = hashlib.blake2b(f"{client}\0{name}".encode(), digest_size=8).digest()
    return (int.from_bytes(raw) + 0.5) / 2.0**64
