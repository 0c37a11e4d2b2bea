"""OpenAPI 3.1 of every route, made from the manifest that is served.

`/docs.json` is not written by hand: sizes, sensors' names, units and ranges come from the parcel, and its golden
request is the example. What a client generator reads is what `models.artifact` checks. What JSON Schema cannot say (a
time on the cadence's grid, the share that may be missing) stands in the descriptions.
"""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from models.artifact import intervals
from models.artifact.decode import content_types, takes_tables
from models.artifact.manifest import Manifest
from services.effects import FORMATS, METHODS
from services.explain import FILLS
from services.explain_tensors import FILLS as FILLS_OF_TENSORS
from services.openapi_schemas import PROBLEM, classify_schemas, explanation_schema, forecast_schemas
from services.openapi_tensors import sample_explanation_schema, sample_schemas, way_schemas
from services.openapi_v2 import V2_PROBLEM, path_parameters, v2_paths, v2_schemas
from services.schemas import PREDICT_PATHS, WITH, Release

Document = dict[str, Any]

REFUSALS = {
    "400": "not JSON",
    "401": "no key, or one that is not accepted",
    "403": "the key does not allow this",
    "404": "no such model or version",
    "405": "another method than the one allowed",
    "408": "the body did not come in time",
    "413": "body too large",
    "415": "a content type that this model does not take, or an encoded body",
    "422": "a body or a query that breaks the contract: shape, sensor, time, range, missing share or batch size",
    "429": "quota used up, or too many wrong keys; ask again after Retry-After",
    "500": "the prediction failed; the log knows it by X-Prediction-Id",
    "503": "overloaded, past its deadline, or nothing verified to serve; ask again after Retry-After",
}
_RETRIED = ("429", "503")
_READ_REFUSALS = ("401", "403", "405", "429", "503")


def openapi(
    manifest: Manifest, release: Release, example: Mapping[str, Any], models: Mapping[str, Sequence[str]] | None = None
) -> Document:
    """The document; `example` is the golden request body, `models` every served model with its versions."""
    known = {name: [str(version) for version in versions] for name, versions in (models or {}).items()}
    known = known or {release.product: [str(release.version)]}
    examples: Document = {"Golden": {"value": example}}
    if takes_tables(manifest):
        table = _csv_of_samples if manifest.inputs else _csv
        examples["GoldenTable"] = {"value": table(manifest, example)}
    schemas_of = {"forecast": forecast_schemas, "classify": classify_schemas}.get(manifest.task, sample_schemas)
    request, answer = schemas_of(manifest)
    schemas = {
        "Request": request,
        "Answer": answer,
        "Explanation": sample_explanation_schema() if manifest.inputs else explanation_schema(manifest),
        **(way_schemas(manifest) if manifest.network else {}),
        "Problem": PROBLEM,
        "V2Problem": V2_PROBLEM,
        **v2_schemas(manifest),
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Roadworthy: {release.product}",
            "version": str(release.version),
            "description": f"{manifest.task} by {manifest.family} ({manifest.variant}), parcel {release.parcel_digest}",
        },
        "security": [{"bearer": []}, {"key": []}, {}],
        "paths": {
            **_asked(manifest, example, known),
            **v2_paths(known, {code: {"$ref": f"#/components/responses/V2_{code}"} for code in REFUSALS}),
            **_informed(),
        },
        "components": _components(schemas, examples),
    }


def _components(schemas: Document, examples: Document) -> Document:
    return {
        "schemas": schemas,
        "examples": examples,
        "responses": {
            **{code: _refusal(code, "Problem") for code in REFUSALS},
            **{f"V2_{code}": _refusal(code, "V2Problem") for code in REFUSALS},
        },
        "securitySchemes": {
            "bearer": {"type": "http", "scheme": "bearer", "description": "an API key, or an OIDC token"},
            "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
        },
    }


def _refused(codes: Iterable[str]) -> Document:
    return {code: {"$ref": f"#/components/responses/{code}"} for code in codes}


