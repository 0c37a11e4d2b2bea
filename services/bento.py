"""Turns a parcel into a Bento.

In it are exactly the files that serve it, the packages it was tested with, and where it comes from.

Not part of the Bento itself. The Bento holds the parcel and its signature, the keys to believe, `release.json`, and
every module of ours that the serving process imports, found by reading the imports: nothing that trains, tracks or
schedules gets in.
"""

import ast
import filecmp
import shutil
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module, metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.settings import TELEMETRY_OFF
from models.artifact.manifest import CARD_FILE, Manifest, read_and_verify
from services.schemas import Release

SOURCES = Path(__file__).resolve().parents[1]
PACKAGES = ("services", "models", "infra")
PROCESS = "services.main"
RELEASE_FILE = "release.json"
DATA_FILES = ("*.html", "*.css", "*.js", "*.proto")
BASE_IMAGE = "docker.io/library/python:3.11-slim"
# What the serving process imports, and what makes uvicorn fast. An image holds these and what they require.
SERVED = (
    "argon2-cffi", "cramjam", "cryptography", "filelock", "grpcio", "grpcio-health-checking", "grpcio-reflection",
    "httptools", "msgspec", "networkx", "numpy", "onnxruntime", "orjson", "pillow", "prometheus-client", "protobuf",
    "pydantic", "pydantic-settings", "pyjwt", "uvicorn", "uvloop",
)  # fmt: skip
REQUIREMENTS = ("bentoml", *SERVED)  # `bentoml serve` needs the first as well
DRAIN_S = 10


class BentoError(RuntimeError):
    """The parcel and the release do not belong together, or a module that must not be served would be."""


@dataclass(frozen=True)
class Model:
    """One model to serve: its parcel, which release of which product it is, and the signatures over both."""

    parcel: Path
    release: Release
    signature: bytes = b""
    release_signature: bytes = b""


@dataclass(frozen=True)
class Beside:
    """What a Bento holds beside its default model.

    trust: public keys (PEM) by name; models: further models and versions; plan, plan_signature: service.json and the
    signature over it
    """

    trust: Mapping[str, bytes] = field(default_factory=dict)
    models: tuple[Model, ...] = ()
    plan: bytes = b""
    plan_signature: bytes = b""


def build(
    model: Model,
    bentoml_home: Path,
    beside: Beside | None = None,
    sources: Path = SOURCES,
    base_image: str = BASE_IMAGE,
) -> tuple[str, Path]:
    """Tag and folder of the Bento of this release; built once, found again when it is whole.

    Changes the working directory while it builds (BentoML does): one build at a time in a process.
    Raises BentoError, and ParcelError when a parcel is not as its manifest says.
    """
    manifest, release = _checked(model), model.release
    version = f"v{release.version}-{release.parcel_digest[:12]}"
    folder = bentoml_home / "bentos" / release.product.lower() / version
    with tempfile.TemporaryDirectory(prefix="staging-", dir=_made(bentoml_home / "tmp")) as staging:
        stage(model, beside or Beside(), sources, f"services.{manifest.task}", Path(staging))
        if not _is_whole(folder, Path(staging)):
            shutil.rmtree(folder, ignore_errors=True)
            _pack(Path(staging), manifest.task, release, version, bentoml_home, base_image)
    return f"{release.product.lower()}:{version}", folder


def _checked(model: Model) -> Manifest:
    manifest = read_and_verify(model.parcel)
    release = model.release
    if manifest.digest() != release.parcel_digest:
        raise BentoError(f"release {release.product}/{release.version} is of another parcel: {release.parcel_digest}")
    return manifest


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


def stage(model: Model, beside: Beside, sources: Path, module: str, folder: Path) -> None:
    """Put everything that the Bento holds into `folder`: what PROCESS and `module` import, and the models."""
    _stage_model(model, folder)
    for further in beside.models:
        _checked(further)
        _stage_model(further, folder / "models" / further.release.product / str(further.release.version))
    for name, key in sorted(beside.trust.items()):
        _written(folder / "trust" / f"{name}.pem", key)
    for name, content in (("service.json", beside.plan), ("service.sig", beside.plan_signature)):
        if content:
            _written(folder / name, content)
    for path in served_files(sources, PROCESS, module):
        target = folder / path.relative_to(sources)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)


def _stage_model(model: Model, folder: Path) -> None:
    shutil.copytree(model.parcel, folder / "parcel")
    _written(folder / RELEASE_FILE, release_bytes(model.release))
    for name, content in (("parcel.sig", model.signature), ("release.sig", model.release_signature)):
        if content:
            _written(folder / name, content)


def release_bytes(release: Release) -> bytes:
    """What `release.json` holds, and its signature is over."""
    return release.model_dump_json(indent=2).encode() + b"\n"


def _written(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def served_files(sources: Path, *modules: str) -> list[Path]:
    """The files of PACKAGES that importing these modules can reach, and the DATA_FILES beside them; sorted."""
    code = set(imported_files(sources, *modules))
    data = {file for folder in {path.parent for path in code} for kind in DATA_FILES for file in folder.glob(kind)}
    return sorted(code | data)


def imported_files(sources: Path, *modules: str) -> list[Path]:
    """The files of PACKAGES that importing these modules can reach, read from the source; sorted."""
    found: dict[str, Path] = {}
    waiting = list(modules)
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


def serve_command(bento: Path, host: str = "127.0.0.1", port: int = 3000, grpc_port: int | None = None) -> list[str]:
    """The command that serves a built Bento, one process; with `serve_environment` it runs the Bento's own code.

    SIGTERM to it drains (at most DRAIN_S) and ends it.
    """
    options = ["--folder", str(bento / "src"), "--host", host, "--port", str(port)]
    grpc = [] if grpc_port is None else ["--grpc-port", str(grpc_port)]
    return [sys.executable, "-P", "-m", PROCESS, *options, *grpc]  # -P: not the code of the current folder


def bentoml_command(bento: Path, host: str = "127.0.0.1", port: int = 3000) -> list[str]:
    """The same service through `bentoml serve`, one worker: for those who run Bentos with BentoML's own tools."""
    options = ["--host", host, "--port", str(port), "--timeout-graceful-shutdown", str(DRAIN_S)]
    return [sys.executable, "-m", "bentoml", "serve", str(bento), *options]


def serve_environment(environment: Mapping[str, str], bento: Path, bentoml_home: Path) -> dict[str, str]:
    """The environment for both commands on top of the caller's: the Bento's code first, one ONNX thread, no telemetry.

    More threads than one make single rows wait for each other.
    """
    return {
        **environment,
        **TELEMETRY_OFF,
        "BENTOML_HOME": str(bentoml_home),
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(bento / "src"),
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
