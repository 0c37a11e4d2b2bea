"""Immutable, content-hashed data: Parquet files beside a manifest, verified when read.

The digest is over the arrays and what was done to them, not over Parquet's bytes: another version of the writer
changes nothing.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from pydantic import Field
from safetensors.numpy import load_file, save_file

from models.data.batches import ImageSamples, Samples, thin_out
from models.data.card import Contract, Frozen, RoadNetwork, TensorSpec
from models.data.examples import Examples, ExampleSamples
from models.data.findings import Finding
from models.data.scaling import Scaler
from models.data.series import NODE, TIME, Images, Series
from models.data.shape import ForecastShape, ImageShape, TensorShape
from models.data.split import Splits
from models.data.windows import Windows, windows

MANIFEST, SERIES, IMAGES = "manifest.json", "series.parquet", "images.parquet"
ADJACENCY, EXTRA = "adjacency.parquet", "extra.parquet"
EXAMPLES = "examples.safetensors"

Content = Series | Images | Examples


class SnapshotError(ValueError):
    """A snapshot that is not what its manifest says."""


class Manifest(Frozen):
    """What a snapshot is and how it was made. Splits are half-open ranges of steps, or of images as they lie."""

    name: str
    task: str
    title: str
    source: str
    licence: str
    span: str
    contract: Contract
    past_steps: int
    horizon_steps: int
    train_share: float
    val_share: float
    gap_steps: int
    labelled_share: float
    splits: Splits
    num_rows: int
    missing_share: float
    findings: tuple[Finding, ...]
    nodes: tuple[str, ...] = ()
    node_class: dict[str, str] = Field(default_factory=dict)
    channels: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    cadence_min: float | None = None
    slots_per_day: int | None = None
    scaler: Scaler | None = None
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None
    inputs: tuple[TensorSpec, ...] = ()
    target: TensorSpec | None = None
    network: RoadNetwork | None = None
    files: tuple[str, ...] = ()
    content: str = ""
    digest: str = ""
    raw_fingerprint: str = ""

    def sealed(self, content: str, files: Iterable[str]) -> "Manifest":
        """With the hash of its content and the digest over everything but the raw files' fingerprint."""
        draft = self.model_copy(update={"content": content, "files": tuple(files)})
        tree = _as_ever(draft.model_dump(mode="json", exclude={"digest", "raw_fingerprint"}))
        canonical = json.dumps(tree, sort_keys=True)
        return draft.model_copy(update={"digest": hashlib.sha256(canonical.encode()).hexdigest()})


