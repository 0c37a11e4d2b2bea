"""Packs an ONNX graph into a parcel that verifies itself when it is opened.

The graph is fresh from the exporter or quantised.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from models import catalog
from models.artifact import graph, wire
from models.artifact.calibration import calibrated
from models.artifact.manifest import CARD_FILE, GOLDEN_FILE, MODEL_FILE, Manifest, Range, hash_files, write_manifest
from models.artifact.predictor import Predictor, open_session
from models.artifact.samples import build_sample
from models.data.batches import Samples
from models.data.card import TENSOR_KINDS, TensorSpec
from models.data.examples import ExampleSamples
from models.data.snapshot import Snapshot
from models.data.windows import Windows
from models.recipe import Recipe

GOLDEN_TOLERANCE = 1e-3
QUANTISED_TOLERANCE = 2e-2  # int8 kernels round, and saturate, differently from one processor to the next
JUDGED_MIN = 15.0
_NUM_LOOKED_AT = 64


def build_parcel(
    folder: Path,
    model: Path,
    snapshot: Snapshot,
    recipe: Recipe,
    variant: str,
    num_parameters: int,
    code_commit: str,
    family: str = "",
) -> Predictor:
    """Make the parcel of `model` in `folder` and open it as a service would; its digest is `.manifest.digest()`.

    family: the model's own, where it is another than the recipe's, as a baseline's is.
    The golden request is the window (or image) of the validation split with the least missing. Raises ParcelError when
    the parcel does not open, InputError when that sample breaks the contract of the data.
    """
    folder.mkdir(parents=True, exist_ok=True)
    onnx_model = graph.stripped(graph.from_bytes(model.read_bytes()))
    content = graph.to_bytes(onnx_model)
    manifest = describe(snapshot, recipe, variant, num_parameters, code_commit, family)
    manifest = manifest.model_copy(update={"opset": graph.opset_of(onnx_model)})
    manifest = calibrated(manifest, open_session(content), snapshot)
    request = golden_request(snapshot.samples("val"))
    tolerance = QUANTISED_TOLERANCE if graph.is_quantised(onnx_model) else GOLDEN_TOLERANCE
    golden = {"request": request, "predictions": _answered(manifest, content, request), "tolerance": tolerance}
    (folder / MODEL_FILE).write_bytes(content)
    (folder / GOLDEN_FILE).write_text(json.dumps(golden, sort_keys=True, separators=(",", ":")) + "\n")
    (folder / CARD_FILE).write_text(_card(manifest, snapshot))
    write_manifest(folder, manifest.model_copy(update={"files": hash_files(folder)}))
    return Predictor.open(folder)


def describe(
    snapshot: Snapshot, recipe: Recipe, variant: str, num_parameters: int, code_commit: str, family: str = ""
) -> Manifest:
    """The manifest of a model of this recipe on this data; its `files` are still empty."""
    data = snapshot.manifest
    facts: dict[str, Any] = {
        "product": recipe.product,
        "task": recipe.task,
        "variant": variant,
        "family": family or recipe.family,
        "data_digest": data.digest,
        "recipe_digest": recipe.digest(),
        "code_commit": code_commit,
        "num_parameters": num_parameters,
        "opset": graph.OPSET,
        "files": {},
    }
    if recipe.task == "classify":
        return Manifest(**facts, classes=data.classes, image_shape=data.image_shape, ranges=((0.0, 1.0),))
    facts["protocol"] = recipe.evaluate.protocol
    if recipe.task != "forecast":
        return Manifest(**facts, **_of_samples(snapshot, recipe))
    cadence_min = snapshot.series.cadence_min
    return Manifest(
        **facts,
        nodes=data.nodes,
        channels=data.channels,
        units=data.units,
        ranges=_ranges(snapshot),
        past_steps=data.past_steps,
        horizon_steps=data.horizon_steps,
        cadence_min=cadence_min,
        grid_offset_s=grid_offset_s(snapshot),
        slots_per_day=snapshot.series.slots_per_day,
        judged_step=judged_step(recipe, cadence_min, data.horizon_steps),
        max_missing_share=data.contract.max_missing_share,
    )


def _of_samples(snapshot: Snapshot, recipe: Recipe) -> dict[str, Any]:
    """What the manifest of a tensor task says of its requests and answers."""
    data = snapshot.manifest
    scaled = data.scaler.inputs if data.scaler else {}
    return {
        "ranges": (),
        "inputs": data.inputs,
        "output": _answered_spec(recipe, data.target),
        "means": {name: scaler.mean for name, scaler in scaled.items()},
        "network": data.network,
        "cadence_min": data.contract.cadence_min or 0.0,
        "max_missing_share": data.contract.max_missing_share,
    }


def _answered_spec(recipe: Recipe, target: TensorSpec | None) -> TensorSpec | None:
    """What is answered: like the target, but of a choice the probability of each label instead of one's index."""
    if target is None or TENSOR_KINDS[recipe.task] != "choice":
        return target
    return target.model_copy(update={"shape": (len(target.labels),)})


