"""Defines the wire: release record, shape of every error, OpenAPI made from the manifest.

`/docs.json` is not written by hand: the arrays' sizes, the sensors' names and the units come from the parcel that is
served, and its golden request is the example. What a client generator reads is what `models.artifact.wire` checks.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from models.artifact.manifest import Manifest

PREDICT_PATHS = ("/predict", "/model/predict")


class Release(BaseModel):
    """Which registered version a Bento serves and where it comes from; `release.json` beside the parcel."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    version: int = Field(ge=1)
    run_id: str = ""
    data_hash: str = ""
    code_commit: str = ""
    evidence_digest: str = ""
    parcel_digest: str
    max_body_bytes: int = Field(8_000_000, ge=1_000, description="a larger request is refused with 413")

    def labels(self) -> dict[str, str]:
        """What the Bento, and later the image, is labelled with."""
        names = ("product", "version", "run_id", "data_hash", "code_commit", "evidence_digest", "parcel_digest")
        return {name: str(getattr(self, name)) for name in names}


class Frozen(BaseModel):
    """Refuses to be changed, and fields that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class EnsemblePlan(Frozen):
    """The weighted mean of several served models of the same contract, served as a model of its own."""

    members: tuple[str, ...] = Field(min_length=1, description="`model/version`, each served from the same folder")
    weights: tuple[float, ...] = Field((), description="one for each member, as shares of their sum; empty: equal")


class Overlay(Frozen):
    """What one tenant gets on top of the signed models that all share."""

    model: str = Field("", description="served where the tenant names no model; empty: the default")
    version: str = ""
    labels: dict[str, str] = Field({}, description="other names for nodes or classes in answers, by the model's")
    thresholds: dict[str, float] = Field({}, description="probability that a class needs to become the label")


class LoadLimits(Frozen):
    """Calibrated when the release was packaged; a setting in the environment goes before."""

    batch_window_ms: float | None = Field(None, ge=0)
    deadline_ms: float | None = Field(None, gt=0)


class ServicePlan(Frozen):
    """What a release folder serves beyond its models; `service.json`, signed like a parcel."""

    ensembles: dict[str, EnsemblePlan] = {}
    tenants: dict[str, Overlay] = {}
    limits: LoadLimits = LoadLimits()


def openapi(manifest: Manifest, release: Release, example: dict[str, Any]) -> dict[str, Any]:
    """OpenAPI 3.1 of the service; `example` is the golden request body."""
    request, answer = _forecast(manifest) if manifest.task == "forecast" else _classify(manifest)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Roadworthy: {release.product}",
            "version": str(release.version),
            "description": f"{manifest.task} by {manifest.family} ({manifest.variant}), parcel {release.parcel_digest}",
        },
        "paths": {
            **{path: {"post": _predict(path, example)} for path in PREDICT_PATHS},
            "/livez": {"get": _probe("the process runs", 200)},
            "/readyz": {"get": _probe("the parcel is verified and answers", 200, 503)},
            "/metrics": {"get": _probe("Prometheus metrics", 200)},
        },
        "components": {"schemas": {"Request": request, "Answer": answer, "Problem": _PROBLEM}},
    }


_PROBLEM = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["what", "where", "expected", "got"],
            "properties": {name: {"type": "string"} for name in ("what", "where", "expected", "got")},
        }
    },
}

_REFUSALS = {
    "400": "not JSON",
    "405": "not POST",
    "413": "body too large",
    "415": "not application/json",
    "422": "JSON that breaks the contract: shape, sensor, time, range, missing share or batch size",
    "503": "the parcel was not verified; nothing is predicted",
}


def _content(schema: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}


def _predict(path: str, example: dict[str, Any]) -> dict[str, Any]:
    body = _content("Request")
    body["application/json"]["example"] = example
    headers = {name: {"schema": {"type": "string"}} for name in ("X-Prediction-Id", "X-Model-Digest")}
    refused = {code: {"description": text, "content": _content("Problem")} for code, text in _REFUSALS.items()}
    return {
        "operationId": path.strip("/").replace("/", "_"),
        "requestBody": {"required": True, "content": body},
        "responses": {
            "200": {"description": "predictions", "headers": headers, "content": _content("Answer")},
            **refused,
        },
    }


def _probe(description: str, *codes: int) -> dict[str, Any]:
    return {"responses": {str(code): {"description": description if code == 200 else "not ready"} for code in codes}}


def _array(items: dict[str, Any], size: int | None = None) -> dict[str, Any]:
    exact = {} if size is None else {"minItems": size, "maxItems": size}
    return {"type": "array", "items": items, **exact}


def _one_or_many(item: dict[str, Any], max_batch: int) -> dict[str, Any]:
    return {"oneOf": [item, {**_array(item), "minItems": 1, "maxItems": max_batch}]}


def _envelope(predictions: dict[str, Any], more: dict[str, Any]) -> dict[str, Any]:
    properties = {
        "predictions": predictions,
        **more,
        "model_version": {"type": "string"},
        "prediction_id": {"type": "string", "format": "uuid"},
    }
    return {"type": "object", "required": ["predictions", "model_version", "prediction_id"], "properties": properties}


def _forecast(manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Schemas of one window [T][N][C] ([T][N] where there is one channel) and of one forecast [H][N]."""
    num_nodes, num_channels = len(manifest.nodes), len(manifest.channels)
    reading = {"type": ["number", "null"], "description": f"{', '.join(manifest.units)}; null where missing"}
    cell = _array({"type": ["number", "null"]}, num_channels)
    either = {"oneOf": [reading, cell]} if num_channels == 1 else cell
    values = _array(_array(either, num_nodes), manifest.past_steps)
    time = {"type": "string", "format": "date-time", "description": "time of the last past step"}
    nodes = {**_array({"enum": list(manifest.nodes)}, num_nodes), "description": "order of the columns of `values`"}
    window = {
        "type": "object",
        "required": ["time", "values"],
        "properties": {"time": time, "values": values, "nodes": nodes},
    }
    request = {
        "type": "object",
        "required": ["data"],
        "properties": {
            "data": {"anyOf": [_one_or_many(window, manifest.max_batch), values]},
            "time": time,
            "nodes": nodes,
        },
    }
    forecast = _array(_array({"type": "number"}, num_nodes), manifest.horizon_steps)
    more = {
        "units": {"const": manifest.units[0]},
        "horizon_min": _array({"type": "number"}, manifest.horizon_steps),
        "nodes": _array({"type": "string"}, num_nodes),
    }
    return request, _envelope(_one_or_many(forecast, manifest.max_batch), more)


def _classify(manifest: Manifest) -> tuple[dict[str, Any], dict[str, Any]]:
    """Schemas of one image [H][W] or [C][H][W] and of one classification."""
    num_channels, height, width = manifest.image_shape or (1, 1, 1)
    plane = _array(_array({"type": "number"}, width), height)
    image = _array(plane, num_channels)
    images = [image, plane] if num_channels == 1 else [image]
    many = [{**_array(one), "minItems": 1, "maxItems": manifest.max_batch} for one in images]
    request = {"type": "object", "required": ["data"], "properties": {"data": {"anyOf": images + many}}}
    probabilities = {name: {"type": "number", "minimum": 0, "maximum": 1} for name in manifest.classes}
    result = {
        "type": "object",
        "required": ["label", "probability", "probabilities"],
        "properties": {
            "label": {"enum": list(manifest.classes)},
            "probability": {"type": "number", "minimum": 0, "maximum": 1},
            "probabilities": {"type": "object", "properties": probabilities},
        },
    }
    return request, _envelope(_one_or_many(result, manifest.max_batch), {"units": {"type": "string"}})
