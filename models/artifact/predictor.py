"""The one way from inputs to predictions: what is judged is what is served.

Every byte is verified before ONNX Runtime parses one, and the graph is built from the bytes that were verified.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from models.artifact import wire
from models.artifact.manifest import GOLDEN_FILE, MODEL_FILE, Manifest, ParcelError
from models.artifact.sealed import read_parcel


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A real request, what it must be answered, and the difference allowed as a share of the answer's scale."""

    request: Any
    predictions: Any
    tolerance: float


@dataclass(frozen=True)
class Predictor:
    """An opened, verified parcel.

    num_bytes: size of `model.onnx`
    golden_difference: how far the golden request's answer was off when it was opened, as a share of its scale;
        at most `golden_tolerance`
    golden: the request and the answer that were tried
    """

    manifest: Manifest
    num_bytes: int
    golden_difference: float
    golden_tolerance: float
    _session: Any
    _names: tuple[str, ...]
    golden: Golden | None = None
    _outputs: tuple[str, ...] = ()

    @classmethod
    def open(
        cls,
        folder: Path,
        num_threads: int = 1,
        seal_key: bytes | None = None,
        contents: Mapping[str, bytes] | None = None,
    ) -> "Predictor":
        """Verify, load and try the parcel in `folder`; raises ParcelError, and then nothing of it was served.

        seal_key: opens sealed weights
        contents: the parcel's files where they were read already, e.g. while their signature was verified
        One thread: on a shared machine rows of small graphs are faster than their hand-over between threads.
        """
        manifest, files = read_parcel(folder, seal_key, contents)
        session = open_session(files[MODEL_FILE], num_threads)
        names = tuple(item.name for item in session.get_inputs())
        golden = msgspec.json.decode(files[GOLDEN_FILE], type=Golden)
        untried = cls(
            manifest,
            len(files[MODEL_FILE]),
            0.0,
            golden.tolerance,
            session,
            names,
            golden,
            (session.get_outputs()[0].name,),
        )
        difference = untried.difference_from(golden)
        if not difference <= golden.tolerance:  # NaN is refused too
            raise ParcelError(
                f"parcel {folder.name}: the golden request is not reproduced: the answer is off by {difference:.2%} of "
                f"its scale, allowed {golden.tolerance:.2%}; it is not served"
            )
        return replace(untried, golden_difference=difference)

    def predict(self, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        """Forecasts [B, H, N] in physical units, or logits [B, K], from the inputs of a `Batch`; any batch size."""
        feed = {name: inputs[name] for name in self._names}
        outputs: NDArray[np.float32] = self._session.run(self._outputs or None, feed)[0]
        return outputs

    def difference_from(self, golden: Golden) -> float:
        """Largest difference from the golden answer, as a share of its largest value."""
        request = wire.parse_request(self.manifest, msgspec.json.encode(golden.request))
        answer = wire.answer(self.manifest, self.predict(request.inputs), request.is_list)
        expected = wire.numbers(golden.predictions)
        got = wire.numbers(answer["predictions"])
        if expected.shape != got.shape:
            return float("inf")
        return float(np.abs(got - expected).max() / max(float(np.abs(expected).max()), 1e-12))


def open_session(model: bytes, num_threads: int = 1) -> Any:
    """An ONNX Runtime session on the CPU over these bytes."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
