"""The OCI image of a registered version: its signed Bento, labels, a bill of materials."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows import console
from flows.live import live_model
from flows.package import package_version, published_trust, registration
from flows.workshop import Workshop
from infra.atomic import write_atomic
from infra.base_image import DEFAULT, base_image, debian_packages
from infra.containers import Engine
from infra.manifests import write_manifests
from infra.refs import ModelRef, Ref
from infra.sbom import ModelFacts, bill
from models import catalog
from models.artifact.manifest import CARD_FILE, Manifest, read_and_verify
from models.artifact.tensors import Spec, input_specs, output_specs
from services.bento import RELEASE_FILE, SERVED, pinned
from services.image import DEPLOY, SOURCE_EPOCH, Kit, build_image
from services.schemas import Release

RECIPE = "roadworthy.recipe"
BUILT_WITH = ("Containerfile", "healthcheck.py", "thin_out.py")


class ImageRef(Ref):
    """A built image of one model version; `digest` is that of its manifest in the engine's store."""

    product: str
    version: int
    digest: str
    tag: str
    engine: str
    size_bytes: int


def package_image(shop: Workshop, product: str, base: str = DEFAULT) -> ImageRef:
    """The image of the live version, on the image `base`. Raises UsageError, ParcelError, BentoError, EngineError."""
    return package_version_image(shop, live_model(shop, product), base)


def package_version_image(shop: Workshop, version: ModelRef, base: str = DEFAULT) -> ImageRef:
    """The image of a registered version, found again when it is of this Bento; records it and its bill in the store.

    Raises UsageError, ParcelError, BentoError, EngineError.
    """
    bento = package_version(shop, version)
    folder, engine, cache = Path(bento.path), Engine.find(shop.home), shop.home / "cache" / "images"
    kit = Kit(engine, base_image(engine, base, cache, console.say), cache)
    image = f"localhost/roadworthy/{version.product.lower()}:v{version.version}-{version.digest[:12]}"
    recipe = _recipe(folder, engine, kit.base)
    if not engine.exists(image) or engine.inspect(image, "image")["Config"]["Labels"].get(RECIPE) != recipe:
        console.say(f"building {image} (about a minute the first time, then seconds)")
        bill = _bill(shop, version, folder, kit)
        build_image(kit, bento.tag, folder, image, _labels(shop, version, folder, recipe, kit), bill)
        _publish(shop, version, bill)
    record = engine.inspect(image, "image")
    return ImageRef(
        product=version.product, version=version.version, digest=record.get("Digest") or record["Id"], tag=image,
        engine=engine.name, size_bytes=record["Size"],
    )  # fmt: skip


def write_live_manifests(shop: Workshop, product: str, out: Path, image: str = "") -> list[Path]:
    """Manifests and a compose file for the image of what is live, built if need be; the files, sorted.

    image: `repository@sha256:…` in a registry; default: the local one. Raises what package_image does, ManifestError.
    """
    live = live_model(shop, product)
    built = package_version_image(shop, live)
    trust = {path.name: path.read_bytes() for path in published_trust(shop).glob("*.pem")}
    local = f"{built.tag.partition(':')[0]}@{built.digest}"
    return write_manifests(out, product, live.version, image or local, live.digest, trust, built.tag)


def _recipe(bento: Path, engine: Engine, base: str) -> str:
    """Digest of all that goes into the image: the Bento's files, the packages, the base image, how it is built."""
    whole = hashlib.sha256(json.dumps([pinned(SERVED), str(engine.inspect(base, "image")["Id"])]).encode())
    files = [path for path in (bento / "src").rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    for path in [*sorted(files), *(DEPLOY / name for name in BUILT_WITH)]:
        whole.update(f"{path.relative_to(path.parents[1])}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()[:32]


def _labels(shop: Workshop, version: ModelRef, bento: Path, recipe: str, kit: Kit) -> Mapping[str, str]:
    """What the image says of itself to those who inspect it from outside."""
    release = _release(bento)
    manifest = read_and_verify(bento / "src" / "parcel")
    opencontainers = {
        "title": f"Roadworthy: {version.product}",
        "description": f"{manifest.task} by {manifest.family} ({manifest.variant}); HTTP 3000, gRPC 3001",
        "version": str(version.version),
        "revision": release.code_commit,
        "created": registration(shop, version).time,
        "base.name": kit.base,
        "base.digest": str(kit.engine.inspect(kit.base, "image").get("Digest", "")),
    }
    ours = {name.replace("_", "-"): value for name, value in release.labels().items()}
    return {
        **{f"org.opencontainers.image.{name}": value for name, value in opencontainers.items()},
        **{f"roadworthy.{name}": value for name, value in ours.items()},
        RECIPE: recipe,
    }


def _release(bento: Path) -> Release:
    return Release.model_validate_json((bento / "src" / RELEASE_FILE).read_bytes())


def _bill(shop: Workshop, version: ModelRef, bento: Path, kit: Kit) -> bytes:
    parcel = bento / "src" / "parcel"
    tags = shop.registry.version_tags(version)
    metrics = {name.removeprefix("metric."): value for name, value in tags.items() if name.startswith("metric.")}
    card = (parcel / CARD_FILE).read_text(encoding="utf-8")
    facts = model_facts(read_and_verify(parcel), _release(bento), metrics, card)
    python = dict(pin.split("==") for pin in pinned(SERVED))
    return bill(facts, python, debian_packages(kit.engine, kit.base), SOURCE_EPOCH)


def model_facts(manifest: Manifest, release: Release, metrics: Mapping[str, str], card: str) -> ModelFacts:
    """What the bill of materials says of a model."""
    data = next((line.removeprefix("- data: ") for line in card.splitlines() if line.startswith("- data: ")), "")
    return ModelFacts(
        name=release.product,
        version=str(release.version),
        digest=release.parcel_digest,
        task=manifest.task,
        family=catalog.TASKS[manifest.task][0],
        architecture=f"{manifest.family} ({manifest.variant}), {manifest.num_parameters} parameters",
        data_set=data or manifest.data_digest,
        inputs=_described(input_specs(manifest)),
        outputs=_described(output_specs(manifest)),
        description=card.partition("\n")[0].lstrip("# "),
        metrics=metrics,
        uses=(f"requests that keep the contract of parcel {release.parcel_digest[:12]}: {manifest.task}",),
        limits=("only for the sensors, classes and ranges that the parcel's manifest names", "refuses what breaks it"),
        facts={name: value for name, value in release.labels().items() if value},
    )  # fmt: skip


def _described(specs: Sequence[Spec]) -> str:
    """`x FP32 [B, 12, 30, 3], …`."""
    return ", ".join(f"{one.name} {one.datatype} [{', '.join(map(str, ('B', *one.shape[1:])))}]" for one in specs)


def _publish(shop: Workshop, version: ModelRef, bill: bytes) -> None:
    """The bill beside the image, here and in the object store."""
    name = f"images/{version.product}/v{version.version}-{version.digest[:12]}.cdx.json"
    write_atomic(shop.home / name, bill)
    shop.store.put_bytes(name, bill)
