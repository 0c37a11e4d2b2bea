"""The facts of a home as Prometheus families.

What cannot be read is left out, and said in `roadworthy_facts_ok`.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from flows.facts import OPERATIONS, WATCHED, Facts


class Gauges(Collector):
    """A home, scraped."""

    def __init__(self, facts: Facts) -> None:
        self._facts = facts
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def exposition(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)

    def describe(self) -> list[Metric]:
        """Nothing: registering must not read the home."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The families, for prometheus_client."""
        facts = self._facts.read()
        ok = GaugeMetricFamily("roadworthy_facts_ok", "0 when a part of the facts cannot be read", labels=["part"])
        for part in facts.keys() - {"missing"}:
            ok.add_metric([part], float(part not in facts["missing"]))
        yield ok
        yield from _versions(facts["live"] or [])
        yield from _ledger(facts["ledger"])
        yield from _operations(facts["operations"] or {})
        yield from _monitoring(facts["monitoring"] or [])
        yield from _machine(facts)
        yield from _databases(facts["databases"] or {})
        yield from _runs(facts["runs"] or {})


def seconds(text: str) -> float:
    """Unix time of an ISO 8601 time."""
    return datetime.fromisoformat(text).timestamp()


def _versions(live: list[dict[str, Any]]) -> Iterator[Metric]:
    names = ["product", "version", "digest"]
    info = GaugeMetricFamily("roadworthy_live_info", "1 for the live version of a product", labels=names)
    since = GaugeMetricFamily("roadworthy_live_since_seconds", "When it went live, Unix time", labels=["product"])
    for one in live:
        info.add_metric([one["product"], str(one["version"]), one["digest"][:12]], 1)
        since.add_metric([one["product"]], seconds(one["since"]))
    yield from (info, since)


def _ledger(ledger: Mapping[str, Any] | None) -> Iterator[Metric]:
    yield GaugeMetricFamily("roadworthy_ledger_ok", "1 when its chain and head hold", float(ledger is not None))
    if ledger is None:
        return
    yield GaugeMetricFamily("roadworthy_ledger_entries", "Entries in the ledger", ledger["entries"])
    if ledger["last"]:
        yield GaugeMetricFamily("roadworthy_ledger_time_seconds", "Its last entry, Unix time", seconds(ledger["last"]))
    actions = CounterMetricFamily("roadworthy_ledger_actions", "Entries by action", labels=["action"])
    for action, count in sorted(ledger["actions"].items()):
        actions.add_metric([action], count)
    yield actions


def _operations(operations: Mapping[str, Any]) -> Iterator[Metric]:
    for name in OPERATIONS:
        record = operations.get(name)
        if record is None:
            continue
        yield GaugeMetricFamily(f"roadworthy_{name}_ok", f"1 when the last {name} went well", float(record["ok"]))
        at = seconds(record["time"])
        yield GaugeMetricFamily(f"roadworthy_{name}_time_seconds", f"The last {name}, Unix time", at)
        if record["seconds"] is not None:
            yield GaugeMetricFamily(f"roadworthy_{name}_seconds", f"How long the last {name} took", record["seconds"])
    if watched := operations.get(WATCHED):
        at = seconds(watched["time"])
        yield GaugeMetricFamily("roadworthy_watch_time_seconds", "When runs were last looked after, Unix time", at)


def _monitoring(records: list[dict[str, Any]]) -> Iterator[Metric]:
    alarm = GaugeMetricFamily("roadworthy_monitor_alarm", "1 while a retraining is asked for", labels=["product"])
    looked = GaugeMetricFamily("roadworthy_monitor_time_seconds", "The last look, Unix time", labels=["product"])
    names = ["product", "verdict"]
    verdict = GaugeMetricFamily("roadworthy_monitor_verdict", "1 for what the last look found", labels=names)
    for one in records:
        verdict.add_metric([one["product"], str(one["verdict"])], 1)
        looked.add_metric([one["product"]], seconds(one["time"]))
        alarm.add_metric([one["product"]], float(bool(one.get("alarm"))))
    yield from (alarm, looked, verdict)


def _machine(facts: Mapping[str, Any]) -> Iterator[Metric]:
    up = GaugeMetricFamily("roadworthy_program_up", "1 while it runs", labels=["program", "state"])
    for one in facts["programs"] or []:
        up.add_metric([one["name"], one["state"]], float(one["state"] in ("RUNNING", "UNSUPERVISED")))
    yield up
    spool = GaugeMetricFamily("roadworthy_spool_bytes", "Captured predictions not shipped yet", labels=["product"])
    for product, num_bytes in (facts["spools"] or {}).items():
        spool.add_metric([product], num_bytes)
    yield spool
    if facts["disk"]:
        yield GaugeMetricFamily("roadworthy_disk_free_bytes", "Free on the disk under HOME", facts["disk"]["free"])
        yield GaugeMetricFamily("roadworthy_disk_size_bytes", "Size of the disk under HOME", facts["disk"]["size"])


def _databases(sizes: Mapping[str, int]) -> Iterator[Metric]:
    family = GaugeMetricFamily("roadworthy_database_bytes", "Size of a database", labels=["database"])
    for name, num_bytes in sizes.items():
        family.add_metric([name], num_bytes)
    yield family


def _runs(counts: Mapping[str, int]) -> Iterator[Metric]:
    runs = GaugeMetricFamily("roadworthy_flow_runs", "Prefect's flow runs by state", labels=["state"])
    for state, count in counts.items():
        runs.add_metric([state], count)
    yield runs
