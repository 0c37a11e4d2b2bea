"""The state of one router: configuration, replicas, what they did, and the canary's guard.

When the guard finds a breach, the canary's weight is nothing from that moment on; the reason is on the disk before
anybody asks for it, so neither a restart nor a dead roll-out command brings the canary back.
"""

import asyncio
import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from infra.atomic import write_atomic
from services.router_config import CanaryGuard, RouterConfig, Trip, read_config, read_trip, trip_path
from services.router_forward import Forwarder
from services.router_guard import Watch, quantile
from services.router_pool import Pool, waiting_s
from services.router_shadow import ShadowQueue

LOG = logging.getLogger("roadworthy.router")
JUDGE_S = 0.1  # between two looks of the guard


class RouterState:
    """Everything that the fronts share; one event loop."""

    def __init__(self, path: Path, session: aiohttp.ClientSession) -> None:
        self._path = path
        self.trip: Trip | None = None
        self.watch = Watch(time.monotonic)
        self.pool = Pool(RouterConfig(), session)
        self.forwarder = Forwarder(self.pool, self.watch, session)
        self.shadow = ShadowQueue(self.pool, self.forwarder, self.watch)
        self._loading = asyncio.Lock()

    async def load(self) -> None:
        """Read the file and take all of it over, or nothing. Raises RouterConfigError."""
        async with self._loading:
            config = read_config(self._path)
            self.trip = read_trip(self._path, config.roll_out)
            if config.roll_out != self.pool.config.roll_out:
                self.watch.begin()
            await self.pool.apply(config, {self.trip.group} if self.trip else ())

    async def judge(self) -> None:
        """Look at the canary, for ever, and take it off the road on a breach."""
        while True:
            guard = self.pool.config.guard
            if guard is not None and self.trip is None and (reason := self._breach(guard)):
                self.take_off(guard.group, reason)
            await asyncio.sleep(JUDGE_S)

    def _breach(self, guard: CanaryGuard) -> str:
        members = self.pool.members(guard.group)
        return self.watch.breach(guard, any(one.is_ready for one in members), waiting_s(members))

    def take_off(self, group: str, reason: str) -> None:
        """Nothing more is sent to `group`, from now on."""
        self.pool.off = frozenset({group})
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        self.trip = Trip(roll_out=self.pool.config.roll_out, group=group, reason=reason, time=now)
        LOG.warning("%s is taken off the road: %s", group, reason)
        try:
            write_atomic(trip_path(self._path), self.trip.model_dump_json(indent=1).encode(), mode=0o600)
        except OSError:  # a full disk must not bring the canary back
            LOG.exception("the reason could not be kept; it holds until this process ends")

    def record(self) -> dict[str, Any]:
        """What GET /router/status answers."""
        pool, diffs = self.pool, self.watch.diffs
        mean, num_recent = diffs.mean()
        return {
            "product": pool.config.product,
            "roll_out": pool.config.roll_out,
            "tripped": self.trip.model_dump() if self.trip else None,
            "backends": [{**one.record(), "weight": pool.weight(one)} for one in pool.upstreams.values()],
            "draining": [one.record() for one in pool.draining],
            "groups": {name: self._group(name) for name in sorted(self.watch.tallies)},
            "shadow": {
                "sent": self.shadow.num_sent,
                "dropped": self.shadow.num_dropped,
                "compared": diffs.num_compared,
                "different_status": diffs.num_different_status,
                "mean_disagreement": mean,
                "of_latest": num_recent,
                "worst": diffs.worst,
                "worst_prediction_id": diffs.worst_id,
            },
            "retries": self.forwarder.num_retries,
            "waiting": self.forwarder.num_waiting,
        }

    def _group(self, name: str) -> dict[str, Any]:
        tally = self.watch.tallies[name]
        seconds = [seconds for _, seconds, _ in tally.samples]
        quantiles = {f"p{share:.0f}_ms": round(1000 * quantile(seconds, share / 100), 3) for share in (50, 99)}
        return {"requests": tally.num_requests, "errors": tally.num_errors, "recent": len(seconds), **quantiles}


class RouterMetrics(Collector):
    """The state as Prometheus families."""

    def __init__(self, state: RouterState) -> None:
        self._state = state
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """The families, for prometheus_client."""
        record = self._state.record()
        label = ["replica", "group"]
        requests = CounterMetricFamily("roadworthy_router_requests", "Requests sent to a replica", labels=label)
        errors = CounterMetricFamily("roadworthy_router_errors", "Answers 5xx or none, of a replica", labels=label)
        ready = GaugeMetricFamily("roadworthy_router_ready", "1 when /readyz says so", labels=label)
        weight = GaugeMetricFamily("roadworthy_router_weight", "Share of the requests", labels=label)
        for one in record["backends"]:
            key = [one["name"], one["group"]]
            requests.add_metric(key, one["requests"])
            errors.add_metric(key, one["errors"])
            ready.add_metric(key, float(one["ready"]))
            weight.add_metric(key, one["weight"])
        yield from (requests, errors, ready, weight)
        yield CounterMetricFamily("roadworthy_router_retries", "Requests asked of another replica", record["retries"])
        yield GaugeMetricFamily("roadworthy_router_waiting", "Requests that wait for a replica", record["waiting"])
        yield GaugeMetricFamily("roadworthy_router_tripped", "1: canary taken off", float(bool(record["tripped"])))
        shadow = record["shadow"]
        for name, text in (("compared", "Pairs held against each other"), ("dropped", "Copies that did not fit")):
            yield CounterMetricFamily(f"roadworthy_router_shadow_{name}", text, shadow[name])
        mean = shadow["mean_disagreement"]
        yield GaugeMetricFamily("roadworthy_router_disagreement", "Mean difference, share of scale", mean)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)
