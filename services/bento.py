"""Turns a parcel into a Bento.

In it are exactly the files that serve it, the packages it was tested with, and where it comes from.

Not part of the Bento itself. The Bento holds the parcel, `release.json`, the service of its task and every module of
ours that this service imports, found by reading the imports: nothing that trains, tracks or schedules gets in.
"""

import ast
import filecmp
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.settings import TELEMETRY_OFF
from models.artifact.manifest import CARD_FILE, read_and_verify
from services.schemas import Release

SOURCES = Path(__file__).resolve().parents[1]
PACKAGES = ("services", "models")
BASE_IMAGE = "python:3.11-slim"
# What the served modules import, and what makes uvicorn fast.
REQUIREMENTS = (
    "bentoml", "httptools", "msgspec", "numpy", "onnxruntime", "prometheus-client", "pydantic", "uvicorn", "uvloop",
)  # fmt: skip
DRAIN_S = 10


class BentoError(RuntimeError):
    """The parcel and the release do not belong together, or a module that must not be served would be."""


def build(
    parcel: Path, release: Release, bentoml_home: Path, sources: Path = SOURCES, base_image: str = BASE_IMAGE
) -> tuple[str, Path]:
    """Tag and folder of the Bento of this release; built once, found again when it is whole.

    Changes the working directory while it builds (BentoML does): one build at a time in a process.
    Raises BentoError, and ParcelError when the parcel is not as its manifest says.
    """
    manifest = read_and_verify(parcel)
    if manifest.digest() != release.parcel_digest:
        raise BentoError(f"release {release.product}/{release.version} is of another parcel: {release.parcel_digest}")
    version = f"v{release.version}-{release.parcel_digest[:12]}"
    folder = bentoml_home / "bentos" / release.product.lower() / version
    with tempfile.TemporaryDirectory(prefix="staging-", dir=_made(bentoml_home / "tmp")) as staging:
        stage(parcel, release, sources, f"services.{manifest.task}", Path(staging))
        if not _is_whole(folder, Path(staging)):
            shutil.rmtree(folder, ignore_errors=True)
            _pack(Path(staging), manifest.task, release, version, bentoml_home, base_image)
    return f"{release.product.lower()}:{version}", folder


def _pack(staging: Path, task: str, release: Release, version: str, bentoml_home: Path, base_image: str) -> None:
    """Let BentoML make the Bento of a staged folder."""
    import bentoml  # takes a second, and what only serves or finds a Bento does without
    from bentoml._internal.bento import BentoStore
    from bentoml._internal.configuration.containers import BentoMLContainer

    # BentoML reads its home from the environment once; this build's is an argument.
    BentoMLContainer.bentoml_home.set(str(bentoml_home))
    BentoMLContainer.tmp_bento_store_dir.set(str(_made(bentoml_home / "tmp")))
    service = getattr(import_module(f"services.{task}"), task.capitalize())
    # distro="" keeps a compiler toolchain out of the image; the requirements are exact, so nothing is locked again.
    service.image = bentoml.images.Image(
        base_image=base_image, python_version="3.11", distro="", lock_python_packages=False
    ).python_packages(*pinned(REQUIREMENTS))
    bentoml.build(
        f"services.{task}:{task.capitalize()}",
        name=release.product.lower(),
        version=version,
        labels=release.labels(),
        description=(staging / "parcel" / CARD_FILE).read_text(encoding="utf-8"),
        include=["*"],
        build_ctx=str(staging),
        _bento_store=BentoStore(str(_made(bentoml_home / "bentos"))),
    )


def stage(parcel: Path, release: Release, sources: Path, module: str, folder: Path) -> None:
    """Put everything that the Bento holds into `folder`."""
    shutil.copytree(parcel, folder / "parcel")
    (folder / "release.json").write_text(release.model_dump_json(indent=2) + "\n", encoding="utf-8")
    for path in imported_files(sources, module):
        target = folder / path.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def imported_files(sources: Path, module: str) -> list[Path]:
    """The files of PACKAGES that importing `module` can reach, read from the source; sorted."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _module_file(sources, name)
        if name in found or path is None:
            continue
        found[name] = path
        waiting += [name.rpartition(".")[0], *_imports(path)]
    return sorted(found.values())


def pinned(names: Iterable[str]) -> list[str]:
    """`name==version` of these packages and all that they require, as installed here; sorted."""
    pins: dict[str, str] = {}
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in pins:
            continue
        distribution = metadata.distribution(name)
        pins[name] = f"{name}=={distribution.version.partition('+')[0]}"
        required = map(Requirement, distribution.requires or [])
        waiting += [each.name for each in required if each.marker is None or each.marker.evaluate({"extra": ""})]
    return sorted(pins.values())


def serve_command(bento: Path, host: str = "127.0.0.1", port: int = 3000) -> list[str]:
    """The command that serves a built Bento with one worker.

    SIGTERM to it drains (at most DRAIN_S) and ends the worker. Start it in a session of its own and signal the group to
    end both at once; after `kill -9` of the parent alone the worker follows within a second or two.
    """
    options = ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(DRAIN_S)]
    return [sys.executable, "-m", "bentoml", "serve", str(bento), *options]


def serve_environment(environment: Mapping[str, str], bentoml_home: Path) -> dict[str, str]:
    """The environment for `serve_command` on top of the caller's: one ONNX thread, no telemetry, state under HOME."""
    return {
        **environment,
        **TELEMETRY_OFF,
        "BENTOML_HOME": str(bentoml_home),
        "OMP_NUM_THREADS": "1",  # more threads make single rows wait for each other
        "PYTHONUNBUFFERED": "1",
    }


def _is_whole(folder: Path, staged: Path) -> bool:
    """Whether a built Bento is there to its last file and holds, byte for byte, what is staged."""
    files = [path for path in staged.rglob("*") if path.is_file()]
    pairs = ((path, folder / "src" / path.relative_to(staged)) for path in files)
    return (folder / "bento.yaml").exists() and all(
        built.is_file() and filecmp.cmp(path, built, shallow=False) for path, built in pairs
    )


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _module_file(sources: Path, name: str) -> Path | None:
    """The file of a module of ours, None for others' and for names that are not modules."""
    if name.partition(".")[0] not in PACKAGES:
        return None
    path = sources.joinpath(*name.split("."))
    return next((file for file in (path / "__init__.py", path.with_suffix(".py")) if file.exists()), None)


def _imports(path: Path) -> list[str]:
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return names
