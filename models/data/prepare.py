"""From raw data to a snapshot: mask, check, split, scale, write. Raw data in, a folder out."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from models.data.card import DatasetCard
from models.data.contract import check_images, check_series
from models.data.examples import RawExamples, check_examples
from models.data.masking import mask
from models.data.scaling import fit_scaler, fit_tensor_scaler
from models.data.series import NODE, TIME, Images, RawImages, RawSeries, Series
from models.data.snapshot import Manifest, write_snapshot
from models.data.split import Plan, hide_labels, split_groups, split_images, split_steps

SPLIT_SEED = 7
LEVELS = ("low", "medium", "high")


def prepare(
    raw: RawSeries | RawImages | RawExamples,
    card: DatasetCard,
    plan: Plan,
    masking_key: bytes,
    folder: Path,
    fingerprint: str = "",
) -> Manifest:
    """Make the snapshot in `folder`; the same input and code give the same digest.

    `plan` is the recipe's data part, `fingerprint` that of the raw files.
    Raises BadDataError when the contract is broken or a split would be empty.
    """
    if isinstance(raw, RawSeries):
        return _prepare_series(raw, card, plan, masking_key, folder, fingerprint)
    if isinstance(raw, RawExamples):
        return _prepare_examples(raw, card, plan, folder, fingerprint)
    return _prepare_images(raw, card, plan, folder, fingerprint)


def raw_fingerprint(files: Iterable[Path]) -> str:
    """SHA-256 over the names and bytes of raw files: the key under which a snapshot already made is found again."""
    digest = hashlib.sha256()
    for path in sorted(files, key=lambda path: path.name):
        digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def node_levels(series: Series, train: tuple[int, int]) -> dict[str, str]:
    """Low, medium or high: terciles of the nodes by the target's mean over the train steps; never seen: unknown."""
    target = series.values[slice(*train), :, 0].astype(np.float64)
    count = (~np.isnan(target)).sum(axis=0)
    means = np.nansum(target, axis=0) / np.maximum(count, 1)
    seen = np.flatnonzero(count)
    rank = {int(node): place for place, node in enumerate(seen[np.argsort(means[seen], kind="stable")])}
    return {
        name: LEVELS[rank[i] * len(LEVELS) // len(seen)] if i in rank else "unknown"
        for i, name in enumerate(series.nodes)
    }


def _prepare_series(
    raw: RawSeries, card: DatasetCard, plan: Plan, masking_key: bytes, folder: Path, fingerprint: str
) -> Manifest:
    contract = card.contract
    frame = mask(raw.frame, contract.personal, masking_key)
    series = check_series(replace(raw, frame=frame), contract)
    splits = split_steps(len(series.time), plan)
    kept = [column.name for column in contract.personal if column.how != "drop" and column.name not in (TIME, NODE)]
    extra = frame.select(TIME, NODE, *kept).sort(TIME, NODE, *kept) if kept else None
    manifest = _manifest(
        card,
        plan,
        splits=splits,
        num_rows=len(series.time),
        missing_share=series.missing_share,
        findings=series.findings,
        nodes=series.nodes,
        node_class={n: card.node_class.get(n, "other") for n in series.nodes}
        if card.node_class
        else node_levels(series, splits["train"]),
        channels=series.channels,
        units=series.units,
        cadence_min=series.cadence_min,
        slots_per_day=series.slots_per_day,
        scaler=fit_scaler(series.values[slice(*splits["train"])]),
        raw_fingerprint=fingerprint,
    )
    return write_snapshot(folder, manifest, series, extra)


def _prepare_images(raw: RawImages, card: DatasetCard, plan: Plan, folder: Path, fingerprint: str) -> Manifest:
    images = check_images(raw, card.contract)
    order, splits = split_images(images.labels, plan, SPLIT_SEED, raw.num_test)
    labels = images.labels[order]
    start, stop = splits["train"]
    labels[start:stop] = hide_labels(labels[start:stop], plan.labelled_share, SPLIT_SEED)
    images = Images(images.pixels[order], labels, images.classes, images.findings)
    manifest = _manifest(
        card,
        plan,
        splits=splits,
        num_rows=len(labels),
        missing_share=0.0,
        findings=images.findings,
        classes=images.classes,
        image_shape=images.pixels.shape[1:],
        raw_fingerprint=fingerprint,
    )
    return write_snapshot(folder, manifest, images)


def _prepare_examples(raw: RawExamples, card: DatasetCard, plan: Plan, folder: Path, fingerprint: str) -> Manifest:
    examples = check_examples(raw, card.contract)
    order, splits = split_groups(examples.groups, plan, SPLIT_SEED if raw.groups is None else None)
    examples = examples.reordered(order)
    train = slice(*splits["train"])
    floats = {spec.name: examples.inputs[spec.name][train] for spec in examples.specs if spec.dtype == "float32"}
    manifest = _manifest(
        card,
        plan,
        splits=splits,
        num_rows=len(examples),
        missing_share=float(np.mean([np.isnan(array).mean() for array in examples.inputs.values()])),
        findings=examples.findings,
        scaler=fit_tensor_scaler(floats, examples.target[train]),
        inputs=examples.specs,
        target=examples.target_spec,
        network=examples.network,
        raw_fingerprint=fingerprint,
    )
    return write_snapshot(folder, manifest, examples)


def _manifest(card: DatasetCard, plan: Plan, **facts: object) -> Manifest:
    text = {name: getattr(card, name) for name in ("name", "task", "title", "source", "licence", "span", "contract")}
    steps = ("past_steps", "horizon_steps", "train_share", "val_share", "gap_steps", "labelled_share")
    return Manifest.model_validate({**text, **{name: getattr(plan, name) for name in steps}, **facts})
