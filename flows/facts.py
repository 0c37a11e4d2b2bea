"""How things stand in a home, as plain records, for the exporter and `status --watch`.

Each part is read on its own, so that a database that is down hides nothing but itself, and no more often than it is
worth: the ledger when it changed, what lies in the object store every two minutes.
"""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable
from datetime import datetime
from typing import Any, NamedTuple
from xmlrpc.client import Error as SupervisorSilent

import httpx

from flows.facts_runs import Runs
from flows.workshop import Workshop, now
from infra.deployments import DeploymentError, Deployments
from infra.ledger import Entry, LedgerError
from infra.objects import StorageError
from infra.prometheus import LOOPBACK
from infra.promotion import standing, tenures
from infra.spool import num_bytes_in
from services.router_client import RouterClient, RouterGoneError

OPERATIONS = ("backup", "drill")  # HOME/ops/<name>.json: what the last one came to
WATCHED = "runs"  # what `watch-runs` leaves there every minute
MONITORING = "monitoring"
READ_ERRORS = (
    OSError, ValueError, KeyError, LedgerError, StorageError, DeploymentError, httpx.HTTPError, SupervisorSilent,
    RouterGoneError,
)  # fmt: skip


class Part(NamedTuple):
    """One part of the facts: how it is read, and for how many seconds what was read stays good."""

    read: Callable[[], Any]
    keep_s: float


class _Kept(NamedTuple):
    value: Any
    why: str
    at: float