def _refusal(code: str, schema: str) -> Document:
    """One refusal as a response of the document."""
    headers = {"Retry-After": {"description": "seconds", "schema": {"type": "string", "pattern": "^[0-9]+$"}}}
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {"description": REFUSALS[code], "content": content, **({"headers": headers} if code in _RETRIED else {})}


def _asked(manifest: Manifest, example: Mapping[str, Any], known: dict[str, list[str]]) -> Document:
    """The routes that take a request: predict and explain, of the default model and of each by its name."""
    paths: Document = {path: {"post": _predict(manifest, path, example, [])} for path in PREDICT_PATHS}
    paths["/explain"] = {"post": _explain(manifest, "/explain", example, [])}
    for head in ("/models/{model}", "/models/{model}/versions/{version}"):
        named = path_parameters(known, "{version}" in head)
        paths[f"{head}/predict"] = {"post": _predict(manifest, f"{head}/predict", example, named)}
        paths[f"{head}/explain"] = {"post": _explain(manifest, f"{head}/explain", example, named)}
        if manifest.network is not None:
            paths[f"{head}/route"] = {"post": _way(f"{head}/route", named)}
    if manifest.network is not None:
        paths["/route"] = {"post": _way("/route", [])}
    return paths


def _way(path: str, parameters: list[Document]) -> Document:
    """The quickest way over the network."""
    asked = {"application/json": {"schema": {"$ref": "#/components/schemas/WayRequest"}}}
    said = {"application/json": {"schema": {"$ref": "#/components/schemas/Way"}}}
    return {
        "operationId": _operation_id(path),
        "parameters": parameters,
        "requestBody": {"required": True, "content": asked},
        "responses": {
            "200": {"description": "the quickest way and others", "headers": _HEADERS, "content": said},
            **_refused(REFUSALS),
        },
    }


_HEADERS = {name: {"required": True, "schema": {"type": "string"}} for name in ("X-Prediction-Id", "X-Model-Digest")}


def _operation_id(path: str) -> str:
    return path.strip("/").replace("/", "_").replace("{", "").replace("}", "")


def _predict(manifest: Manifest, path: str, example: Mapping[str, Any], parameters: list[Document]) -> Document:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Answer"}}}
    if known := [spec.name for spec in intervals.specs(manifest)]:
        wishes = {"type": "array", "items": {"enum": known}}
        wish = {"name": WITH, "in": "query", "required": False, "style": "form", "explode": False, "schema": wishes}
        parameters = [*parameters, {**wish, "description": "what shall be said beside the forecast"}]
    return _operation(manifest, path, example, parameters, {"description": "predictions", "content": content})


def _explain(manifest: Manifest, path: str, example: Mapping[str, Any], parameters: list[Document]) -> Document:
    content = {
        FORMATS["json"]: {"schema": {"$ref": "#/components/schemas/Explanation"}},
        FORMATS["png"]: {"schema": {}},
    }
    success = {"description": "which inputs moved the answer, as JSON or as a picture", "content": content}
    return _operation(manifest, path, example, [*parameters, *_question(manifest)], success)


def _operation(
    manifest: Manifest, path: str, example: Mapping[str, Any], parameters: list[Document], success: Document
) -> Document:
    body = {kind: _body(manifest, path, kind, example) for kind in content_types(manifest)}
    return {
        "operationId": _operation_id(path),
        "parameters": parameters,
        "requestBody": {"required": True, "content": body},
        "responses": {"200": {**success, "headers": _HEADERS}, **_refused(REFUSALS)},
    }


def _body(manifest: Manifest, path: str, kind: str, example: Mapping[str, Any]) -> Document:
    """One way to send the input."""
    if kind == "application/json":
        named = {"examples": {"golden": {"$ref": "#/components/examples/Golden"}}}
        shown: Document = {"example": example} if path in PREDICT_PATHS else named
        return {"schema": {"$ref": "#/components/schemas/Request"}, **shown}
    if kind == "text/csv":
        table = {"golden": {"$ref": "#/components/examples/GoldenTable"}}
        what = _ROWS if manifest.inputs else _TABLE
        return {"schema": {"type": "string", "description": what}, "examples": table}
    tables = _ROWS if manifest.inputs else _TABLE
    what = tables if takes_tables(manifest) else "one picture of the contract's size, 8-bit grey or RGB"
    return {"schema": {"type": "string", "format": "binary", "description": what}}


