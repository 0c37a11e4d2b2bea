"""Reads sound JSON requests of the tensor tasks fast; every other one is left to `wire`.

As `reader` does for windows: what is left of a tensor's text without its numbers must be exactly the brackets and
commas of its shape, and then its numbers are read as one flat list.
"""

import math
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact import tensors
from models.artifact.manifest import Manifest
from models.artifact.samples import EXACT
from models.data.card import TensorSpec

NUMBER = b"0123456789+-.eEnul \t\r\n"  # every byte of a number, of null, and of white space

Inputs = dict[str, NDArray[Any]]


class RawSamples(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """A body whose tensors are not read yet."""

    data: dict[str, msgspec.Raw] | list[dict[str, msgspec.Raw]]


class SampleReader:
    """Puts the tensors of a decoded body together."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._specs = [(spec, math.prod(spec.shape), brackets(spec.shape)) for spec in manifest.inputs]

    def read(self, body: RawSamples) -> tuple[Inputs, bool] | None:
        """The checked inputs and whether a list came; None for what must be looked at closer.

        Raises InputError, and what the libraries raise, where `wire` is to say what is wrong.
        """
        is_list = isinstance(body.data, list)
        items: list[dict[str, msgspec.Raw]] = body.data if is_list else [body.data]  # type: ignore[list-item, assignment]
        if not 1 <= len(items) <= self._manifest.max_batch:
            return None
        arrays: Inputs = {}
        for spec, size, form in self._specs:
            array = np.empty((len(items), size), spec.dtype)
            for row, item in enumerate(items):
                if len(item) != len(self._specs) or not self._fill(array, row, bytes(item[spec.name]), spec, form):
                    return None
            arrays[spec.name] = array.reshape(len(items), *spec.shape)
        return tensors.inputs(self._manifest, arrays), is_list

    def _fill(self, array: NDArray[Any], row: int, text: bytes, spec: TensorSpec, form: bytes) -> bool:
        """Write one tensor's numbers into its row; whether they were of its shape and kind."""
        if text.translate(None, NUMBER) != form:
            return False
        numbers = flat(text)
        if spec.dtype == "int64" and any(type(number) is not int or abs(number) > EXACT for number in numbers):
            return False
        array[row] = numbers if spec.dtype == "int64" else float32(numbers)
        return True


def flat(text: bytes) -> list[Any]:
    """The numbers of a nested list, in order."""
    numbers: list[Any] = orjson.loads(b"[%b]" % text.translate(None, b"[]"))
    return numbers


def float32(numbers: list[Any]) -> NDArray[np.float32]:
    """NaN for null; what is too large becomes infinite, and so out of range."""
    with np.errstate(over="ignore"):
        return np.array(numbers, np.float32)


def brackets(shape: tuple[int, ...]) -> bytes:
    """What is left of an array of this shape without its numbers."""
    if not shape:
        return b""
    text = b"[" + b"," * (shape[-1] - 1) + b"]"
    for size in shape[-2::-1]:
        text = b"[%b]" % b",".join([text] * size)
    return text
