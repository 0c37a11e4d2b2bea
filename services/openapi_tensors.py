"""JSON Schemas of the tensor tasks: named inputs, one output, and what moved it."""

from typing import Any

from models.artifact.manifest import Manifest
from models.data.card import TensorSpec
from services.effects import METHODS, NUM_MOST
from services.openapi_schemas import array, closed, envelope, one_or_many
from services.ways import MAX_ALTERNATIVES

Schema = dict[str, Any]

_SHARE: Schema = {"type": "number", "minimum": 0, "maximum": 1}
_NUMBER: Schema = {"type": "number"}
_TEXT: Schema = {"type": "string"}


def sample_schemas(manifest: Manifest) -> tuple[Schema, Schema]:
    """Schemas of a request, one object of named tensors or a list of such, and of its answer."""
    sample = closed({spec.name: _input(spec) for spec in manifest.inputs})
    request = closed({"data": one_or_many(sample, manifest.max_batch)})
    output = manifest.output
    assert output is not None
    if manifest.task == "control":
        shares = {"type": "object", "additionalProperties": _SHARE, "minProperties": len(output.labels)}
        choice = closed({"choice": _TEXT, "probabilities": shares})
        return request, envelope(one_or_many(choice, manifest.max_batch), {"units": {"const": "probability"}})
    names = {"labels": array(_TEXT, len(output.labels))} if output.labels else {}
    if manifest.task != "detect":
        more = {"units": {"const": output.unit}, **names}
        return request, envelope(one_or_many(_nested(_NUMBER, output.shape), manifest.max_batch), more)
    alarms = {}
    if manifest.threshold is not None:
        named = {**array(_TEXT), "description": "labels whose probability reached the threshold"}
        alarms = {"threshold": {"const": manifest.threshold}, "alarms": one_or_many(named, manifest.max_batch)}
    more = {"units": {"const": "probability"}, **names, **alarms}
    return request, envelope(one_or_many(_nested(_SHARE, output.shape), manifest.max_batch), more)


def sample_explanation_schema() -> Schema:
    """Schema of what `services.explain_tensors` answers."""
    explained = {"output": _TEXT, "index": array({"type": "integer"}), "units": _TEXT, "prediction": _NUMBER}
    effects = {"type": "object", "additionalProperties": {"type": "object", "additionalProperties": _NUMBER}}
    moved = {"input": _TEXT, "label": _TEXT, "effect": _NUMBER, "share": _SHARE}
    return closed({
        "explained": closed(explained),
        "method": {"enum": list(METHODS)},
        "baseline": closed({"fill": _TEXT, "prediction": _NUMBER}),
        "effects": {**effects, "description": "by input and label: prediction minus what it is without that label"},
        "left_out": {**array(_TEXT), "description": "inputs that cannot be hidden"},
        "most": {**array(closed(moved)), "maxItems": NUM_MOST},
        "model_version": _TEXT,
    })  # fmt: skip


def way_schemas(manifest: Manifest) -> Schema:
    """Schemas of what `services.ways` is asked and answers."""
    network = manifest.network
    assert network is not None
    place = {"enum": [*sorted({*network.sources, *network.targets}), *network.edges]}
    depart = {"type": ["string", "null"], "description": "`08:15`, or ISO 8601; now, where it is left out"}
    alternatives = {"type": "integer", "minimum": 0, "maximum": MAX_ALTERNATIVES, "default": 0}
    asked = closed({
        "data": closed({spec.name: _input(spec) for spec in manifest.inputs}),
        "from": place, "to": place, "depart": depart, "alternatives": alternatives,
    })  # fmt: skip
    edges, nodes = array({"enum": list(network.edges)}), array(_TEXT)
    way = {"edges": edges, "nodes": nodes, "travel_time_s": _NUMBER, "length_m": _NUMBER}
    said = {
        **way,
        "alternatives": array(closed(way)),
        "depart_s": _NUMBER,
        "model_version": _TEXT,
        "prediction_id": _TEXT,
    }
    return {"WayRequest": {**asked, "required": ["data", "from", "to"]}, "Way": closed(said)}


def _input(spec: TensorSpec) -> Schema:
    limits = {
        name: limit for name, limit in (("minimum", spec.minimum), ("maximum", spec.maximum)) if limit is not None
    }
    kind: Any = "integer" if spec.dtype == "int64" else "number"
    cell: Schema = {"type": [kind, "null"] if spec.can_miss else kind, **limits}
    said = " ".join(part for part in (spec.description, f"in {spec.unit}" if spec.unit else "") if part)
    described = {"description": f"{said}; null where missing" if spec.can_miss else said} if said else {}
    if spec.labels:
        described["x-labels"] = list(spec.labels)  # type: ignore[assignment]
    nested = {**_nested(cell, spec.shape), **described}
    if len(spec.shape) != 1 or not spec.labels:
        return nested
    by_name: Schema = {
        "type": "object",
        "properties": dict.fromkeys(spec.labels, cell),
        "required": [] if spec.can_miss else list(spec.labels),
        "additionalProperties": False,
    }
    return {"oneOf": [nested, by_name]}


def _nested(cell: Schema, shape: tuple[int, ...]) -> Schema:
    """Arrays of arrays of this shape."""
    for size in reversed(shape):
        cell = array(cell, size)
    return cell
