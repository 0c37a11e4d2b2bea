"""The platform's compose file, manifests and Containerfile: valid as they lie there, and saying the same."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra import platform_image
from infra.settings import Settings

DEPLOY = platform_image.SOURCE / "infra" / "deploy"
KUBERNETES = DEPLOY / "kubernetes"
PORTS = {"postgres": 5433, "s3": 8333, "prefect": 4201, "mlflow": 5001}
AT_HOME = {"gateway", "worker", "serving", "capture", "hooks", "metrics", "prometheus"}


def tool(name: str, *words: object) -> str:
    """What a program beside this Python prints; it must end well."""
    done = subprocess.run(
        [Path(sys.executable).with_name(name), *map(str, words)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    """What kustomize makes of the folder."""
    return list(yaml.safe_load_all(tool("kubectl", "kustomize", KUBERNETES)))


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """The services of the compose file, as podman-compose reads it: merged, variables filled in."""
    found: dict[str, Any] = yaml.safe_load(tool("podman-compose", "-f", DEPLOY / "compose.yaml", "config"))
    services: dict[str, Any] = found["services"]
    return services


def of(objects: list[dict[str, Any]], *kinds: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] in kinds}


def pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: one["spec"]["template"]["spec"] for name, one in of(objects, "StatefulSet", "Deployment").items()}


def containers(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["name"]: one for pod in pods(objects).values() for one in pod["containers"]}


def test_every_file_is_valid_for_the_api_as_it_lies_there(objects: list[dict[str, Any]], tmp_path: Path) -> None:
    whole = tmp_path / "whole.yaml"
    whole.write_text(yaml.safe_dump_all(objects))
    files = [path for path in KUBERNETES.rglob("*.yaml") if path.name != "kustomization.yaml"]
    said = tool("kubernetes-validate", "--strict", *files, whole)
    assert {line.split()[0] for line in said.splitlines()} == {"INFO"}  # WARN: a kind without a schema
    assert {path.name for path in files} == set(
        yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    )


def test_what_is_no_manifest_yet_is_not_called_one() -> None:
    templates = [path for path in DEPLOY.rglob("*.yaml") if "${name}" in path.read_text()]
    assert templates == []


def test_both_run_the_same_parts_of_one_image(objects: list[dict[str, Any]], services: dict[str, Any]) -> None:
    found = containers(objects)
    assert {name: one["args"] for name, one in found.items()} == {name: [name] for name in (*PORTS, *AT_HOME)}
    assert set(services) == {*found, "secrets"}
    assert {name: one["command"] for name, one in services.items() if name != "secrets"} == {
        name: one["args"] for name, one in found.items()
    }
    assert {one["image"] for one in services.values()} == {platform_image.TAG}
    assert {one["image"] for one in found.values()} == {platform_image.TAG}


def test_no_container_has_rights(objects: list[dict[str, Any]], services: dict[str, Any]) -> None:
    for one in services.values():
        assert (one["user"], one["read_only"], one["cap_drop"]) == ("1034:1034", True, ["ALL"])
        assert one["security_opt"] == ["no-new-privileges:true"] and one["mem_limit"] and one["pids_limit"]
    for pod in pods(objects).values():
        rights = pod["securityContext"]
        assert rights["runAsNonRoot"] is True and rights["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False and pod["enableServiceLinks"] is False
    for one in containers(objects).values():
        rights = one["securityContext"]
        assert rights["readOnlyRootFilesystem"] is True and rights["capabilities"] == {"drop": ["ALL"]}
        assert rights["allowPrivilegeEscalation"] is False
        assert set(one["resources"]["limits"]) == set(one["resources"]["requests"]) == {"cpu", "memory"}


def test_only_the_doors_are_published_and_on_loopback(services: dict[str, Any]) -> None:
    published = [port for one in services.values() for port in one.get("ports", ())]
    assert published == ["127.0.0.1:8080:8080", "127.0.0.1:5000:5000", "127.0.0.1:4200:4200"]
    config = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    assert config["networks"]["inside"]["internal"] is True
    assert {name for name, one in services.items() if "outside" in (one.get("networks") or ())} == {"gateway"}


def test_the_addresses_are_those_of_the_settings(objects: list[dict[str, Any]], services: dict[str, Any]) -> None:
    config = Settings(home=Path("/nowhere"))
    assert {
        "postgres": config.postgres_port, "s3": config.s3_port,
        "prefect": config.prefect_server_port, "mlflow": config.mlflow_server_port,
    } == PORTS  # fmt: skip
    hosts = of(objects, "ConfigMap")["roadworthy-hosts"]["data"]
    known = {f"ROADWORTHY_{name.upper()}" for name in Settings.model_fields}
    named = {name for one in services.values() for name in one.get("environment") or ()}
    assert {name for name in (*hosts, *named) if name.startswith("ROADWORTHY_")} <= known
    assert set(hosts.values()) <= set(of(objects, "Service"))
    assert set(services["worker"]["environment"]) == {*hosts, "ROADWORTHY_BACKUP_STORE"}


def test_every_service_reaches_a_port_of_its_pod(objects: list[dict[str, Any]]) -> None:
    for service in of(objects, "Service").values():
        pod = pods(objects)[service["spec"]["selector"]["app.kubernetes.io/name"]]
        open_ports = {port["name"] for one in pod["containers"] for port in one.get("ports", ())}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= open_ports


def test_nothing_is_let_in_that_is_not_written_down(objects: list[dict[str, Any]]) -> None:
    policies = of(objects, "NetworkPolicy")
    assert policies["default-deny"]["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert set(pods(objects)) <= set(policies)
    for name, port in PORTS.items():
        (rule,) = policies[name]["spec"]["ingress"]
        assert [one["port"] for one in rule["ports"]] == [port] and rule["from"]
    assert set(of(objects, "PodDisruptionBudget")) == set(pods(objects))


def test_no_secret_is_in_any_file(objects: list[dict[str, Any]], services: dict[str, Any]) -> None:
    assert of(objects, "Secret") == {}
    mounted = {
        volume["secret"]["secretName"]
        for pod in pods(objects).values()
        for volume in pod["volumes"]
        if "secret" in volume
    }
    assert mounted == {"roadworthy-secrets"}
    assert [name for name, one in services.items() if "secrets:/etc/roadworthy/secrets" in one["volumes"]] == [
        "secrets"
    ]


def test_the_containerfile_is_clean_and_its_context_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool("hadolint", platform_image.CONTAINERFILE, DEPLOY / "Containerfile")
    tools = tmp_path / "bin"
    for name in platform_image.TOOLS:
        (tools / name).parent.mkdir(exist_ok=True)
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    context = platform_image.stage(tmp_path / "context", Settings(home=tmp_path))
    copied = [
        line.split()[1:-1] for line in platform_image.CONTAINERFILE.read_text().splitlines() if line.startswith("COPY ")
    ]
    sources = [word for words in copied for word in words if not word.startswith("--") and not word.startswith("/")]
    assert [word for word in sources if not (context / word).exists()] == []
    assert (context / "code" / "flows" / "role.py").exists() and not list(context.rglob("__pycache__"))
