"""Two answers to one request, held against each other: the difference as a share of scale.

Counted is what a model said (`predictions`, or the tensors of the Open Inference Protocol, JSON or binary); ids,
versions and times always differ.
"""

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact.wire import numbers

DIFFERENT = 1.0  # another status, another shape, or no numbers where there were some
_BINARY = {
    "FP16": "<f2", "FP32": "<f4", "FP64": "<f8", "INT8": "<i1", "INT16": "<i2", "INT32": "<i4", "INT64": "<i8",
    "UINT8": "<u1", "UINT16": "<u2", "UINT32": "<u4", "UINT64": "<u8", "BOOL": "<u1",
}  # fmt: skip
_TINY = 1e-12


def disagreement(status: int, body: bytes, head_size: int, other_status: int, other: bytes, other_size: int) -> float:
    """From 0 (the same) to 1: the largest difference of a number as a share of the largest number of the first answer.

    `head_size` is the Inference-Header-Content-Length of a binary answer, 0 otherwise. Refusals agree with refusals
    of the same status.
    """
    if status != other_status:
        return DIFFERENT
    if status >= 300:
        return 0.0
    first, second = read_numbers(body, head_size), read_numbers(other, other_size)
    if first is None and second is None:
        return 0.0 if body == other else DIFFERENT
    if first is None or second is None:
        return DIFFERENT
    return difference(first, second)


def difference(expected: NDArray[np.float64], got: NDArray[np.float64]) -> float:
    """From 0 to 1, of two rows of numbers; 1 where their lengths differ or one of them is not finite."""
    if expected.shape != got.shape:
        return DIFFERENT
    if not expected.size:
        return 0.0
    off = float(np.abs(got - expected).max()) / max(float(np.abs(expected).max()), _TINY)
    return min(off, DIFFERENT) if np.isfinite(off) else DIFFERENT


def read_numbers(body: bytes, head_size: int = 0) -> NDArray[np.float64] | None:
    """Every number that an answer predicts, in order; None when it is no prediction."""
    try:
        record = orjson.loads(body[:head_size] if head_size else body)
        if not isinstance(record, dict):
            return None
        if "predictions" in record:
            return numbers(record["predictions"])
        if "outputs" not in record:
            return None
        return _tensors(record["outputs"], body[head_size:] if head_size else b"")
    except (ValueError, KeyError, TypeError, AttributeError):  # a stranger's JSON; to hold it against another is no use
        return None


def _tensors(outputs: list[dict[str, Any]], binary: bytes) -> NDArray[np.float64]:
    """The tensors of a v2 answer, one after the other."""
    parts, start = [], 0
    for output in outputs:
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            parts.append(np.asarray(output["data"], np.float64).ravel())
        else:
            parts.append(np.frombuffer(binary[start : start + size], _BINARY[output["datatype"]]).astype(np.float64))
            start += size
    return np.concatenate(parts) if parts else np.zeros(0)
