"""Kubernetes manifests: the API's own schemas, kustomize, and what the schemas do not say."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.manifests import ManifestError, write_manifests

DIGEST = "sha256:" + "a" * 64
IMAGE = f"registry.example/roadworthy/tiny@{DIGEST}"
NOT_OBJECTS = {"kustomization.yaml", "compose.yaml"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The manifests of one product."""
    target = tmp_path_factory.mktemp("manifests")
    write_manifests(target, "Tiny_one", 3, IMAGE, "b" * 64, {"k1.pem": b"PEM"}, "localhost/roadworthy/tiny:v3")
    return target


@pytest.fixture(scope="module")
def objects(folder: Path) -> dict[str, Any]:
    """What kustomize makes of them, by kind."""
    kubectl = Path(sys.executable).with_name("kubectl")
    done = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return {one["kind"]: one for one in yaml.safe_load_all(done.stdout)}


def test_every_object_is_valid_for_the_api(folder: Path) -> None:
    # A ServiceMonitor is the Prometheus operator's; its schema is none of the API's and is checked below.
    files = [str(path) for path in folder.glob("*.yaml") if path.name not in NOT_OBJECTS | {"servicemonitor.yaml"}]
    validate = Path(sys.executable).with_name("kubernetes-validate")
    done = subprocess.run([validate, "--strict", *files], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(files) == 6


def test_kustomize_puts_it_together(objects: dict[str, Any]) -> None:
    assert set(objects) == {
        "ConfigMap", "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service",
        "ServiceAccount", "ServiceMonitor",
    }  # fmt: skip
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == IMAGE
    trust = next(volume for volume in pod["volumes"] if volume["name"] == "trust")
    assert trust["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"] != "tiny-one-trust"
    assert objects["ConfigMap"]["data"] == {"k1.pem": "PEM"}


def test_the_pod_has_no_rights(objects: dict[str, Any]) -> None:
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    container = pod["containers"][0]
    assert pod["automountServiceAccountToken"] is False and pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] == 1034
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True and security["capabilities"] == {"drop": ["ALL"]}
    assert security["allowPrivilegeEscalation"] is False and set(container["resources"]["limits"]) == {"cpu", "memory"}
    assert objects["NetworkPolicy"]["spec"].get("egress", []) == []


def test_selectors_ports_and_targets_fit(objects: dict[str, Any]) -> None:
    template = objects["Deployment"]["spec"]["template"]
    ports = {port["name"]: port["containerPort"] for port in template["spec"]["containers"][0]["ports"]}
    assert ports == {"http": 3000, "grpc": 3001}
    labels = template["metadata"]["labels"].items()
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec = objects[kind]["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        assert selector.get("matchLabels", selector).items() <= labels, kind
    assert {port["targetPort"] for port in objects["Service"]["spec"]["ports"]} == set(ports)
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", objects["Deployment"]["metadata"]["name"])


def test_the_monitor_finds_the_service(objects: dict[str, Any]) -> None:
    spec = objects["ServiceMonitor"]["spec"]
    assert set(spec) == {"selector", "endpoints"} and objects["ServiceMonitor"]["apiVersion"].startswith("monitoring.")
    assert spec["selector"]["matchLabels"].items() <= objects["Service"]["metadata"]["labels"].items()
    (endpoint,) = spec["endpoints"]
    assert endpoint["port"] in {port["name"] for port in objects["Service"]["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"] == {"name": "tiny-one-scrape", "key": "token"}


def test_compose_runs_the_local_image_without_rights(folder: Path) -> None:
    service = yaml.safe_load((folder / "compose.yaml").read_text())["services"]["serve"]
    assert service["image"] == "localhost/roadworthy/tiny:v3" and service["read_only"] is True
    assert service["cap_drop"] == ["ALL"] and all(port.startswith("127.0.0.1:") for port in service["ports"])


@pytest.mark.parametrize(("product", "image"), [("tiny", "tiny:latest"), ("tiny!", IMAGE), ("x" * 60, IMAGE)])
def test_what_kubernetes_would_not_take_is_refused(product: str, image: str, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="expected"):
        write_manifests(tmp_path, product, 1, image, "b" * 64, {}, "x")
    assert not list(tmp_path.iterdir())