class Facts:
    """The facts of one home, remembered between two looks."""

    def __init__(self, shop: Workshop, clock: Callable[[], datetime] = now) -> None:
        self._shop, self._clock = shop, clock
        self._runs = Runs(shop.config)
        self._entries: tuple[tuple[int, int], list[Entry]] = ((-1, -1), [])
        self._kept: dict[str, _Kept] = {}
        self._parts = {
            "ledger": Part(self._ledger, 0.0),
            "live": Part(self._live, 0.0),
            "programs": Part(self._programs, 0.0),
            "disk": Part(self._disk, 5.0),
            "spools": Part(self._spools, 5.0),
            "operations": Part(self._operations, 5.0),
            "runs": Part(lambda: self._runs.counts(self._clock()), 10.0),
            "databases": Part(self._databases, 300.0),
            "monitoring": Part(self._monitoring, 120.0),
        }

    def read(self) -> dict[str, Any]:
        """Every part by name; None for one that cannot be read, and why, in `missing`."""
        found = {name: self._part(name, one) for name, one in self._parts.items()}
        missing = {name: one.why for name, one in found.items() if one.why}
        return {**{name: one.value for name, one in found.items()}, "missing": missing}

    def alerts(self) -> list[dict[str, Any]]:
        """What rings, as Prometheus says; nothing where it does not answer, as in a home without one."""
        return self._part("alerts", Part(self._firing, 2.0)).value or []

    def traffic(self) -> list[dict[str, Any]]:
        """What each router says of the versions behind it."""
        return self._part("traffic", Part(self._traffic, 1.0)).value or []

    def current_runs(self) -> list[dict[str, Any]]:
        """What Prefect runs, or should; nothing where it does not answer."""
        return self._part("current_runs", Part(self._runs.current, 2.0)).value or []

    def _part(self, name: str, part: Part) -> _Kept:
        known = self._kept.get(name)
        if known is None or time.monotonic() - known.at >= part.keep_s:
            known = self._kept[name] = _tried(part.read)
        return known

    def _firing(self) -> list[dict[str, Any]]:
        url = f"http://{LOOPBACK}:{self._shop.config.prometheus_port}/api/v1/alerts"
        found = httpx.get(url, timeout=2.0, trust_env=False).raise_for_status().json()["data"]["alerts"]
        return [
            {"name": one["labels"]["alertname"], "severity": one["labels"].get("severity", ""),
             "summary": one["annotations"]["summary"], "since": one["activeAt"]}
            for one in found if one["state"] == "firing"
        ]  # fmt: skip

    def _traffic(self) -> list[dict[str, Any]]:
        records = Deployments(self._shop.config, self._shop.ledger)
        found = []
        for product in records.products():
            status = RouterClient(records.folder_of(product)).status()
            for group, tally in (status["groups"] if status else {}).items():
                weight = sum(one["weight"] for one in status["backends"] if one["group"] == group) if status else 0.0
                found.append({"product": product, "group": group, "weight": weight, **tally})
        return found

    def _ledger(self) -> dict[str, Any]:
        entries = self._checked_entries()
        last = entries[-1].time if entries else None
        return {"entries": len(entries), "last": last, "actions": dict(Counter(one.action for one in entries))}

    def _checked_entries(self) -> list[Entry]:
        path = self._shop.ledger.path
        state = path.stat() if path.exists() else None
        stamp = (state.st_size, state.st_mtime_ns) if state else (0, 0)
        if self._entries[0] != stamp:
            self._shop.ledger.verify()
            self._entries = (stamp, self._shop.ledger.entries())
        return self._entries[1]

    def _live(self) -> list[dict[str, Any]]:
        entries, found = self._checked_entries(), []
        for product in sorted({one.product for one in entries if one.product}):
            own = [one for one in entries if one.product == product]
            live = standing(own).live
            if live is not None:
                since = tenures(own)[-1]["since"]
                found.append({"product": product, "version": live.version, "digest": live.digest, "since": since})
        return found

    def _programs(self) -> list[dict[str, Any]]:
        from flows.up import programs

        return programs(self._shop)

    def _disk(self) -> dict[str, int]:
        usage = shutil.disk_usage(self._shop.home)
        return {"free": usage.free, "size": usage.total}

    def _spools(self) -> dict[str, int]:
        from flows.capture import spools

        return {folder.name: num_bytes_in(folder) for folder in spools(self._shop)}

    def _operations(self) -> dict[str, Any]:
        """What the last backup and drill came to and when somebody last looked after runs; None: never."""
        found: dict[str, Any] = {}
        for name in (*OPERATIONS, WATCHED):
            path = self._shop.home / "ops" / f"{name}.json"
            record = json.loads(path.read_bytes()) if path.exists() else None
            found[name] = record and {
                "ok": bool(record.get("ok", True)),
                "time": datetime.fromisoformat(record["time"]).isoformat(),
                "seconds": record.get("seconds"),
                "error": record.get("error", ""),
            }
        return found

    def _databases(self) -> dict[str, int]:
        from infra.database_size import database_bytes

        if not self._shop.config.is_services:
            return database_bytes(self._shop.config)
        from psycopg import Error  # of the extra `services`

        try:
            return database_bytes(self._shop.config)
        except Error as error:
            raise ConnectionError(str(error).strip()) from error

    def _monitoring(self) -> list[dict[str, Any]]:
        """The newest record of each product: keys of one product sort by time."""
        newest: dict[str, str] = {}
        for one in self._shop.store.list(MONITORING):
            words = one.key.split("/")
            if len(words) == 3 and words[2].endswith(".json"):
                newest[words[1]] = max(newest.get(words[1], ""), one.key)
        return [self._look(product, key) for product, key in sorted(newest.items())]

    def _look(self, product: str, key: str) -> dict[str, Any]:
        from flows.monitor_alarm import find_alarm

        record, alarm = json.loads(self._shop.store.get_bytes(key)), find_alarm(self._shop, product)
        return {
            "product": product,
            "verdict": str(record["verdict"]),
            "time": datetime.fromisoformat(record["time"]).isoformat(),
            "reasons": list(record.get("reasons", ())),
            "alarm": alarm is not None and alarm.is_open,
        }


def _tried(read: Callable[[], Any]) -> _Kept:
    try:
        return _Kept(read(), "", time.monotonic())
    except READ_ERRORS as error:
        return _Kept(None, f"{type(error).__name__}: {error}", time.monotonic())
