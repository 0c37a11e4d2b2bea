"""Messages of the gRPC service: what is asked, what is answered, and the tensors in both.

Apart from the server so that none of it waits, calls or listens.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from google.protobuf.message import DecodeError, Message

from models.artifact.checks import InputError
from models.artifact.tensors import Spec, input_specs
from services import inference_pb2 as messages
from services.answers import Refusal
from services.protocol_v2_infer import (
    EXTENSIONS,
    PLATFORM,
    SERVER,
    VERSION,
    Outputs,
    datatype_of,
    described_outputs,
    is_ready,
    repository,
)
from services.protocol_v2_tensors import DTYPES, Reader, Tensors, check_parameters
from services.schemas import Release

if TYPE_CHECKING:
    from services.host import Host

CONTENTS = {"FP32": "fp32_contents", "INT64": "int64_contents", "BYTES": "bytes_contents"}

M = TypeVar("M", bound=Message)
Answer = Callable[["Host", Any, str], Message]  # host, request, tenant


def parsed(kind: type[M], raw_message: bytes) -> M:
    """The message; raises Refusal 400 for bytes that are none."""
    try:  # protobuf says so by raising; a client needs it as an answer
        message: M = kind.FromString(raw_message)
    except DecodeError as error:
        expected, got = f"a serialised {kind.__name__}", f"{len(raw_message)} bytes that are none"
        raise Refusal(400, "not a message", "request", expected, got) from error
    return message


def read_tensors(request: messages.ModelInferRequest, reader: Reader) -> Tensors:
    """The tensors of a request, from raw contents where there are any; raises InputError."""
    _check_parameters(request.parameters, "request")
    for output in request.outputs:
        _check_parameters(output.parameters, output.name)
    raw, num_inputs = request.raw_input_contents, len(request.inputs)
    if raw and len(raw) != num_inputs:
        raise InputError("wrong length", "raw_input_contents", f"{num_inputs}, as many as inputs", str(len(raw)))
    for index, tensor in enumerate(request.inputs):
        _check_parameters(tensor.parameters, tensor.name)
        if raw:
            if tensor.HasField("contents"):
                expected = "raw_input_contents or contents"
                raise InputError("where is the data?", tensor.name[:60], expected, "both")
            reader.raw(tensor.name, tensor.datatype, tensor.shape, raw[index])
        else:
            values = getattr(tensor.contents, CONTENTS.get(tensor.datatype, "fp32_contents"))
            reader.values(tensor.name, tensor.datatype, tensor.shape, values)
    return reader.tensors


def response_of(
    release: Release, request: messages.ModelInferRequest, prediction_id: str, outputs: Outputs
) -> messages.ModelInferResponse:
    """The answer, raw as the request was, or else typed."""
    response = messages.ModelInferResponse(
        model_name=release.product, model_version=str(release.version), id=request.id
    )
    response.parameters["prediction_id"].string_param = prediction_id
    response.parameters["model_digest"].string_param = release.parcel_digest
    for name, array in outputs.items():
        datatype = datatype_of(array)
        tensor = response.outputs.add(name=name, datatype=datatype, shape=array.shape)
        if request.raw_input_contents:
            response.raw_output_contents.append(np.ascontiguousarray(array, DTYPES[datatype]).tobytes())
        else:
            getattr(tensor.contents, CONTENTS[datatype]).extend(array.ravel().tolist())
    return response


def _check_parameters(parameters: Any, where: str) -> None:
    if parameters:
        check_parameters(dict.fromkeys(parameters, True), where[:60])


def _live(_host: "Host", _request: Any, _tenant: str) -> Message:
    return messages.ServerLiveResponse(live=True)


def _ready(host: "Host", _request: Any, _tenant: str) -> Message:
    return messages.ServerReadyResponse(ready=is_ready(host))


def _model_ready(host: "Host", request: Any, tenant: str) -> Message:
    return messages.ModelReadyResponse(ready=is_ready(host, request.name, request.version, tenant))


def _server(_host: "Host", _request: Any, _tenant: str) -> Message:
    return messages.ServerMetadataResponse(name=SERVER, version=VERSION, extensions=EXTENSIONS)


def _model(host: "Host", request: Any, tenant: str) -> Message:
    served = host.find(request.name, request.version, tenant)
    return messages.ModelMetadataResponse(
        name=request.name or served.release.product,
        versions=[request.version] if request.version else host.names().get(request.name, []),
        platform=PLATFORM,
        inputs=[_described(spec) for spec in input_specs(served.manifest)],
        outputs=[_described(spec) for spec in described_outputs(served.manifest)],
    )


def _index(host: "Host", _request: Any, _tenant: str) -> Message:
    kind = messages.RepositoryIndexResponse.ModelIndex
    return messages.RepositoryIndexResponse(models=[kind(**index._asdict()) for index in repository(host)])


def _described(spec: Spec) -> messages.ModelMetadataResponse.TensorMetadata:
    return messages.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=spec.datatype, shape=spec.shape)


# Of each method that only informs: what is asked, whether anybody may, as with /livez and /readyz, and the answer.
QUESTIONS: dict[str, tuple[type[Message], bool, Answer]] = {
    "ServerLive": (messages.ServerLiveRequest, True, _live),
    "ServerReady": (messages.ServerReadyRequest, True, _ready),
    "ModelReady": (messages.ModelReadyRequest, False, _model_ready),
    "ServerMetadata": (messages.ServerMetadataRequest, False, _server),
    "ModelMetadata": (messages.ModelMetadataRequest, False, _model),
    "RepositoryIndex": (messages.RepositoryIndexRequest, False, _index),
}
