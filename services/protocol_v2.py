"""Open Inference Protocol v2 over REST, with the binary tensor extension.

Any client of KServe or Triton can call it. A binary request is a line of JSON and the tensors' bytes behind it; the
arrays lie on the body as it came, and the answer is put together with one copy. Errors are what the protocol says they
are, one sentence under `error`; it names what, where, expected and got.
"""

import time
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import orjson

from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.artifact.tensors import Spec, input_specs
from services.answers import (
    ANYBODY,
    CALLER,
    Caller,
    Headers,
    Receive,
    Refusal,
    Scope,
    Send,
    header,
    read_body,
    send_answer,
    sortable_id,
)
from services.batcher import check_wait
from services.observe import Metrics
from services.predictions import ARRIVED
from services.protocol_v2_infer import (
    EXTENSIONS,
    PLATFORM,
    SERVER,
    VERSION,
    Capture,
    Inference,
    Outputs,
    datatype_of,
    described_outputs,
    is_ready,
    refused,
    repository,
)
from services.protocol_v2_tensors import Reader, Tensors, check_parameters
from services.schemas import Release

if TYPE_CHECKING:
    from services.host import Host

HEADER_LENGTH = b"inference-header-content-length"
MODEL, INDEX = "/v2/models/{model}", "/v2/repository/index"
INFER = f"{MODEL}/infer"
_JSON = (b"content-type", b"application/json")
_BINARY = (b"content-type", b"application/octet-stream")

_Parameters = dict[str, bool | int | float | str | None] | None


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    datatype: str
    shape: list[int]
    parameters: _Parameters = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


