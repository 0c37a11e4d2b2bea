"""One inference of the Open Inference Protocol: REST and gRPC share every step of it."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.artifact import tensors
from models.artifact.checks import InputError
from services.answers import Caller, Refusal
from services.observe import Metrics
from services.runtime import LOG

if TYPE_CHECKING:
    from services.host import Host

PLATFORM = "onnx_onnxv1"
SERVER, VERSION = "roadworthy", "2"
EXTENSIONS = ("binary_tensor_data", "model_repository")

Outputs = dict[str, NDArray[np.float32]]


class Capture(Protocol):
    """What is told of every answer; never blocks, never raises."""

    def offer(
        self,
        served: Any,
        prediction_id: str,
        caller: Caller,
        protocol: str,
        inputs: Mapping[str, NDArray[Any]],
        outputs: Mapping[str, NDArray[np.float32]],
    ) -> None: ...


@dataclass(frozen=True)
class Inference:
    """Checks, predicts, counts and offers for capture; `protocol` is the name under which it does so."""

    protocol: str
    metrics: Metrics
    capture: Capture | None = None

    async def outputs(
        self, served: Any, prediction_id: str, caller: Caller, raw_tensors: Mapping[str, NDArray[Any]]
    ) -> Outputs:
        """The named output tensors; raises InputError for a broken contract, Refusal for everything else."""
        started = time.perf_counter()
        inputs = tensors.inputs(served.manifest, raw_tensors)
        try:
            outputs: Outputs = await served.infer(inputs)
        except Refusal:
            raise
        except Exception as error:  # the service edge: a client learns the id, the log the rest
            LOG.exception("prediction %s failed", prediction_id)
            raise Refusal(
                500, "the prediction failed", "infer", "an answer", f"see the log, {prediction_id}"
            ) from error
        self.metrics.predicted(len(inputs["x"]), time.perf_counter() - started, served.name, self.protocol)
        if self.capture is not None:
            self.capture.offer(served, prediction_id, caller, self.protocol, inputs, outputs)
        return outputs


def chosen(outputs: Outputs, wanted: Iterable[str]) -> Outputs:
    """The outputs that were asked for, in that order, all where none were named; raises InputError."""
    names = list(wanted)
    for name in names:
        if name not in outputs:
            raise InputError("unknown output", "outputs", f"one of {', '.join(outputs)}", repr(name[:60]))
    return {name: outputs[name] for name in names} if names else outputs


def is_ready(host: "Host", name: str = "", version: str = "", tenant: str = "") -> bool:
    """Whether this model answers; raises Refusal 404 where there is none of that name."""
    try:  # the host says that nothing is served by raising; a probe needs it as an answer
        host.find(name, version, tenant)
    except Refusal as refusal:
        if refusal.status == 503:
            return False
        raise
    return True


class Index(NamedTuple):
    """One served version, as the model repository extension lists it."""

    name: str
    version: str
    state: str = "READY"
    reason: str = ""


def repository(host: "Host") -> list[Index]:
    """Every version of every model that answers."""
    return [Index(name, version) for name, versions in host.names().items() for version in versions]


def refused(error: InputError) -> Refusal:
    """A broken contract is status 400 in this protocol."""
    return Refusal(400, error.what, error.where, error.expected, error.got)