def judged_step(recipe: Recipe, cadence_min: float, horizon_steps: int) -> int:
    """The horizon step (from 1) whose error decides: the recipe's, or the one nearest to 15 minutes."""
    wished = recipe.judge.judged_step or max(round(JUDGED_MIN / cadence_min), 1)
    return min(wished, horizon_steps)


def grid_offset_s(snapshot: Snapshot) -> float:
    """Seconds by which the series' times lie beside the multiples of its cadence, counted from 1970."""
    first_us = int(snapshot.series.time[0].astype("datetime64[us]").astype(np.int64))
    return (first_us % round(snapshot.series.cadence_min * 60e6)) / 1e6


def golden_request(samples: Samples, num_looked_at: int = _NUM_LOOKED_AT) -> dict[str, Any]:
    """The body of a real request: the sample with the least missing among some that are spread over the split."""
    looked_at = np.unique(np.linspace(0, len(samples) - 1, num_looked_at).astype(np.int64))
    inputs = samples.take(looked_at).inputs
    if isinstance(samples, ExampleSamples):
        holes = [np.isnan(array).reshape(len(array), -1).mean(axis=1) for array in inputs.values()]
        return build_sample(samples.examples.specs, inputs, int(np.mean(holes, axis=0).argmin()))
    if not isinstance(samples, Windows):
        return wire.build_request(inputs["x"][0])
    best = int(inputs["mask"].mean(axis=(1, 2, 3)).argmax())
    return wire.build_request(inputs["x"][best], inputs["mask"][best], samples.times(looked_at)[best])


def _answered(manifest: Manifest, content: bytes, request: dict[str, Any]) -> Any:
    """What the graph answers to the golden request."""
    parsed = wire.parse_request(manifest, msgspec.json.encode(request))
    session = open_session(content)
    outputs = session.run(None, {item.name: parsed.inputs[item.name] for item in session.get_inputs()})[0]
    return wire.answer(manifest, outputs, parsed.is_list)["predictions"]


def _ranges(snapshot: Snapshot) -> tuple[Range, ...]:
    known = {channel.name: (channel.minimum, channel.maximum) for channel in snapshot.manifest.contract.channels}
    return tuple(known.get(name, (None, None)) for name in snapshot.manifest.channels)


def _card(manifest: Manifest, snapshot: Snapshot) -> str:
    """What the file is, for whoever finds it alone; the verdict is on the registry's page, which knows the evidence."""
    data, family = snapshot.manifest, catalog.family(manifest.task, manifest.family)
    return (
        f"# {manifest.product}: {manifest.variant}\n\n"
        f"{family.title}. Source of the method: {family.source}\n\n"
        f"- task: {manifest.task}, {manifest.num_parameters} parameters, ONNX opset {manifest.opset}\n"
        f"- data: {data.title} ({data.source}; {data.licence}), {data.span}, snapshot {data.digest[:12]}\n"
        f"- recipe {manifest.recipe_digest[:12]}, code {manifest.code_commit}\n\n"
        "`manifest.json` holds the contract of requests and the hash of every file, `golden.json` a real request and\n"
        "its answer. Use it only for the sensors and the range that the manifest names.\n"
    )