def _as_ever(tree: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that tensor tasks brought, where they say nothing: older snapshots keep their digest."""
    later: dict[str, Any] = {"inputs": ([], {}), "target": (None,), "network": (None,), "min_samples": (50,)}
    for part in (tree, tree["contract"], tree["scaler"] or {}):
        for name, empty in later.items():
            if name in part and part[name] in empty:
                del part[name]
    return tree


@dataclass(frozen=True)
class Snapshot:
    """A snapshot read back.

    `series` for forecast, `images` for classify, `examples` for the others; `extra` holds masked personal columns.
    """

    manifest: Manifest
    content: Content
    extra: pl.DataFrame | None = None

    @property
    def series(self) -> Series:
        if not isinstance(self.content, Series):
            raise TypeError(f"snapshot of '{self.manifest.name}' holds no series")
        return self.content

    @property
    def images(self) -> Images:
        if not isinstance(self.content, Images):
            raise TypeError(f"snapshot of '{self.manifest.name}' holds no images")
        return self.content

    @property
    def examples(self) -> Examples:
        if not isinstance(self.content, Examples):
            raise TypeError(f"snapshot of '{self.manifest.name}' holds no samples of a tensor task")
        return self.content

    @property
    def shape(self) -> ForecastShape | ImageShape | TensorShape:
        """The sizes that a network is built from."""
        if isinstance(self.content, Images):
            num_colours, height, width = self.content.pixels.shape[1:]
            return ImageShape(num_colours, height, width, len(self.content.classes))
        if isinstance(self.content, Examples):
            return TensorShape(self.content.specs, self.content.target_spec)
        num_nodes, num_channels = self.content.values.shape[1:]
        steps = self.manifest.past_steps, self.manifest.horizon_steps
        return ForecastShape(*steps, num_nodes, num_channels, self.content.slots_per_day, self.content.adjacency)

    def windows(self, split: str, limit: int | None = None) -> Windows:
        """The windows of a split; `limit` keeps that many, evenly spread."""
        plan = self.manifest
        return windows(self.series, plan.splits[split], plan.past_steps, plan.horizon_steps, limit)

    def samples(self, split: str, limit: int | None = None) -> Samples:
        """The windows, images or other samples of "train", "val" or "test"."""
        if isinstance(self.content, Series):
            return self.windows(split, limit)
        rows = thin_out(np.arange(*self.manifest.splits[split]), limit)
        if isinstance(self.content, Examples):
            return ExampleSamples(self.content, rows)
        return ImageSamples(self.content, rows)


def content_hash(content: Content, extra: pl.DataFrame | None) -> str:
    """SHA-256 over the canonical bytes of the arrays (little-endian, one kind of NaN) and of the extra columns."""
    if isinstance(content, Series):
        names = [content.nodes, content.channels, content.units, content.cadence_min]
        arrays: list[NDArray[Any] | None] = [
            content.time.astype("<M8[us]").view("<i8"), content.values, content.adjacency
        ]  # fmt: skip
    elif isinstance(content, Examples):
        tensors = _tensors(content)
        names, arrays = [list(tensors)], list(tensors.values())
    else:
        names, arrays = [content.classes], [content.pixels, content.labels]
    digest = hashlib.sha256(json.dumps(names).encode())
    for array in arrays:
        if array is None:
            digest.update(b"none")
            continue
        if array.dtype.kind == "f":
            array = np.where(np.isnan(array), np.float32("nan"), array)
        digest.update(str((array.shape, array.dtype.kind)).encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    digest.update(extra.write_csv().encode() if extra is not None else b"none")
    return digest.hexdigest()


def write_snapshot(folder: Path, manifest: Manifest, content: Content, extra: pl.DataFrame | None = None) -> Manifest:
    """Write Parquet (zstd) or safetensors, the manifest last; returns it sealed with the digest."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Examples):
        save_file(_tensors(content), folder / EXAMPLES)
        manifest = manifest.sealed(content_hash(content, None), [EXAMPLES])
        (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
        return manifest
    frames = {SERIES: _series_frame(content)} if isinstance(content, Series) else {IMAGES: _image_frame(content)}
    if isinstance(content, Series) and content.adjacency is not None:
        frames[ADJACENCY] = pl.DataFrame(content.adjacency, schema=list(content.nodes), orient="row")
    if extra is not None:
        frames[EXTRA] = extra
    for name, frame in frames.items():
        frame.write_parquet(folder / name, compression="zstd")
    manifest = manifest.sealed(content_hash(content, extra), sorted(frames))
    (folder / MANIFEST).write_text(manifest.model_dump_json(indent=2))
    return manifest


def read_snapshot(folder: Path) -> Snapshot:
    """Read and verify; raises SnapshotError when the content or the manifest is not what was written."""
    if not (folder / MANIFEST).is_file():
        raise SnapshotError(f"no snapshot in {folder}: {MANIFEST} is missing")
    manifest = Manifest.model_validate_json((folder / MANIFEST).read_text())
    missing = [name for name in manifest.files if not (folder / name).is_file()]
    if missing:
        raise SnapshotError(f"snapshot {manifest.digest[:12]} of '{manifest.name}' lacks {', '.join(missing)}")
    content = _read(folder, manifest)
    extra = pl.read_parquet(folder / EXTRA) if EXTRA in manifest.files else None
    found = manifest.sealed(content_hash(content, extra), manifest.files)
    if found.content != manifest.content or found.digest != manifest.digest:
        raise SnapshotError(f"snapshot of '{manifest.name}': expected {manifest.digest[:12]}, got {found.digest[:12]}")
    return Snapshot(manifest, content, extra)


def _read(folder: Path, manifest: Manifest) -> Content:
    if manifest.task == "forecast":
        return _read_series(folder, manifest)
    return _read_images(folder, manifest) if manifest.task == "classify" else _read_examples(folder, manifest)


def _tensors(examples: Examples) -> dict[str, NDArray[Any]]:
    """Every array by a name that says what it is, sorted."""
    named = {f"input/{name}": array for name, array in examples.inputs.items()}
    named |= {f"fact/{name}": np.ascontiguousarray(array) for name, array in examples.facts.items()}
    return dict(sorted({**named, "target": examples.target, "groups": examples.groups}.items()))


def _read_examples(folder: Path, manifest: Manifest) -> Examples:
    tensors = load_file(folder / EXAMPLES)
    if manifest.target is None or len(tensors["target"]) != manifest.num_rows:
        raise SnapshotError(f"snapshot of '{manifest.name}': {EXAMPLES} does not have the manifest's samples")
    named = {kind: {key.partition("/")[2]: value for key, value in tensors.items() if key.startswith(f"{kind}/")}
             for kind in ("input", "fact")}  # fmt: skip
    return Examples(
        named["input"], tensors["target"], tensors["groups"], named["fact"], manifest.inputs, manifest.target,
        manifest.network, manifest.findings,
    )  # fmt: skip


def _series_frame(series: Series) -> pl.DataFrame:
    num_steps, num_nodes, num_channels = series.values.shape
    flat = series.values.reshape(-1, num_channels)
    node = pl.Series(NODE, np.tile(np.arange(num_nodes), num_steps)).cast(pl.Int32)
    columns = {name: pl.Series(flat[:, i], nan_to_null=True) for i, name in enumerate(series.channels)}
    names = pl.Series(series.nodes, dtype=pl.String)
    return pl.DataFrame({TIME: np.repeat(series.time, num_nodes), NODE: names.gather(node), **columns})


def _read_series(folder: Path, manifest: Manifest) -> Series:
    frame = pl.read_parquet(folder / SERIES)
    shape = (manifest.num_rows, len(manifest.nodes), len(manifest.channels))
    if frame.height != shape[0] * shape[1] or frame.columns != [TIME, NODE, *manifest.channels]:
        raise SnapshotError(f"snapshot of '{manifest.name}': {SERIES} does not have the manifest's rows and columns")
    columns = [frame[name].fill_null(float("nan")).to_numpy() for name in manifest.channels]
    values = np.stack(columns, axis=-1).astype(np.float32).reshape(shape)
    adjacency: NDArray[np.float32] | None = None
    if ADJACENCY in manifest.files:
        adjacency = pl.read_parquet(folder / ADJACENCY).to_numpy().astype(np.float32)
    time = frame[TIME].to_numpy()[:: shape[1]]
    cadence_min = manifest.cadence_min or 0.0
    return Series(
        time, values, manifest.nodes, manifest.channels, manifest.units, cadence_min, adjacency, manifest.findings
    )


def _image_frame(images: Images) -> pl.DataFrame:
    return pl.DataFrame({"pixels": [image.tobytes() for image in images.pixels], "label": images.labels})


def _read_images(folder: Path, manifest: Manifest) -> Images:
    frame = pl.read_parquet(folder / IMAGES)
    pixels = np.frombuffer(b"".join(frame["pixels"]), np.uint8)
    shape = (manifest.num_rows, *(manifest.image_shape or ()))
    if pixels.size != np.prod(shape) or frame.height != manifest.num_rows:
        raise SnapshotError(f"snapshot of '{manifest.name}': {IMAGES} does not have the manifest's images")
    return Images(pixels.reshape(shape), frame["label"].to_numpy(), manifest.classes, manifest.findings)
