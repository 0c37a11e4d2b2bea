"""Turns a Bento into an OCI image: BentoML installs, a second build keeps what serves.

`bentoml containerize` makes an image with BentoML, its installer and the parcel in one layer. Ours takes from it the
packages that the serving process imports, and puts the Bento's code, weights and provenance on top, a layer each.
"""

import compileall
import os
import py_compile
import shutil
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from infra.build_tools import build_volumes
from infra.containers import Engine, finish
from infra.image_config import settle
from infra.settings import TELEMETRY_OFF
from services.bento import RELEASE_FILE, SERVED, pinned

DEPLOY = Path(__file__).resolve().parents[1] / "infra" / "deploy"
PROVENANCE = (RELEASE_FILE, "release.sig", "parcel.sig", "trust", "service.json", "service.sig")
SOURCE_EPOCH = 1_577_836_800  # 2020-01-01: one time for all files, so that equal content is an equal layer
SBOM_FILE = "usr/share/roadworthy/sbom.cdx.json"


@dataclass(frozen=True)
class Kit:
    """What an image is built with: the engine, the image it stands on, and a folder for what may be lost."""

    engine: Engine
    base: str
    cache: Path


def build_image(kit: Kit, tag: str, bento: Path, image: str, labels: Mapping[str, str], sbom: bytes) -> str:
    """Build `image` (name:tag) of a Bento in its store; returns the image's id.

    The same Bento, base image, labels and bill give the same id. Raises EngineError.
    """
    packages = f"localhost/roadworthy-bento/{tag}"
    finish(containerize_command(kit, tag, bento, packages), timeout_s=900)
    arguments = {"BASE_IMAGE": kit.base, "BENTO_IMAGE": packages}
    options = [f"--build-arg={name}={value}" for name, value in arguments.items()]
    options += [f"--label={name}={value}" for name, value in sorted(labels.items())]
    if kit.engine.name == "podman":
        options += ["--network=none", f"--timestamp={SOURCE_EPOCH}"]
    with tempfile.TemporaryDirectory(prefix="image-", dir=_made(kit.cache)) as folder:
        kit.engine.build(stage_image(bento, Path(folder) / "context", sbom), image, *options)
    return settle(kit.engine, image, kit.cache)


def containerize_command(kit: Kit, tag: str, bento: Path, image: str) -> list[str]:
    """The command that lets BentoML make the image of a Bento, with the installer handed in where that is possible."""
    options: dict[str, str] = {}
    prefix = ["/usr/bin/env", f"BENTOML_HOME={bento.parents[2]}"]
    prefix += [f"{name}={value}" for name, value in TELEMETRY_OFF.items()]
    if kit.engine.name == "podman":
        options = {"from": kit.base, "network": "host", "timestamp": str(SOURCE_EPOCH)}  # the Bento names another base
        prefix += [*kit.engine.prefix(build_volumes(kit.cache / "build"))[1:], "DOCKER_BUILDKIT=1"]
    given = [f"--opt={name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "bentoml", "containerize", tag, "--backend", kit.engine.name, "-t", image]
    return [*prefix, *command, *given]


def stage_image(bento: Path, folder: Path, sbom: bytes) -> Path:
    """Put what the second build needs into the new `folder`; the same for the same Bento."""
    code, weights, provenance = folder / "code", folder / "weights", folder / "provenance"
    shutil.copytree(bento / "src", code / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for release in sorted((code / "src").glob(f"models/*/*/{RELEASE_FILE}")):  # beside the code of that name
        _move(release.parent, weights / release.parent.relative_to(code / "src"))
    _move(code / "src" / "parcel", weights / "parcel")
    for name in PROVENANCE:
        if (code / "src" / name).exists():
            _move(code / "src" / name, provenance / "app" / "src" / name)
    (provenance / SBOM_FILE).parent.mkdir(parents=True)
    (provenance / SBOM_FILE).write_bytes(sbom)
    shutil.copy(DEPLOY / "healthcheck.py", code / "healthcheck.py")
    _compile(code)
    for name in ("Containerfile", "thin_out.py"):
        shutil.copy(DEPLOY / name, folder / name)
    (folder / "keep.txt").write_text("\n".join(pinned(SERVED)) + "\n", encoding="utf-8")
    for path in (*folder.rglob("*"), folder):
        path.chmod(0o755 if path.is_dir() else 0o644)
        os.utime(path, (SOURCE_EPOCH, SOURCE_EPOCH))
    return folder


def _compile(code: Path) -> None:
    """Bytecode that needs no times: the root is read-only, and without it every start would compile everything."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    compileall.compile_dir(code, stripdir=str(code), prependdir="/app", quiet=1, invalidation_mode=mode)


def _move(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(source, target)


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder
