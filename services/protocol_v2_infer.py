"""One inference of the Open Inference Protocol: REST and gRPC share every step of it."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from models.artifact import intervals, tensors
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from services.answers import Caller, Refusal
from services.batcher import rows_in
from services.observe import Metrics
from services.runtime import LOG

if TYPE_CHECKING:
    from services.host import Host

PLATFORM = "onnx_onnxv1"
SERVER, VERSION = "roadworthy", "2"
EXTENSIONS = ("binary_tensor_data", "model_repository")

Outputs = dict[str, NDArray[Any]]


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
        self,
        served: Any,
        prediction_id: str,
        caller: Caller,
        raw_tensors: Mapping[str, NDArray[Any]],
        wanted: Sequence[str] = (),
    ) -> Outputs:
        """The wanted outputs, in that order, or all that need no asking.

        Raises InputError for a broken contract, Refusal for everything else.
        """
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
        self.metrics.predicted(rows_in(inputs), time.perf_counter() - started, served.name, self.protocol)
        if self.capture is not None:
            self.capture.offer(served, prediction_id, caller, self.protocol, inputs, outputs)
        return chosen(served.manifest, outputs, wanted) if wanted else outputs


def chosen(manifest: Manifest, outputs: Outputs, wanted: Sequence[str]) -> Outputs:
    """The outputs that were asked for, in that order; raises InputError."""
    wishes = [spec.name for spec in intervals.specs(manifest) if spec.name in wanted]
    for name in wanted:
        if name not in outputs and name not in wishes:
            raise InputError("unknown output", "outputs", f"one of {', '.join((*outputs, *wishes))}", repr(name[:60]))
    if wishes:
        outputs = {**outputs, **intervals.beside(manifest, outputs["forecast"], wishes)}
    return {name: outputs[name] for name in wanted}


def described_outputs(manifest: Manifest) -> tuple[tensors.Spec, ...]:
    """What can be asked for: what is given to everybody first."""
    return (*tensors.output_specs(manifest), *intervals.specs(manifest))


def datatype_of(array: NDArray[Any]) -> str:
    """The protocol's name of an output's type."""
    return "INT64" if array.dtype == np.int64 else "FP32"


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
