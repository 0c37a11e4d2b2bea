"""Tensors of the Open Inference Protocol as bytes and as JSON, for REST and gRPC.

A stranger's shape is held against the contract before a byte of the tensor is looked at, so a body's own length is all
that it can make us hold. Raw floats are not copied: the array lies on the body that came.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from types import GenericAlias
from typing import Annotated, Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from models.artifact.checks import InputError, check_count, sizes, to_array
from models.artifact.manifest import Manifest
from models.artifact.tensors import Spec, check_declared, input_specs

DTYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
LENGTH_BYTES = 4  # before each element of BYTES: its length, little-endian
# Extensions of other servers that would change what an answer means: refused rather than passed over.
UNSUPPORTED = ("shared_memory_region", "classification", "sequence_id", "sequence_start", "sequence_end", "priority")

_Whole = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_ITEMS: dict[str, Any] = {"FP32": float | None, "INT64": _Whole, "BYTES": str}

Tensors = dict[str, NDArray[Any]]


class Reader:
    """Takes the tensors of one request one after the other, each checked before it is read."""

    def __init__(self, manifest: Manifest) -> None:
        self._specs: tuple[Spec, ...] = input_specs(manifest)
        self._max_batch = manifest.max_batch
        self.tensors: Tensors = {}

    def declare(self, name: str, datatype: str, shape: Sequence[int]) -> int:
        """The number of elements to come; raises InputError where no such tensor is wanted, or not once more."""
        num_elements = check_declared(self._specs, name, datatype, shape, self._max_batch)
        if name in self.tensors:
            raise InputError("repeated tensor", "inputs", "every tensor once", f"{name!r} more than once")
        return num_elements

    def raw(self, name: str, datatype: str, shape: Sequence[int], content: bytes | memoryview) -> None:
        """A tensor as little-endian bytes, row by row."""
        num_elements = self.declare(name, datatype, shape)
        if datatype == "BYTES":
            self.tensors[name] = np.array(_texts(name, content, num_elements), object)
            return
        dtype = DTYPES[datatype]
        if len(content) != num_elements * dtype.itemsize:
            expected = f"{num_elements * dtype.itemsize} bytes of {datatype} {sizes(shape)}"
            raise InputError("wrong length", name, expected, f"{len(content)} bytes")
        array = np.frombuffer(content, dtype).reshape(tuple(shape))
        self.tensors[name] = array if array.flags.aligned else array.copy()

    def values(self, name: str, datatype: str, shape: Sequence[int], values: Sequence[Any]) -> None:
        """A tensor as a flat sequence of numbers or texts."""
        num_elements = self.declare(name, datatype, shape)
        if len(values) != num_elements:
            raise InputError("wrong length", name, f"{num_elements} elements of {datatype}", str(len(values)))
        array = np.array(values, DTYPES.get(datatype, np.dtype(object)))
        self.tensors[name] = array.reshape(tuple(shape))

    def json(self, name: str, datatype: str, shape: Sequence[int], data: msgspec.Raw) -> None:
        """A tensor as JSON, flat or nested like its shape; null is a missing FP32."""
        where = f"{name}.data"
        check_count(data, 2 * self.declare(name, datatype, shape) + 16, where)  # a text may hold a comma of its own
        array = _from_json(datatype, len(shape), data, where)
        if array.shape != tuple(shape) and array.shape != (num_elements := int(np.prod(shape)),):
            raise InputError("wrong shape", where, f"{sizes(shape)} or [{num_elements}]", sizes(array.shape))
        self.tensors[name] = array.reshape(tuple(shape))


def check_parameters(parameters: Mapping[str, Any] | None, where: str) -> None:
    """Refuse what would change the meaning of an answer and is not done here; other parameters pass."""
    for name in UNSUPPORTED:
        if parameters and parameters.get(name):
            expected = "none: not supported by this server"
            raise InputError("unsupported parameter", f"{where}.parameters", expected, repr(name))


@cache
def _decoder(datatype: str, num_axes: int) -> Any:
    """Decodes lists of this type, nested up to so many times."""
    item = _ITEMS[datatype]
    kind = GenericAlias(list, item)
    for _ in range(num_axes - 1):
        kind = GenericAlias(list, item | kind)
    return msgspec.json.Decoder(kind)


def _from_json(datatype: str, num_axes: int, data: msgspec.Raw, where: str) -> NDArray[Any]:
    try:  # msgspec says what is wrong with JSON by raising; a client needs it as an InputError
        values = _decoder(datatype, num_axes).decode(data)
        if datatype == "FP32":
            return to_array(values, where)
        if datatype == "INT64":
            to_array(values, where)  # refuses ragged ones
            return np.array(values, np.int64)
        return np.array(values, object)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InputError("wrong data", where, f"{datatype}, flat or nested like its shape", str(error)[:200]) from error


def _texts(name: str, content: bytes | memoryview, num_elements: int) -> list[bytes]:
    """The elements of BYTES, each after its length."""
    texts, position, whole = [], 0, bytes(content)
    for index in range(num_elements):
        start = position + LENGTH_BYTES
        position = start + int.from_bytes(whole[position:start], "little")
        if position > len(whole) or start > len(whole):
            got = f"the tensor's {len(whole)} bytes end before that"
            raise InputError("wrong length", f"{name}[{index}]", "a length of 4 bytes and as many bytes", got)
        texts.append(whole[start:position])
    if position != len(whole):
        raise InputError("wrong length", name, f"{position} bytes for {num_elements} elements", f"{len(whole)} bytes")
    return texts
