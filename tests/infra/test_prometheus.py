"""Prometheus' configuration, alerts and dashboard as code, judged by Prometheus' own `promtool`."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import prometheus
from infra.prometheus import FOLDER, PrometheusError, find_program, prometheus_server, write_config
from infra.settings import Settings

GRAFANA = FOLDER.parent / "grafana"
RULES = sorted((FOLDER / "rules").glob("*.yaml"))


@pytest.fixture(scope="module")
def promtool(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of PATH, or fetched from Debian."""
    return str(find_program(Settings(home=tmp_path_factory.mktemp("home")), "promtool"))


def run(*words: str, cwd: Path = FOLDER) -> str:
    done = subprocess.run(words, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def alerts() -> list[dict[str, Any]]:
    groups = [group for path in RULES for group in yaml.safe_load(path.read_text())["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


def expressions() -> list[str]:
    """Every expression that a panel shows, with a product in the place of Grafana's variable."""
    dashboard = json.loads((GRAFANA / "dashboards" / "roadworthy.json").read_bytes())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    found += [one["expr"] for one in dashboard["annotations"]["list"]]
    return [one.replace("$product", "ring") for one in found]


@pytest.mark.services
def test_promtool_takes_configuration_rules_and_every_panel(promtool: str, tmp_path: Path) -> None:
    run(promtool, "check", "config", "prometheus.yaml")
    run(promtool, "check", "config", str(write_config(Settings(home=tmp_path))))
    panels = [{"record": f"panel:{number}", "expr": one} for number, one in enumerate(expressions())]
    (tmp_path / "panels.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": panels}]}))
    assert f"{len(panels)} rules found" in run(promtool, "check", "rules", str(tmp_path / "panels.yaml"))


@pytest.mark.services
def test_alerts_fire_when_they_should_and_not_before(promtool: str) -> None:
    said = run(promtool, "test", "rules", *(str(path) for path in sorted((FOLDER / "tests").glob("*.yaml"))))
    assert said.count("SUCCESS") == 4


def test_every_alert_is_tested_and_has_its_runbook() -> None:
    tests = "".join(path.read_text() for path in (FOLDER / "tests").glob("*.yaml"))
    book = {line.removeprefix("### ") for line in (FOLDER / "README.md").read_text().splitlines() if line[:4] == "### "}
    assert book == {one["alert"] for one in alerts()}
    for one in alerts():
        assert f"alertname: {one['alert']}" in tests
        assert one["annotations"]["runbook"] == f"infra/deploy/prometheus/README.md#{one['alert'].lower()}"
        assert one["labels"]["severity"] in ("critical", "warning")


def test_the_dashboard_is_provisioned_with_its_source() -> None:
    dashboard = json.loads((GRAFANA / "dashboards" / "roadworthy.json").read_bytes())
    (source,) = yaml.safe_load((GRAFANA / "provisioning" / "datasources" / "roadworthy.yaml").read_text())[
        "datasources"
    ]
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)) > 30
    for panel in dashboard["panels"]:
        used = [panel.get("datasource"), *(target["datasource"] for target in panel.get("targets", ()))]
        assert {one["uid"] for one in used if one} <= {source["uid"]}
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    (provider,) = yaml.safe_load((GRAFANA / "provisioning" / "dashboards" / "roadworthy.yaml").read_text())["providers"]
    assert re.fullmatch(r"\$\{\w+\}", provider["options"]["path"])


def test_addresses_of_the_home_are_put_in(tmp_path: Path) -> None:
    told = yaml.safe_load(write_config(Settings(home=tmp_path, metrics_port=7001, prometheus_port=7002)).read_text())
    jobs = {one["job_name"]: one for one in told["scrape_configs"]}
    assert jobs["prometheus"]["static_configs"] == [{"targets": ["127.0.0.1:7002"]}]
    assert jobs["gateway"]["static_configs"] == [{"targets": ["127.0.0.1:8080"]}]
    assert jobs["metrics"]["static_configs"] == [{"targets": ["127.0.0.1:7001"]}]
    assert jobs["service"]["http_sd_configs"][0]["url"] == "http://127.0.0.1:7001/targets/service"
    assert [Path(one) for one in told["rule_files"]] == [FOLDER / "rules" / "*.yaml"]


def test_without_prometheus_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PrometheusError, match=r"prometheus: expected `prometheus` on PATH.*apt-get install prometheus"):
        prometheus_server(Settings(home=tmp_path))
    assert prometheus.RETENTION_SIZE == "2GB"
