"""Copies of answered requests, asked of the other version after the client has its answer.

The queue is bounded in number and bytes. What does not fit is dropped and counted: the shadow never slows the road.
"""

import asyncio
import logging
import random
from dataclasses import dataclass, replace

from services.copies import MARK
from services.router_diff import disagreement
from services.router_forward import Ask, BrokenOffError, Forwarder, Reply
from services.router_guard import Watch
from services.router_pool import Pool

LOG = logging.getLogger("roadworthy.router")
MAX_COPIES, MAX_BYTES, NUM_SENDERS = 256, 32_000_000, 4
_PREDICTS = ("/predict", "/infer")


@dataclass(frozen=True)
class _Copy:
    ask: Ask
    reply: Reply

    @property
    def num_bytes(self) -> int:
        return len(self.ask.body) + len(self.reply.body)


class ShadowQueue:
    """Takes copies, sends them, and tells the watch how far the answers are apart."""

    def __init__(self, pool: Pool, forwarder: Forwarder, watch: Watch) -> None:
        self._pool, self._forwarder, self._watch = pool, forwarder, watch
        self._queue: asyncio.Queue[_Copy] = asyncio.Queue(MAX_COPIES)
        self._num_bytes = 0
        self.num_sent = 0
        self.num_dropped = 0

    def offer(self, ask: Ask, reply: Reply) -> None:
        """Take a copy of a prediction that was answered, if there is a shadow and this one is in its share."""
        shadow = self._pool.config.shadow
        if shadow is None or shadow.group in self._pool.off or ask.method != "POST":
            return
        if not ask.target.partition("?")[0].endswith(_PREDICTS) or random.random() >= shadow.share:  # noqa: S311
            return
        copy = _Copy(ask, reply)
        if self._queue.full() or self._num_bytes + copy.num_bytes > MAX_BYTES:
            self.num_dropped += 1
            return
        self._num_bytes += copy.num_bytes
        self._queue.put_nowait(copy)

    async def run(self) -> None:
        """Send copies, for ever."""
        await asyncio.gather(*(self._send_all() for _ in range(NUM_SENDERS)))

    async def _send_all(self) -> None:
        while True:
            copy = await self._queue.get()
            try:
                await self._compare(copy)
            except Exception:  # the service edge: whatever two answers hold, the road goes on
                LOG.exception("a shadow copy could not be compared")
            finally:
                self._num_bytes -= copy.num_bytes

    async def _compare(self, copy: _Copy) -> None:
        """What the shadow answers is asked of the others, and the other way round: each pair has both versions."""
        shadow = self._pool.config.shadow
        if shadow is None:
            return
        group, first = shadow.group, copy.reply
        was_shadow = first.group == group
        upstream = self._pool.choose_for_copy(copy.ask.client, lambda name: (name == group) != was_shadow)
        if upstream is None:
            self.num_dropped += 1
            return
        headers = copy.ask.headers.copy()
        headers[MARK] = "1"
        self.num_sent += 1
        try:
            second = await self._forwarder.send(upstream, replace(copy.ask, headers=headers))
        except BrokenOffError:
            return  # counted as an error of its group
        one, other = (second, first) if was_shadow else (first, second)
        off = disagreement(one.status, one.body, _head_size(one), other.status, other.body, _head_size(other))
        prediction_id = first.header(b"x-prediction-id").decode("latin-1")
        self._watch.compared(off, first.status == second.status, prediction_id)


def _head_size(reply: Reply) -> int:
    text = reply.header(b"inference-header-content-length")
    return int(text) if text.isdigit() else 0
