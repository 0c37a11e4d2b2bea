"""Data that a user brought, kept as read and checked: Parquet or safetensors, and a card."""

from pathlib import Path

import numpy as np
import polars as pl
from safetensors.numpy import load_file, save_file

from models.data.card import DatasetCard, Frozen
from models.data.examples import RawExamples
from models.data.findings import Finding
from models.data.series import RawImages, RawSeries

CARD, TABLE, LINKS, IMAGES = "card.json", "table.parquet", "adjacency.parquet", "images.parquet"
EXAMPLES = "examples.safetensors"
Raw = RawSeries | RawImages | RawExamples


class _Stored(Frozen):
    """What a stored data set is besides its tables."""

    card: DatasetCard
    findings: tuple[Finding, ...]
    nodes: tuple[str, ...] = ()
    labels: tuple[str, str] | None = None
    classes: tuple[str, ...] = ()
    image_shape: tuple[int, int, int] | None = None


def store(folder: Path, raw: Raw, card: DatasetCard) -> tuple[Path, ...]:
    """Write into `folder`, the card last; returns the files."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(raw, RawExamples):
        named = {f"input/{name}": np.ascontiguousarray(array) for name, array in raw.inputs.items()}
        named |= {"target": raw.target} | ({} if raw.groups is None else {"groups": raw.groups})
        save_file(named, folder / EXAMPLES)
        (folder / CARD).write_text(_Stored(card=card, findings=raw.findings).model_dump_json(indent=2))
        return folder / EXAMPLES, folder / CARD
    if isinstance(raw, RawSeries):
        record = _Stored(card=card, findings=raw.findings, nodes=raw.nodes, labels=raw.labels)
        frames = {TABLE: raw.frame.with_columns(pl.selectors.enum().cast(pl.String))}
        if raw.adjacency is not None:
            frames[LINKS] = pl.DataFrame(
                raw.adjacency, schema=[str(i) for i in range(len(raw.adjacency))], orient="row"
            )
    else:
        record = _Stored(card=card, findings=raw.findings, classes=raw.classes, image_shape=raw.pixels.shape[1:])
        frames = {IMAGES: pl.DataFrame({"pixels": [image.tobytes() for image in raw.pixels], "label": raw.labels})}
    for name, frame in frames.items():
        frame.write_parquet(folder / name, compression="zstd")
    (folder / CARD).write_text(record.model_dump_json(indent=2))
    return tuple(folder / name for name in (*frames, CARD))


def load_card(folder: Path) -> DatasetCard:
    """The card alone; raises FileNotFoundError."""
    return _Stored.model_validate_json((folder / CARD).read_text()).card


def load(folder: Path) -> tuple[Raw, DatasetCard]:
    """What `store` wrote; raises FileNotFoundError."""
    record = _Stored.model_validate_json((folder / CARD).read_text())
    if (folder / EXAMPLES).is_file():
        tensors = load_file(folder / EXAMPLES)
        inputs = {name.partition("/")[2]: array for name, array in tensors.items() if name.startswith("input/")}
        return RawExamples(inputs, tensors["target"], tensors.get("groups"), findings=record.findings), record.card
    if record.image_shape is not None:
        frame = pl.read_parquet(folder / IMAGES)
        pixels = np.frombuffer(b"".join(frame["pixels"]), np.uint8).reshape(-1, *record.image_shape)
        return RawImages(pixels, frame["label"].to_numpy(), record.classes, record.findings), record.card
    links = pl.read_parquet(folder / LINKS).to_numpy().astype(np.float32) if (folder / LINKS).is_file() else None
    labels = record.labels or ("time", "node")
    return RawSeries(pl.read_parquet(folder / TABLE), record.nodes, links, labels, record.findings), record.card
