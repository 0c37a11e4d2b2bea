"""Writes what Kubernetes and compose need to run an image: our templates, filled in.

One folder that `kubectl apply -k` takes: Deployment, Service, autoscaler, disruption budget, network policy, monitor.
The image is named by its digest, the keys to believe are a ConfigMap, API keys a Secret that nobody writes here.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from string import Template

from infra.atomic import write_atomic

TEMPLATES = Path(__file__).parent / "deploy" / "serve"  # not .yaml: as they lie there they are no manifests
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,51}[a-z0-9])?")
IMAGE = re.compile(r"(?P<repository>[\w.:/-]+)@(?P<digest>sha256:[0-9a-f]{64})")


class ManifestError(ValueError):
    """A name that Kubernetes does not take, or an image without a digest."""


def write_manifests(
    folder: Path, product: str, version: int, image: str, parcel_digest: str, trust: Mapping[str, bytes],
    local_image: str,
) -> list[Path]:  # fmt: skip
    """Fill in every template; returns the files, sorted.

    image: `repository@sha256:…`, as the cluster pulls it; local_image: name:tag for compose;
    trust: public keys (PEM) by file name. Raises ManifestError.
    """
    match = IMAGE.fullmatch(image)
    if match is None:
        raise ManifestError(
            f"image {image}: expected REPOSITORY@sha256:DIGEST, so that it cannot change under its name"
        )
    values = {
        "name": dns_name(product), "version": str(version), "parcel_digest": parcel_digest, "image": local_image,
        "trust": "\n".join(f"      - trust/{name}" for name in sorted(trust)), **match.groupdict(),
    }  # fmt: skip
    templates = [TEMPLATES / "compose.yaml.template", *(TEMPLATES / "kubernetes").glob("*.template")]
    files = {path.stem: _filled(path, values) for path in templates}
    files |= {f"trust/{name}": key for name, key in trust.items()}
    return sorted(write_atomic(folder / name, content) for name, content in files.items())


def dns_name(product: str) -> str:
    """The product as the name of objects in Kubernetes; raises ManifestError where there is none."""
    name = product.lower().replace("_", "-")
    if not DNS_LABEL.fullmatch(name):
        raise ManifestError(f"product '{product}': expected letters, digits, - and _, at most 53, got '{name}'")
    return name


def _filled(template: Path, values: Mapping[str, str]) -> bytes:
    return Template(template.read_text(encoding="utf-8")).substitute(values).encode()
