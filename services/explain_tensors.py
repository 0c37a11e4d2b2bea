"""Explains an answer of a tensor task: how far it moves when a label of an input is hidden.

The rows go through the same door as predictions do, a few at a time, as in `services.explain`.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.artifact.occlusion_tensors import Fill, Hidden, tensor_plan
from services.effects import METHODS, ROWS_AT_ONCE, Answering, largest_first, short, tensor

FILLS = ("missing", "mean")
PARAMETERS = ("output", "index", "fill", "format", "method")
_LIKELIEST = ("detect", "control")  # tasks whose likeliest label is explained where none is named


async def explain_tensors(
    served: Answering, inputs: dict[str, NDArray[Any]], query: Mapping[str, str]
) -> dict[str, Any]:
    """The explanation of one row; raises InputError for a question that cannot be answered, and what `infer` raises.

    query: `output` names a label of the answer, `index` the place on its axes before the last, from 0: `2` or `2,0`
    """
    manifest = served.manifest
    plan = tensor_plan(manifest, inputs, cast(Fill, _fill(query)))
    wanted = _position(manifest, query)
    probed = tensor(await served.infer(plan.probe()))
    position = wanted if wanted is not None else _unravelled(probed[0])
    without: list[float] = []
    num_rows = min(manifest.max_batch, ROWS_AT_ONCE)
    for start in range(0, len(plan.hidden), num_rows):
        await asyncio.sleep(0)
        answers = tensor(await served.infer(plan.without(start, start + num_rows)))
        without += [float(answer[position]) for answer in answers]
    prediction, baseline = (float(row[position]) for row in probed)
    effects = prediction - np.array(without)
    return {
        "explained": {**_place(manifest, position), "prediction": short(prediction)},
        "method": METHODS[0],
        "baseline": {"fill": query.get("fill", "missing or mean"), "prediction": short(baseline)},
        "effects": _by_input(plan.hidden, effects),
        "left_out": list(plan.left_out),
        "most": _most(plan.hidden, effects),
        "model_version": served.model_version,
    }


def _fill(query: Mapping[str, str]) -> str:
    fill = query.get("fill", "")
    if fill and fill not in FILLS:
        raise InputError("unknown fill", "query, fill", ", ".join(FILLS), repr(fill[:60]))
    return fill


def _position(manifest: Manifest, query: Mapping[str, str]) -> tuple[int, ...] | None:
    """Where in an answer's row the explained number is; None for the likeliest."""
    output = manifest.output
    assert output is not None
    if not output.shape:
        _refuse_place(query)
        return ()
    known = output.labels or tuple(str(place) for place in range(output.shape[-1]))
    name = query.get("output")
    if name is None and "index" not in query and manifest.task in _LIKELIEST:
        return None
    if name is not None and name not in known:
        shown = ", ".join(known[:10]) + (f" and {len(known) - 10} more" if len(known) > 10 else "")
        raise InputError("unknown output", "query, output", shown, repr(name[:60]))
    return (*_index(output.shape[:-1], query.get("index")), known.index(name) if name else 0)


def _refuse_place(query: Mapping[str, str]) -> None:
    for name in ("output", "index"):
        if name in query:
            raise InputError("unknown parameter", "query", "none: the answer is one number", repr(name))


def _index(shape: tuple[int, ...], text: str | None) -> tuple[int, ...]:
    if text is None:
        return (0,) * len(shape)
    words = text.split(",") if text else []
    places = [int(word) if word.isdecimal() and len(word) < 10 else -1 for word in words]
    if len(places) != len(shape) or any(not 0 <= place < size for place, size in zip(places, shape, strict=True)):
        sizes = " and ".join(f"0 to {size - 1}" for size in shape) or "none: the answer has one axis"
        raise InputError("no such place in the answer", "query, index", sizes, repr(text[:60]))
    return tuple(places)


def _unravelled(row: NDArray[np.float32]) -> tuple[int, ...]:
    return tuple(int(place) for place in np.unravel_index(int(row.argmax()), row.shape))


def _place(manifest: Manifest, position: tuple[int, ...]) -> dict[str, Any]:
    output = manifest.output
    assert output is not None
    units = "probability" if manifest.task in _LIKELIEST else output.unit
    label = output.labels[position[-1]] if output.labels and position else output.name
    return {"output": label, "index": list(position[:-1]), "units": units}


def _by_input(hidden: tuple[Hidden, ...], effects: NDArray[np.float64]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for one, effect in zip(hidden, effects.tolist(), strict=True):
        found.setdefault(one.input, {})[one.label] = short(effect)
    return found


def _most(hidden: tuple[Hidden, ...], effects: NDArray[np.float64]) -> list[dict[str, Any]]:
    """The labels that moved it most."""
    return [
        {
            "input": hidden[place].input,
            "label": hidden[place].label,
            "effect": short(float(effects[place])),
            "share": short(share),
        }
        for place, share in largest_first(effects)
    ]