_TABLE = (
    "the last past steps: `time` and a column for each node (`node:channel` where there are several channels), or "
    "`time`, `node` and a column for each channel; rows and columns in any order, cells empty where missing; a column "
    "`window` makes it several windows"
)


_ROWS = "one row a sample and a column for each label of the inputs, in any order; cells empty where missing"


def _csv_of_samples(manifest: Manifest, example: Mapping[str, Any]) -> str:
    """The golden request as a table of one row."""
    cells: dict[str, Any] = {}
    for spec in manifest.inputs:
        cells |= dict(zip(spec.labels, example["data"][spec.name], strict=True))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([cells, cells.values()])  # None is an empty cell
    return text.getvalue()


def _csv(manifest: Manifest, example: Mapping[str, Any]) -> str:
    """The golden request as a wide table."""
    window = example["data"]
    channels = manifest.channels
    names = [node if len(channels) == 1 else f"{node}:{channel}" for node in manifest.nodes for channel in channels]
    last = datetime.fromisoformat(window["time"])
    lines = [",".join(("time", *names))]
    for step, row in enumerate(window["values"]):
        time = last - timedelta(minutes=manifest.cadence_min * (manifest.past_steps - 1 - step))
        cells = [cell for node in row for cell in (node if isinstance(node, list) else [node])]
        lines.append(",".join((time.isoformat(), *("" if cell is None else str(np.float32(cell)) for cell in cells))))
    return "\n".join(lines) + "\n"


def _question(manifest: Manifest) -> list[Document]:
    """The query of an explanation."""
    asked: dict[str, Document] = {"format": {"enum": list(FORMATS)}, "method": {"enum": list(METHODS)}}
    fills = FILLS.get(manifest.task, FILLS_OF_TENSORS)
    asked["fill"] = {"enum": list(fills), "description": "what stands in for a hidden input"}
    if manifest.inputs:
        asked["output"] = {"description": "label of the answer that is explained"}
        asked["index"] = {"description": "place on the answer's axes before the last, from 0, as `2` or `2,0`"}
    elif manifest.task == "classify":
        asked["class"] = {"enum": list(manifest.classes), "description": "the likeliest where it is left out"}
    else:
        asked["node"] = {"enum": list(manifest.nodes)}
        steps = range(1, manifest.horizon_steps + 1)
        asked["step"] = {"enum": [str(step) for step in steps], "description": "of the horizon; or send its minutes"}
        minutes = [f"{manifest.cadence_min * step:g}" for step in steps]
        asked["horizon_min"] = {"enum": minutes, "description": "instead of `step`, not beside it"}
    return [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string", **schema}}
        for name, schema in asked.items()
    ]


def _informed() -> Document:
    """The routes that only inform."""
    text = {"text/plain": {"schema": {"type": "string"}}}
    refused = _refused(_READ_REFUSALS)
    page = {"200": {"description": "a page to try it", "content": {"text/html": {"schema": {"type": "string"}}}}}
    document = {"200": {"description": "this document", "content": {"application/json": {"schema": {}}}}}
    return {
        "/livez": {"get": _get("livez", {"200": {"description": "the process runs", "content": text}}, True)},
        "/readyz": {
            "get": _get(
                "readyz",
                {"200": {"description": "the parcel is verified and answers", "content": text}, **_refused(("503",))},
                True,
            )
        },
        "/metrics": {
            "get": _get("metrics", {"200": {"description": "Prometheus metrics", "content": text}, **refused})
        },
        "/docs.json": {"get": _get("docs", {**document, **refused})},
        "/": {"get": _get("page", {**page, **refused})},
    }


def _get(name: str, responses: Document, is_open: bool = False) -> Document:
    return {"operationId": name, "responses": responses, **({"security": [{}]} if is_open else {})}