class _Output(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    parameters: _Parameters = None


class _Body(msgspec.Struct, forbid_unknown_fields=True):
    inputs: list[_Input]
    outputs: list[_Output] | None = None
    id: str | None = None
    parameters: _Parameters = None


_BODY = msgspec.json.Decoder(_Body)


class ProtocolV2:
    """The ASGI application of every path under `/v2`."""

    def __init__(
        self, host: "Host", capture: Capture | None = None, metrics: Metrics | None = None, body_timeout_s: float = 30.0
    ) -> None:
        self._host = host
        self._metrics = metrics or Metrics()
        self._inference = Inference("v2", self._metrics, capture)
        self._body_timeout_s = body_timeout_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer; every refusal is JSON with one sentence under `error`."""
        headers: Headers = []
        route = "other"
        try:
            route, model, version = _route(scope["path"])
            _check_method(scope, route)
            if route == INFER:
                body = await self._infer(scope, receive, model, version, headers)
                if body is None:
                    return  # the client went away
                status = 200
            else:
                status, body = self._inform(scope, route, model, version)
                headers.append(_JSON)
        except Refusal as refusal:
            status, body = refusal.status, orjson.dumps({"error": refusal.in_words()})
            headers += refusal.headers
        self._metrics.answered(route, status)
        await send_answer(send, status, body, headers, with_body=scope["method"] != "HEAD")

    async def _infer(self, scope: Scope, receive: Receive, model: str, version: str, headers: Headers) -> bytes | None:
        prediction_id = sortable_id()
        headers.append((b"x-prediction-id", prediction_id.encode()))
        if arrived := scope.get(ARRIVED):
            check_wait(self._metrics.load, time.perf_counter() - arrived, self._host.deadline_s)
        served = self._host.find(model, version, _tenant(scope))
        headers.append((b"x-model-digest", served.model_digest))
        if (encoding := header(scope, b"content-encoding").lower()) not in (b"", b"identity"):
            raise Refusal(415, "encoded body", "content-encoding", "identity", encoding.decode("latin-1")[:200])
        raw_body = await read_body(scope, receive, served.release.max_body_bytes, self._body_timeout_s)
        if raw_body is None:
            return None
        try:
            request, tensors = _parse(served.manifest, raw_body, header(scope, HEADER_LENGTH))
            caller = scope.get(CALLER, ANYBODY)
            wanted = [output.name for output in request.outputs or ()]
            outputs = await self._inference.outputs(served, prediction_id, caller, tensors, wanted)
        except InputError as error:
            raise refused(error) from error
        return _answer(served.release, request, prediction_id, outputs, headers)

    def _inform(self, scope: Scope, route: str, model: str, version: str) -> tuple[int, bytes]:
        if route == MODEL:
            return 200, orjson.dumps(_metadata(self._host, model, version, _tenant(scope)))
        if route == f"{MODEL}/ready":
            ready = is_ready(self._host, model, version, _tenant(scope))
            return _said(ready), orjson.dumps({"name": model, "ready": ready})
        if route == "/v2/health/ready":
            ready = is_ready(self._host)
            return _said(ready), orjson.dumps({"ready": ready})
        if route == "/v2/health/live":
            return 200, orjson.dumps({"live": True})
        if route == INDEX:
            return 200, orjson.dumps([index._asdict() for index in repository(self._host)])
        return 200, orjson.dumps({"name": SERVER, "version": VERSION, "extensions": EXTENSIONS})


def _said(ready: bool) -> int:
    """This protocol's "no" is a status of 4xx."""
    return 200 if ready else 400


def _route(path: str) -> tuple[str, str, str]:
    """The route, named as in metrics, the model and its version; raises Refusal 404."""
    words = path.rstrip("/").split("/")[1:]
    if words[:2] == ["v2", "models"] and len(words) > 2:
        version, rest = (words[4], words[5:]) if words[3:4] == ["versions"] and len(words) > 4 else ("", words[3:])
        if rest in ([], ["ready"], ["infer"]):
            return "/".join((MODEL, *rest)), words[2], version
    elif path.rstrip("/") in ("/v2", "/v2/health/live", "/v2/health/ready", INDEX):
        return path.rstrip("/"), "", ""
    known = f"/v2, /v2/health/live, /v2/health/ready, {INDEX}, {MODEL}[/versions/{{version}}][/ready or /infer]"
    raise Refusal(404, "nothing is here", "path", known, path[:200])


def _check_method(scope: Scope, route: str) -> None:
    allowed = ("POST",) if route in (INFER, INDEX) else ("GET", "HEAD")
    if scope["method"] not in allowed:
        allow = (b"allow", ", ".join(allowed).encode())
        raise Refusal(405, "wrong method", scope["path"][:200], allowed[0], scope["method"], allow)


def _tenant(scope: Scope) -> str:
    """The caller's; what a header says counts only where nobody is asked who he is."""
    caller: Caller | None = scope.get(CALLER)
    return caller.tenant if caller else header(scope, b"x-tenant").decode("latin-1")


def _metadata(host: "Host", model: str, version: str, tenant: str) -> dict[str, Any]:
    served = host.find(model, version, tenant)
    return {
        "name": model,
        "versions": [version] if version else host.names().get(model, []),
        "platform": PLATFORM,
        "inputs": [_described(spec) for spec in input_specs(served.manifest)],
        "outputs": [_described(spec) for spec in described_outputs(served.manifest)],
    }


def _described(spec: Spec) -> dict[str, Any]:
    known = {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}
    return {**known, "parameters": {"note": spec.note}} if spec.note else known


def _parse(manifest: Manifest, raw_body: bytes, raw_length: bytes) -> tuple[_Body, Tensors]:
    """The JSON part of a body and the tensors of both parts; raises InputError."""
    body = memoryview(raw_body)
    length = len(body)
    if raw_length:
        length = int(raw_length) if raw_length.isdigit() and len(raw_length) < 19 else -1
        if not 0 <= length <= len(body):
            expected, got = f"0 to {len(body)}, the body's length", raw_length.decode("latin-1")[:60]
            raise InputError("wrong length of the JSON part", HEADER_LENGTH.decode(), expected, got)
    request = _decode(body[:length])
    check_parameters(request.parameters, "body")
    for output in request.outputs or ():
        check_parameters(output.parameters, output.name)
    return request, _read(Reader(manifest), request.inputs, body[length:])


def _decode(head: memoryview) -> _Body:
    try:  # msgspec says what is wrong with JSON by raising; a client needs it as an InputError
        return _BODY.decode(head)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        expected = "JSON with `inputs`, each of `name`, `datatype`, `shape` and `data` or `binary_data_size`"
        raise InputError("not an inference request", "body", expected, str(error)[:200]) from error


def _read(reader: Reader, inputs: list[_Input], blobs: memoryview) -> Tensors:
    position = 0
    for tensor in inputs:
        check_parameters(tensor.parameters, tensor.name)
        size = (tensor.parameters or {}).get("binary_data_size")
        if (size is None) == (tensor.data is msgspec.UNSET):
            got = "neither" if size is None else "both"
            raise InputError("where is the data?", tensor.name[:60], "either `data` or `binary_data_size`", got)
        if isinstance(tensor.data, msgspec.Raw):
            reader.json(tensor.name, tensor.datatype, tensor.shape, tensor.data)
            continue
        left = len(blobs) - position
        if type(size) is not int or not 0 <= size <= left:
            place = f"{tensor.name[:60]}.parameters.binary_data_size"
            raise InputError(
                "wrong length", place, f"0 to {left}, the bytes left behind the JSON part", repr(size)[:60]
            )
        reader.raw(tensor.name, tensor.datatype, tensor.shape, blobs[position : position + size])
        position += size
    if position != len(blobs):
        raise InputError("bytes left over", "body", f"{position} bytes behind the JSON part", str(len(blobs)))
    return reader.tensors


def _answer(release: Release, request: _Body, prediction_id: str, outputs: Outputs, headers: Headers) -> bytes:
    """The body of the answer: JSON, and behind it what was asked for in binary."""
    default = (request.parameters or {}).get("binary_data_output")
    wishes = {output.name: (output.parameters or {}).get("binary_data", default) for output in request.outputs or ()}
    described: list[dict[str, Any]] = []
    blobs: list[Any] = []
    for name, array in outputs.items():
        tensor: dict[str, Any] = {"name": name, "datatype": datatype_of(array), "shape": array.shape}
        if wishes.get(name, default):
            tensor["parameters"] = {"binary_data_size": array.nbytes}
            blobs.append(np.ascontiguousarray(array).data.cast("B"))
        else:
            tensor["data"] = array.ravel()
        described.append(tensor)
    about: dict[str, Any] = {"model_name": release.product, "model_version": str(release.version)}
    if request.id:
        about["id"] = request.id
    about["parameters"] = {"prediction_id": prediction_id, "model_digest": release.parcel_digest}
    about["outputs"] = described
    head = orjson.dumps(about, option=orjson.OPT_SERIALIZE_NUMPY)
    headers.append(_BINARY if blobs else _JSON)
    if not blobs:
        return head
    headers.append((HEADER_LENGTH, b"%d" % len(head)))
    return b"".join((head, *blobs))
