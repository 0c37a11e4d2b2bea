"""Facts, gauges and the drawn status of a home in which little runs; nothing is started."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from starlette.applications import Starlette
from starlette.routing import Match

from flows.facts import Facts
from flows.gauges import Gauges
from flows.metrics import exporter, eyes, targets
from flows.status import render, snapshot, watch
from flows.workshop import Workshop
from infra.deployments import Deployment, Deployments, Replica
from infra.ports import free_ports
from infra.promotion import PROMOTE, REGISTER
from infra.settings import Settings

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    """Version 2 of `ring` is live, was backed up well and restored badly, and drifts."""
    prefect, prometheus = free_ports(2)
    one = Workshop(Settings(home=tmp_path, prefect_port=prefect, prometheus_port=prometheus))
    for version in (1, 2):
        facts = {"version": version, "digest": f"{version}" * 64, "run_id": "r", "evidence": "e"}
        one.ledger.append(REGISTER, "ring", **facts, passed=True, reasons=[])
        one.ledger.append(PROMOTE, "ring", **facts, previous=None)
    (tmp_path / "ops").mkdir()
    for name, fields in (("backup", {"ok": True, "seconds": 4.5}), ("drill", {"ok": False, "error": "no such blob"})):
        record = {"time": (NOW - timedelta(hours=3)).isoformat(), **fields}
        (tmp_path / "ops" / f"{name}.json").write_text(json.dumps(record))
    for hour, verdict in ((9, "no retraining needed"), (11, "retraining needed")):
        record = {"product": "ring", "time": NOW.replace(hour=hour).isoformat(), "verdict": verdict, "reasons": ["x"]}
        one.store.put_bytes(f"monitoring/ring/20261122T{hour:02d}0000.json", json.dumps(record).encode())
    return one


def scraped(gauges: Gauges) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(gauges.exposition().decode())
    samples = (sample for family in families for sample in family.samples)
    return {(one.name, tuple(value for _, value in sorted(one.labels.items()))): one.value for one in samples}


def test_what_is_known_is_told_and_what_is_not_is_named(shop: Workshop) -> None:
    found = scraped(Gauges(Facts(shop)))
    assert found["roadworthy_live_info", ("2" * 12, "ring", "2")] == 1
    assert (found["roadworthy_ledger_ok", ()], found["roadworthy_ledger_entries", ()]) == (1, 4)
    assert found["roadworthy_ledger_actions_total", ("promote",)] == 2
    assert (found["roadworthy_backup_ok", ()], found["roadworthy_drill_ok", ()]) == (1, 0)
    assert found["roadworthy_backup_time_seconds", ()] == (NOW - timedelta(hours=3)).timestamp()
    assert found["roadworthy_monitor_verdict", ("ring", "retraining needed")] == 1
    assert found["roadworthy_monitor_time_seconds", ("ring",)] == NOW.replace(hour=11).timestamp()
    assert found["roadworthy_monitor_alarm", ("ring",)] == 0
    assert found["roadworthy_disk_free_bytes", ()] < found["roadworthy_disk_size_bytes", ()]
    missing = {labels[0] for (name, labels), value in found.items() if name == "roadworthy_facts_ok" and not value}
    assert missing == {"runs"}  # no Prefect runs here


def test_a_changed_ledger_is_not_believed(shop: Workshop) -> None:
    gauges = Gauges(Facts(shop))
    assert scraped(gauges)["roadworthy_ledger_ok", ()] == 1
    text = shop.ledger.path.read_text()
    shop.ledger.path.write_text(text.replace('"version":1', '"version":7'))
    found = scraped(gauges)
    assert found["roadworthy_ledger_ok", ()] == 0
    assert not [name for name, _ in found if name == "roadworthy_live_info"]
    assert found["roadworthy_drill_ok", ()] == 0  # the rest is told as before
    shop.ledger.path.write_text(text)
    assert scraped(gauges)["roadworthy_ledger_ok", ()] == 1


def test_a_broken_record_hides_only_itself(shop: Workshop) -> None:
    (shop.home / "ops" / "backup.json").write_text('{"ok": true}')
    found = scraped(Gauges(Facts(shop)))
    assert found["roadworthy_facts_ok", ("operations",)] == 0
    assert found["roadworthy_facts_ok", ("monitoring",)] == 1


def test_prometheus_is_told_of_every_replica_and_router(shop: Workshop) -> None:
    replicas = tuple(
        Replica(name=f"v{version}-0", version=version, digest="d", port=4000 + version) for version in (1, 2)
    )
    meant = Deployment(
        product="ring", engine="process", host="127.0.0.1", port=3000, grpc_port=4000, num_replicas=1, version=2,
        replicas=replicas[1:], previous=replicas[:1],
    )  # fmt: skip
    Deployments(shop.config, shop.ledger).begin(meant, "deploy", 2)
    assert targets(shop, "router") == [
        {"targets": ["127.0.0.1:3000"], "labels": {"product": "ring", "__scheme__": "http"}}
    ]
    assert [one["targets"] for one in targets(shop, "service")] == [["127.0.0.1:4002"], ["127.0.0.1:4001"]]
    app: Starlette = exporter(shop)
    for path in ("/metrics", "/livez", "/targets/router"):
        assert [
            one for one in app.routes if one.matches({"type": "http", "path": path, "method": "GET"})[0] is Match.FULL
        ]


def test_without_prometheus_the_platform_comes_up_and_says_so(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(shop.home))
    assert [one.name for one in eyes(shop.config)] == ["metrics"]
    assert "no Prometheus, so no alerts and no history: prometheus: expected" in capsys.readouterr().err


def test_the_status_says_what_is_wrong_first(shop: Workshop) -> None:
    record = snapshot(Facts(shop))
    alert = {"name": "DiskFull", "severity": "critical", "summary": "2% left", "since": "2026-11-22T11:55:00.5Z"}
    traffic = {"product": "ring", "group": "v2", "weight": 100.0, "requests": 1234, "errors": 1, "p50_ms": 1.5}
    record |= {"alerts": [alert], "traffic": [{**traffic, "p99_ms": 12.25}]}
    text = io.StringIO()
    Console(file=text, width=140).print(render(record, NOW))
    lines = [" ".join(line.split()) for line in text.getvalue().splitlines()]
    assert lines[1] == "critical: 2% left (since 5 min)"
    assert lines[2].startswith("runs cannot be read: ConnectError")
    assert any(line.startswith("ring 2 ") and line.endswith(" 1,234 1 1.5 12.2") for line in lines)
    assert "backup well 3 h" in lines and "drill failed: no such blob 3 h" in lines
    assert "monitoring ring retraining needed 1 h" in lines
    assert any(line.startswith("ledger chain holds, 4 entries") for line in lines)


def test_where_nobody_looks_it_is_printed_again_and_again(shop: Workshop) -> None:
    text = io.StringIO()
    watch(shop, every_s=0.0, num_looks=2, to=Console(file=text, width=120))
    assert text.getvalue().count("On the road") == 2
