"""What is usual of a live version: its readings in training, its forecasts, its errors.

The tables of hours (or of samples) are a step of their own: computed once for a parcel, kept in the object store.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.package import parcel_folder, snapshot_of
from flows.steps import Done, key_of, once
from flows.workshop import Workshop
from infra.refs import ModelRef
from models import catalog
from models.artifact import tensors
from models.artifact.manifest import Manifest, read_and_verify
from models.artifact.predictor import Predictor
from models.data.batches import Samples
from models.data.snapshot import Snapshot
from models.data.windows import windows
from models.judging.drift_errors import sample_errors
from models.judging.drift_hours import ERROR, FORECAST, Feature, Hours, hour_of, reading_hours, value_hours
from models.judging.drift_samples import features_of
from models.judging.drift_seasonal import Seasonal
from models.judging.drift_verdict import Reference
from models.judging.report import answered

STEP = "reference"
MAX_WINDOWS, MAX_SAMPLES = 20_000, 4_000
CODE = ("data", "artifact", "judging")


@dataclass(frozen=True)
class SampleReference:
    """Of a task without a place in time: features of inputs and answers (R, F), errors of held-out samples."""

    input_names: tuple[tuple[str, str], ...]
    inputs: NDArray[np.float64]
    output_names: tuple[tuple[str, str], ...]
    outputs: NDArray[np.float64]
    groups: NDArray[np.int64]
    errors: NDArray[np.float64]
    error_groups: NDArray[np.int64]


def reference_of(shop: Workshop, live: ModelRef) -> tuple[Manifest, Reference | SampleReference]:
    """The reference of a live version. Raises NotThereError where its snapshot is gone, ParcelError."""
    folder = parcel_folder(shop, live.digest)
    manifest = read_and_verify(folder)
    key = key_of(live.digest, manifest.data_digest, catalog.code_digest(*CODE))

    def compute(target: Path) -> dict[str, Any]:
        predictor, snapshot = Predictor.open(folder), snapshot_of(shop, manifest.data_digest)
        if manifest.task == "forecast":
            return _write_hours(target, predictor, snapshot)
        return _write_samples(target, predictor, snapshot)

    done = once(shop, STEP, key, compute)
    return manifest, _read_hours(done) if manifest.task == "forecast" else _read_samples(done)


def _write_hours(target: Path, predictor: Predictor, snapshot: Snapshot) -> dict[str, Any]:
    manifest, series = predictor.manifest, snapshot.series
    whole = windows(series, (0, len(series.time)), manifest.past_steps, manifest.horizon_steps, MAX_WINDOWS)
    step = manifest.judged_step - 1
    made, errors = [], []
    for batch, forecast in answered(predictor, whole):
        known = batch.target_mask[:, step] > 0  # [B, N]
        missed = np.where(known, np.abs(forecast[:, step] - batch.target[:, step]), 0.0)
        made.append(forecast[:, step])
        errors.append(np.where(known.any(axis=1), missed.sum(axis=1) / np.maximum(known.sum(axis=1), 1), np.nan))
    ahead = np.timedelta64(round(60e6 * manifest.cadence_min * manifest.judged_step), "us")
    time = whole.times(np.arange(len(whole))) + ahead
    places = [Feature(FORECAST, node, manifest.channels[0]) for node in manifest.nodes]
    tables = {
        "inputs": reading_hours(series),
        "forecasts": value_hours(time, np.concatenate(made), places),
        "error": value_hours(time, np.concatenate(errors)[:, None], [Feature(ERROR)]),
    }
    np.savez(target / "hours.npz", allow_pickle=False, **{name: one.values for name, one in tables.items()})
    held_out = series.time[snapshot.manifest.splits["test"][0]]
    facts = {name: {"first": one.first, "features": one.features} for name, one in tables.items()}
    (target / "hours.json").write_text(json.dumps(facts))
    return {"held_out_from": int(hour_of(np.array([held_out]))[0])}


def _read_hours(done: Done) -> Reference:
    facts = json.loads((done.folder / "hours.json").read_text())
    with np.load(done.folder / "hours.npz", allow_pickle=False) as arrays:
        tables = {
            name: Hours(one["first"], arrays[name], tuple(Feature(*feature) for feature in one["features"]))
            for name, one in facts.items()
        }
    error = Seasonal.fit(tables["error"], done.notes["held_out_from"])
    return Reference(Seasonal.fit(tables["inputs"]), Seasonal.fit(tables["forecasts"]), error)


def _write_samples(target: Path, predictor: Predictor, snapshot: Snapshot) -> dict[str, Any]:
    """Features of samples spread over the whole snapshot, errors of those held out."""
    parts = {name: _thinned(snapshot, name) for name in ("train", "val", "test")}
    rows = [_features(predictor, samples) for samples in parts.values()]
    groups = np.concatenate([_groups(samples, place) for place, samples in enumerate(parts.values())])
    errors = [sample_errors(predictor.manifest, _answers(predictor, out), batch.target, batch.target_mask)
              for batch, out in answered(predictor, parts["test"])]  # fmt: skip
    arrays = {
        "inputs": np.concatenate([one[0][1] for one in rows]),
        "outputs": np.concatenate([one[1][1] for one in rows]),
        "groups": groups,
        "errors": np.concatenate(errors),
        "error_groups": _groups(parts["test"], 2),
    }
    np.savez(target / "samples.npz", allow_pickle=False, **arrays)
    return {"inputs": rows[0][0][0], "outputs": rows[0][1][0]}


def _read_samples(done: Done) -> SampleReference:
    with np.load(done.folder / "samples.npz", allow_pickle=False) as arrays:
        known = {name: arrays[name] for name in arrays.files}
    names = {side: tuple((one[0], one[1]) for one in done.notes[side]) for side in ("inputs", "outputs")}
    is_known = np.isfinite(known["errors"])
    return SampleReference(
        names["inputs"], known["inputs"], names["outputs"], known["outputs"], known["groups"],
        known["errors"][is_known], known["error_groups"][is_known],
    )  # fmt: skip


def _thinned(snapshot: Snapshot, split: str) -> Samples:
    return snapshot.samples(split, MAX_SAMPLES // 2 if split == "train" else MAX_SAMPLES // 4)


def _features(predictor: Predictor, samples: Samples) -> tuple[Any, Any]:
    inputs, outputs = [], []
    for batch, out in answered(predictor, samples):
        named = features_of(batch.inputs, predictor.manifest.inputs)
        inputs.append(named)
        outputs.append(features_of(_answers(predictor, out)))
    joined = [(side[0][0], np.concatenate([one[1] for one in side])) for side in (inputs, outputs)]
    return joined[0], joined[1]


def _answers(predictor: Predictor, raw: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    return tensors.outputs(predictor.manifest, raw)


def _groups(samples: Samples, split: int) -> NDArray[np.int64]:
    """Whose samples come together; in a split of its own where the data set knows none."""
    found = getattr(samples, "groups", None)
    own = np.arange(len(samples)) if found is None else np.asarray(found, np.int64)
    return np.asarray(own * 3 + split)
