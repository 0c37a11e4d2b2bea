"""JSON Schemas of requests, answers and explanations of one contract."""

from typing import Any

from models.artifact.intervals import LEVEL, LEVELS, QUANTILES
from models.artifact.manifest import Manifest
from services.effects import METHODS, NUM_MOST
from services.explain import FILLS

Schema = dict[str, Any]

PROBLEM: Schema = {
    "type": "object",
    "required": ["error"],
    "additionalProperties": False,
    "properties": {
        "error": {
            "type": "object",
            "required": ["what", "where", "expected", "got"],
            "additionalProperties": False,
            "properties": {name: {"type": "string"} for name in ("what", "where", "expected", "got")},
        }
    },
}


def forecast_schemas(manifest: Manifest) -> tuple[Schema, Schema]:
    """Schemas of a request of windows [T][N][C] ([T][N] where there is one channel), and of its answer."""
    num_nodes = len(manifest.nodes)
    values, share = _values(manifest), f"at most {manifest.max_missing_share:.1%} of the values of a window may be null"
    time = {
        "type": "string",
        "format": "date-time",
        "description": f"of the last past step, ISO 8601, a multiple of {manifest.cadence_min:g} min; the zone may be "
        "left out, and is converted to UTC",
    }
    nodes = {
        **array({"enum": list(manifest.nodes)}, num_nodes),
        "uniqueItems": True,
        "description": "order of the columns of `values`",
    }
    window = {
        "type": "object",
        "required": ["time", "values"],
        "additionalProperties": False,
        "properties": {"time": time, "values": {**values, "description": share}, "nodes": {"anyOf": [nodes, _NULL]}},
    }
    inside = {
        "type": "object",
        "required": ["data"],
        "additionalProperties": False,
        "properties": {"data": one_or_many(window, manifest.max_batch)},
    }
    beside = {
        "type": "object",
        "required": ["data", "time"],
        "additionalProperties": False,
        "properties": {"data": values, "time": time, "nodes": {"anyOf": [nodes, _NULL]}},
    }
    forecast = array(array({"type": "number"}, num_nodes), manifest.horizon_steps)
    more = {
        "units": {"const": manifest.units[0]},
        "horizon_min": array({"type": "number"}, manifest.horizon_steps),
        "nodes": array({"type": "string"}, num_nodes),
    }
    answer = envelope(one_or_many(forecast, manifest.max_batch), more)
    answer["properties"] |= _wished(manifest)
    return {"anyOf": [inside, beside]}, answer


def _wished(manifest: Manifest) -> Schema:
    """What of an answer comes only where it is asked for."""
    num_nodes, found = len(manifest.nodes), {}
    if manifest.intervals is not None:
        rows = array(array({"type": "number"}, num_nodes), manifest.horizon_steps)
        by_share = closed({f"{share:g}": rows for share in manifest.intervals.quantiles})
        found[QUANTILES] = one_or_many(by_share, manifest.max_batch)
    if manifest.levels is not None:
        levels = array(array({"enum": list(LEVELS)}, num_nodes), manifest.horizon_steps)
        found[LEVEL] = one_or_many(levels, manifest.max_batch)
    return found


def _values(manifest: Manifest) -> Schema:
    """The readings of a window; with one channel [T][N] or [T][N][1], not a mixture of both."""
    num_nodes, num_channels = len(manifest.nodes), len(manifest.channels)
    cells = [_reading(manifest, channel) for channel in range(num_channels)]
    cell = {"type": "array", "prefixItems": cells, "items": False, "minItems": num_channels, "maxItems": num_channels}
    if num_channels == 1:
        return {"oneOf": [array(array(item, num_nodes), manifest.past_steps) for item in (cells[0], cell)]}
    return array(array(cell, num_nodes), manifest.past_steps)


