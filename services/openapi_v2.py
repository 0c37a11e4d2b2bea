"""OpenAPI of the Open Inference Protocol: tensors as JSON, its own errors."""

from collections.abc import Mapping, Sequence
from typing import Any

from models.artifact.manifest import Manifest
from models.artifact.tensors import Spec, input_specs
from services.openapi_schemas import array
from services.protocol_v2_infer import described_outputs

Document = dict[str, Any]

V2_PROBLEM: Document = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_BINARY = "a line of JSON, its length in Inference-Header-Content-Length, and the tensors' bytes behind it"
_READ = ("401", "403", "404", "405", "429", "503")
_PARAMETERS = {"type": "object"}
_JSON_TYPES: Document = {"FP32": ["number", "null"], "INT64": "integer", "BYTES": "string"}


def v2_schemas(manifest: Manifest) -> Document:
    """Components: a tensor each way, the request, the answer and the model's description."""
    name, number = {"type": "string"}, {"type": "integer", "minimum": 0}
    described = {"name": name, "datatype": {"enum": list(_JSON_TYPES)}, "shape": array({"type": "integer"})}
    answered = {"name": name, "datatype": {"enum": ["FP32", "INT64"]}, "shape": array(number)}
    return {
        "V2Request": _request(manifest),
        "V2Answer": {
            "type": "object",
            "required": ["model_name", "model_version", "outputs"],
            "properties": {
                "model_name": name,
                "model_version": name,
                "id": name,
                "parameters": _PARAMETERS,
                "outputs": array({
                    "type": "object",
                    "required": list(answered),
                    "properties": {**answered, "parameters": _PARAMETERS, "data": array({"type": ["number", "null"]})},
                }),
            },
        },
        "V2Model": {
            "type": "object",
            "required": ["name", "platform", "inputs", "outputs"],
            "properties": {
                "name": name,
                "versions": array(name),
                "platform": name,
                **{way: array({"type": "object", "required": list(described), "properties": described})
                   for way in ("inputs", "outputs")},
            },
        },
    }  # fmt: skip


def _request(manifest: Manifest) -> Document:
    wished = {"name": {"enum": [spec.name for spec in described_outputs(manifest)]}, "parameters": _PARAMETERS}
    wish = {"type": "object", "required": ["name"], "additionalProperties": False, "properties": wished}
    sent = array({"oneOf": [_sent(spec, manifest.max_batch) for spec in input_specs(manifest)]})
    properties = {
        "id": {"type": "string"},
        "parameters": _PARAMETERS,
        "inputs": {**sent, "minItems": 1, "description": "every tensor has the same batch size"},
        "outputs": array(wish),
    }
    return {"type": "object", "required": ["inputs"], "additionalProperties": False, "properties": properties}


def v2_paths(known: Mapping[str, Sequence[str]], refused: Mapping[str, Document]) -> Document:
    """Every path under /v2; `refused` holds the response of each status."""
    ready = {"type": "object", "required": ["ready"], "properties": {"ready": {"type": "boolean"}}}
    live = {"type": "object", "required": ["live"], "properties": {"live": {"const": True}}}
    names = {"name": {"type": "string"}, "version": {"type": "string"}}
    server = {**names, "extensions": array({"type": "string"})}
    index = {**names, "state": {"type": "string"}, "reason": {"type": "string"}}
    paths: Document = {
        "/v2": {"get": _get("v2_server", _object(server), refused)},
        "/v2/health/live": {"get": {**_get("v2_live", live, {}), "security": [{}]}},
        "/v2/health/ready": {"get": {**_get("v2_ready", ready, {}), "security": [{}]}},
        "/v2/repository/index": {"post": _get("v2_index", array(_object(index)), refused)},
    }
    paths["/v2/health/ready"]["get"]["responses"]["400"] = _response("not ready", ready)
    for head in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        name = head.strip("/").replace("/", "_").replace("{", "").replace("}", "")
        parameters = path_parameters(known, "{version}" in head)
        paths[head] = {"get": {**_get(name, _ref("V2Model"), refused), "parameters": parameters}}
        one = _get(f"{name}_ready", ready, refused)
        one["responses"]["400"] = _response("not ready", ready)
        paths[f"{head}/ready"] = {"get": {**one, "parameters": parameters}}
        paths[f"{head}/infer"] = {"post": {**_infer(f"{name}_infer", refused), "parameters": parameters}}
    return paths


def _infer(name: str, refused: Mapping[str, Document]) -> Document:
    binary = {"schema": {"type": "string", "format": "binary", "description": _BINARY}}
    headers = {header: {"required": True, "schema": {"type": "string"}}
               for header in ("X-Prediction-Id", "X-Model-Digest")}  # fmt: skip
    answer = {"application/json": {"schema": _ref("V2Answer")}, "application/octet-stream": {"schema": {}}}
    body = {"application/json": {"schema": _ref("V2Request")}, "application/octet-stream": binary}
    success = {"description": "output tensors", "headers": headers, "content": answer}
    return {
        "operationId": name,
        "requestBody": {"required": True, "content": body},
        "responses": {"200": success, **refused},
    }


def _sent(spec: Spec, max_batch: int) -> Document:
    """One input tensor, its values flat, nested like its shape, or in the binary part."""
    value = {"type": _JSON_TYPES[spec.datatype]}
    shape = [{"type": "integer", "minimum": 1, "maximum": max_batch}, *({"const": size} for size in spec.shape[1:])]
    properties = {
        "name": {"const": spec.name},
        "datatype": {"const": spec.datatype},
        "shape": {"type": "array", "prefixItems": shape, "minItems": len(shape), "maxItems": len(shape)},
        "data": {**array({"anyOf": [value, {"type": "array"}]}), "description": "flat, or nested like its shape"},
        "parameters": {**_PARAMETERS, "description": "`binary_data_size` where the values are in the binary part"},
    }
    return {
        "type": "object",
        "required": ["name", "datatype", "shape"],
        "properties": properties,
        "additionalProperties": False,
        **({"description": spec.note} if spec.note else {}),
    }


def path_parameters(known: Mapping[str, Sequence[str]], with_version: bool) -> list[Document]:
    """Model, and version, of a path; only the known ones."""
    versions = sorted({version for each in known.values() for version in each})
    values = {"model": list(known), **({"version": versions} if with_version else {})}
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "enum": list(choices)}}
        for name, choices in values.items()
    ]


def _get(name: str, schema: Document, refused: Mapping[str, Document]) -> Document:
    codes = {code: refused[code] for code in _READ if code in refused}
    return {"operationId": name, "responses": {"200": _response("as asked", schema), **codes}}


def _response(description: str, schema: Document) -> Document:
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def _object(properties: Document) -> Document:
    return {"type": "object", "required": list(properties), "properties": properties}


def _ref(name: str) -> Document:
    return {"$ref": f"#/components/schemas/{name}"}
