"""Turns a Bento into an OCI image: BentoML installs the packages, a second, thin build leaves what serves.

`bentoml containerize` makes an image with BentoML, its installer and the parcel in one layer. Ours takes from it the
packages that the serving process imports, and puts the Bento's code, weights and provenance on top, a layer each.
"""

import compileall
import os
import py_compile
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from services.bento import SERVED, pinned
from services.runtime import RELEASE_FILE

DEPLOY = Path(__file__).resolve().parents[1] / "infra" / "deploy"
PROVENANCE = (RELEASE_FILE, "parcel.sig", "trust", "service.json", "service.sig")
SOURCE_EPOCH = 1_577_836_800  # 2020-01-01: one time for all files, so that equal content is an equal layer
SBOM_FILE = "usr/share/roadworthy/sbom.cdx.json"


def containerize_command(tag: str, image: str, backend: str, options: Mapping[str, str]) -> list[str]:
    """The command that lets BentoML make the image of a Bento; BENTOML_HOME must name the Bento's store."""
    given = [f"--opt={name}={value}" for name, value in options.items()]
    return [sys.executable, "-m", "bentoml", "containerize", tag, "--backend", backend, "-t", image, *given]


def stage_image(bento: Path, folder: Path, sbom: bytes) -> Path:
    """Put what the second build needs into `folder`, which is empty; the same for the same Bento."""
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
