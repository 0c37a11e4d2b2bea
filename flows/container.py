"""One container on this machine: what it may read and write of this home, and its start.

Its user is not ours and may read nothing under HOME. What it needs is handed over as copies in a folder of its own,
and that holds no private key.
"""

import os
import shutil
from pathlib import Path

from flows.access import keys_file
from flows.capture import spool_folder
from flows.image import ImageRef
from flows.package import published_trust
from flows.workshop import Workshop
from infra.atomic import write_atomic
from infra.containers import USER_ID, Engine, Limits, Mount, Port, Run, give_to_container
from infra.settings import ServiceSettings
from services.quotas import is_loopback

HTTP_PORT, GRPC_PORT = 3000, 3001
INSIDE = "/run/roadworthy"
HANDED_OVER = ("tls_cert", "tls_key", "seal_key_file")


def container_command(
    shop: Workshop, image: ImageRef, name: str, port: int, grpc_port: int | None = None, *, is_open: bool = False,
    limits: Limits | None = None, host: str = "127.0.0.1",
) -> list[str]:  # fmt: skip
    """The command that runs `image` in the foreground as container `name`; raises EngineError.

    port, grpc_port: on `host`; is_open: no keys are asked for, refused unless `host` is loopback
    """
    settings, engine = ServiceSettings(), Engine.find(shop.home)
    variables = _variables(settings, host, is_open=is_open)
    if is_loopback(host) and "proxies" not in settings.model_fields_set:
        variables["ROADWORTHY_SERVE_PROXIES"] = engine.gateway()  # only this machine's programs come from there
    grpc = [Port(GRPC_PORT, grpc_port, host)] if grpc_port else []
    run = Run(
        image.tag, name, ports=[Port(HTTP_PORT, port, host), *grpc], mounts=_mounts(shop, image.product),
        environment=variables, limits=limits or Limits(),
    )  # fmt: skip
    hand_over(shop, settings)
    return engine.run_command(run)


def publish_keys(shop: Workshop) -> Path:
    """Copy the hashes of the API keys to where containers read them; call after every change."""
    folder = give_to_container(access_folder(shop))
    source = keys_file(shop.home)
    if source.exists():
        _copy(source, folder / source.name)
    return folder


def access_folder(shop: Workshop) -> Path:
    """The folder that every container of this home may read."""
    return shop.home / "run" / "access"


def hand_over(shop: Workshop, settings: ServiceSettings) -> None:
    """Copies of the keys' hashes, and of the files that the settings name."""
    folder = publish_keys(shop)
    for name in HANDED_OVER:
        source: Path | None = getattr(settings, name)
        if source is not None:
            _copy(source, folder / name)


def _mounts(shop: Workshop, product: str) -> list[Mount]:
    return [
        Mount(give_to_container(access_folder(shop)), f"{INSIDE}/access"),
        Mount(published_trust(shop), f"{INSIDE}/trust"),
        Mount(give_to_container(shop.home / "audit" / product), f"{INSIDE}/audit", writable=True),
        Mount(give_to_container(spool_folder(shop, product)), f"{INSIDE}/spool", writable=True),
    ]


def _variables(settings: ServiceSettings, host: str, *, is_open: bool) -> dict[str, str]:
    """ROADWORTHY_SERVE_… inside the container: everything that is set here, with the paths as they are there."""
    given = settings.model_dump(mode="json", include=settings.model_fields_set, exclude_none=True)
    places = {
        "keys_file": f"{INSIDE}/access/api_keys.json",
        "trusted_keys": f"{INSIDE}/trust",
        "audit_file": f"{INSIDE}/audit/audit.jsonl",
        "capture_folder": f"{INSIDE}/spool",
        **{name: f"{INSIDE}/access/{name}" for name in HANDED_OVER if getattr(settings, name) is not None},
    }
    more = {"auth": "off"} if is_open else {}
    values = {**given, **places, **more, "published_on": host}
    values.pop("grpc_port", None)  # the image says on which port it listens
    return {f"ROADWORTHY_SERVE_{name.upper()}": str(value) for name, value in values.items()}


def _copy(source: Path, target: Path) -> None:
    """Replace `target` by what `source` holds, readable by the containers' user alone."""
    beside = target.with_name(f".{target.name}.new")
    write_atomic(beside, source.read_bytes(), mode=0o400)
    if os.geteuid() == 0:
        shutil.chown(beside, USER_ID, USER_ID)
    beside.replace(target)
