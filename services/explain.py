"""Answers `/explain`: what moved this prediction, as JSON or as a picture.

The rows without each input go through the same door as predictions do, a few at a time, so that others' requests are
answered in between.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.artifact import occlusion
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.artifact.wire import Request
from services.effects import FORMATS, METHODS, NUM_MOST, ROWS_AT_ONCE, Answering, largest_first, short, tensor
from services.explain_tensors import PARAMETERS as OF_TENSORS
from services.explain_tensors import explain_tensors

FILLS = {"forecast": ("missing", "mean"), "classify": ("mean", "zero")}  # the first is what nobody asked about
PARAMETERS = {
    "forecast": ("node", "horizon_min", "step", "fill", "format", "method"),
    "classify": ("class", "fill", "format", "method"),
}


@dataclass(frozen=True)
class Question:
    """What shall be explained: the number at `position` of an answer's row, None for the likeliest class."""

    position: tuple[int, ...] | None
    fill: occlusion.Fill


async def explain(served: Answering, request: Request, query: Mapping[str, str]) -> tuple[str, bytes]:
    """Content type and body; raises InputError for a question that cannot be answered, and what `infer` raises.

    query: `node` with `horizon_min` or `step` (from 1), or `class`, or what `explain_tensors` takes; `fill`, `format`
    and `method`; all optional.
    """
    form, image = _form(served.manifest, query), None
    question = _asked(served.manifest, query) if served.manifest.task in FILLS else None
    if request.num_rows != 1:
        raise InputError("too many rows", "data", "one row to explain", str(request.num_rows))
    if question is None:
        answer = await explain_tensors(served, request.inputs, query)
    else:
        answer, plan = await _explained(served, request, question)
        image = plan.inputs["x"][0] if plan.is_image else None
    if form == "json":
        return FORMATS["json"], msgspec.json.encode(answer)
    from services.heatmap import draw  # Pillow, and fonts: only for who wants a picture

    return FORMATS["png"], await asyncio.to_thread(draw, answer, image)


def parameters_of(task: str) -> tuple[str, ...]:
    """What the query of an explanation may say."""
    return PARAMETERS.get(task, OF_TENSORS)


def _form(manifest: Manifest, query: Mapping[str, str]) -> str:
    """The format; raises InputError for what is unknown, so that no wish is passed over."""
    known = parameters_of(manifest.task)
    if unknown := sorted(set(query) - set(known)):
        raise InputError("unknown parameter", "query", ", ".join(known), repr(unknown[0][:60]))
    _one_of(query, "method", METHODS)
    return _one_of(query, "format", tuple(FORMATS))


def _asked(manifest: Manifest, query: Mapping[str, str]) -> Question:
    """The question of a query string about a window or an image; raises InputError."""
    fill = cast(occlusion.Fill, _one_of(query, "fill", FILLS[manifest.task]))
    if manifest.task == "classify":
        wanted = query.get("class")
        position = None if wanted is None else (manifest.classes.index(_one_of(query, "class", manifest.classes)),)
        return Question(position, fill)
    node = manifest.node_index[_one_of(query, "node", manifest.nodes)]
    return Question((_step(manifest, query) - 1, node), fill)


def _one_of(query: Mapping[str, str], name: str, known: tuple[str, ...]) -> str:
    """The value of a parameter, the first of the known ones where it was not given."""
    value = query.get(name, known[0])
    if value not in known:
        shown = ", ".join(known[:NUM_MOST]) + (f" and {len(known) - NUM_MOST} more" if len(known) > NUM_MOST else "")
        raise InputError(f"unknown {name}", f"query, {name}", shown, repr(value[:60]))
    return value


def _step(manifest: Manifest, query: Mapping[str, str]) -> int:
    """The horizon step from 1; the judged one where neither it nor its minutes were given."""
    steps = {str(step): step for step in range(1, manifest.horizon_steps + 1)}
    minutes = {f"{manifest.cadence_min * step:g}": step for step in steps.values()}
    if "step" in query and "horizon_min" in query:
        raise InputError("asked twice", "query", "either `step` or `horizon_min`", "both")
    if "horizon_min" in query:
        return minutes[_one_of({"horizon_min": query["horizon_min"].removesuffix(".0")}, "horizon_min", tuple(minutes))]
    return steps[_one_of(query, "step", tuple(steps))] if "step" in query else manifest.judged_step or 1


async def _explained(served: Answering, request: Request, question: Question) -> tuple[dict[str, Any], occlusion.Plan]:
    manifest, plan, fill = served.manifest, occlusion.plan(served.manifest, request.inputs), question.fill
    probed = tensor(await served.infer(plan.probe(fill)))
    if fill == "missing" and occlusion.ignores_mask(probed):
        fill = "mean"  # a graph that does not look at the mask would take the zero below it for a reading
        probed = tensor(await served.infer(plan.probe(fill)))
    position = question.position or (int(probed[0].argmax()),)
    without = []
    num_rows = min(manifest.max_batch, ROWS_AT_ONCE)
    for start in range(0, plan.num_rows, num_rows):
        await asyncio.sleep(0)
        answers = tensor(await served.infer(plan.hidden(start, start + num_rows, fill)))
        without.append(answers.reshape(len(answers), -1)[:, np.ravel_multi_index(position, answers.shape[1:])])
    prediction, baseline = (float(row[position]) for row in probed[:2])
    effects = plan.effects(prediction, np.concatenate(without))
    return {
        "explained": {**_place(manifest, position), "prediction": short(prediction)},
        "method": METHODS[0],
        "baseline": {"fill": fill, "prediction": short(baseline)},
        **_axes(manifest, plan),
        "effects": [[short(effect) for effect in row] for row in effects.tolist()],
        "most": _most(manifest, plan, effects),
        "model_version": served.model_version,
    }, plan


def _place(manifest: Manifest, position: tuple[int, ...]) -> dict[str, Any]:
    if manifest.task == "classify":
        return {"class": manifest.classes[position[0]], "units": "probability"}
    horizon_min = manifest.cadence_min * (position[0] + 1)
    return {"node": manifest.nodes[position[1]], "horizon_min": horizon_min, "units": manifest.units[0]}


def _axes(manifest: Manifest, plan: occlusion.Plan) -> dict[str, Any]:
    """What the rows and the columns of `effects` are."""
    if plan.is_image:
        names = {"rows": "top_px", "columns": "left_px"}
        return {"axes": names, **dict(zip(names.values(), map(list, plan.starts), strict=True)), "patch_px": plan.size}
    axes = {"rows": "nodes", "columns": "lags_min"}
    return {"axes": axes, "nodes": list(manifest.nodes), "lags_min": _lags(manifest, plan), "lag_steps": plan.size[1]}


def _lags(manifest: Manifest, plan: occlusion.Plan) -> list[float]:
    """How old the latest reading of each group of lags is, 0 for the last past step."""
    ends = (*plan.starts[1][1:], manifest.past_steps)
    return [manifest.cadence_min * (manifest.past_steps - end) for end in ends]


def _most(manifest: Manifest, plan: occlusion.Plan, effects: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The inputs that moved it most."""
    most = []
    for flat, share in largest_first(effects):
        row, column = (int(place) for place in np.unravel_index(flat, effects.shape))
        if plan.is_image:
            place: dict[str, Any] = {"top_px": plan.starts[0][row], "left_px": plan.starts[1][column]}
        else:
            place = {"node": manifest.nodes[row], "lag_min": _lags(manifest, plan)[column]}
        most.append({**place, "effect": short(float(effects[row, column])), "share": short(share)})
    return most