def classify_schemas(manifest: Manifest) -> tuple[Schema, Schema]:
    """Schemas of a request of images [C][H][W] ([H][W] where there is one channel), and of its answer."""
    num_channels, height, width = manifest.image_shape or (1, 1, 1)
    low, high = manifest.ranges[0]
    plane = array(array({"type": "number", "minimum": low, "maximum": high}, width), height)
    image = array(plane, num_channels)
    images = [image, plane] if num_channels == 1 else [image]
    many = [{**array(one), "minItems": 1, "maxItems": manifest.max_batch} for one in images]
    data = {"anyOf": images + many}
    request = {"type": "object", "required": ["data"], "additionalProperties": False, "properties": {"data": data}}
    share = {"type": "number", "minimum": 0, "maximum": 1}
    result = {
        "type": "object",
        "required": ["label", "probability", "probabilities"],
        "properties": {
            "label": {"type": "string"},
            "probability": share,
            "probabilities": {"type": "object", "additionalProperties": share, "minProperties": len(manifest.classes)},
        },
    }
    return request, envelope(one_or_many(result, manifest.max_batch), {"units": {"const": "probability"}})


def explanation_schema(manifest: Manifest) -> Schema:
    """Schema of what `services.explain` answers."""
    number: Schema = {"type": "number"}
    whole: Schema = {"type": "integer", "minimum": 0}
    if manifest.task == "forecast":
        explained: Schema = {
            "node": {"enum": list(manifest.nodes)},
            "horizon_min": number,
            "units": {"const": manifest.units[0]},
        }
        axes: Schema = {
            "nodes": array({"type": "string"}, len(manifest.nodes)),
            "lags_min": {**array(number), "description": "age of each group's latest reading, in minutes"},
            "lag_steps": {**whole, "description": "steps in a group of lags"},
        }
        place: Schema = {"node": {"type": "string"}, "lag_min": number}
    else:
        explained = {"class": {"enum": list(manifest.classes)}, "units": {"const": "probability"}}
        axes = {"top_px": array(whole), "left_px": array(whole), "patch_px": array(whole, 2)}
        place = {"top_px": whole, "left_px": whole}
    moved: Schema = {**place, "effect": number, "share": {"type": "number", "minimum": 0, "maximum": 1}}
    return closed({
        "explained": closed({**explained, "prediction": number}),
        "method": {"enum": list(METHODS)},
        "baseline": closed({"fill": {"enum": list(FILLS[manifest.task])}, "prediction": number}),
        "axes": closed({"rows": {"type": "string"}, "columns": {"type": "string"}}),
        **axes,
        "effects": {**array(array(number)), "description": "prediction minus what it is without that input"},
        "most": {**array(closed(moved)), "maxItems": NUM_MOST},
        "model_version": {"type": "string"},
    })  # fmt: skip


def array(items: Schema, size: int | None = None) -> Schema:
    """An array, of exactly `size` items where that is given."""
    exact = {} if size is None else {"minItems": size, "maxItems": size}
    return {"type": "array", "items": items, **exact}


def one_or_many(item: Schema, max_batch: int) -> Schema:
    """One item, or a list of up to a batch of them."""
    return {"oneOf": [item, {**array(item), "minItems": 1, "maxItems": max_batch}]}


_NULL = {"type": "null"}


def _reading(manifest: Manifest, channel: int) -> Schema:
    low, high = manifest.ranges[channel]
    limits = {name: limit for name, limit in (("minimum", low), ("maximum", high)) if limit is not None}
    about = f"{manifest.channels[channel]} in {manifest.units[channel]}; null where missing"
    return {"type": ["number", "null"], "description": about, **limits}


def envelope(predictions: Schema, more: Schema) -> Schema:
    """An answer: predictions, what is said of them all, and where they come from."""
    properties = {
        "predictions": predictions,
        **more,
        "model_version": {"type": "string"},
        "prediction_id": {"type": "string", "format": "uuid"},
    }
    return {"type": "object", "required": list(properties), "properties": properties}


def closed(properties: Schema) -> Schema:
    """An object of these properties, all of them and no others."""
    return {
        "type": "object",
        "required": list(properties),
        "properties": properties,
        "additionalProperties": False,
    }
