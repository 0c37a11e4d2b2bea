"""Requests of the tensor tasks: named tensors, as JSON or as arrays, checked.

JSON: `{"data": {"<input>": nested list, ...}}` or a list of such objects, null where something is missing and may be.
A one-dimensional input whose entries have names, as the features of a table do, may come as `{name: number}` instead.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.checks import InputError, check_batch, sizes, to_array
from models.artifact.manifest import Manifest
from models.data.card import TENSOR_KINDS, TensorSpec

DATATYPES = {"float32": "FP32", "int64": "INT64"}
_NUM_NAMED = 12  # how many names a message lists
EXACT = 2**53  # whole numbers that JSON carries exactly
_LARGEST = 2**1024  # from here on a whole number is no double


def output_name(manifest: Manifest) -> str:
    """What the output tensor is called: its own name for a quantity, else what it becomes."""
    assert manifest.output is not None
    return manifest.output.name if TENSOR_KINDS[manifest.task] == "value" else "probabilities"


def sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Probabilities of yes."""
    shares: NDArray[np.float32] = (0.5 * (1 + np.tanh(0.5 * logits.astype(np.float64)))).astype(np.float32)
    return shares


def parse_samples(manifest: Manifest, data: Any) -> tuple[dict[str, NDArray[Any]], bool]:
    """The checked inputs [B, *shape] and whether a list came; raises InputError."""
    is_list = isinstance(data, list)
    items = data if is_list else [data]
    check_batch(manifest, len(items), "data")
    rows = [_parse_one(manifest, item, f"data[{row}]" if is_list else "data") for row, item in enumerate(items)]
    return {spec.name: np.stack([row[spec.name] for row in rows]) for spec in manifest.inputs}, is_list


def build_sample(specs: Sequence[TensorSpec], inputs: Mapping[str, NDArray[Any]], row: int = 0) -> dict[str, Any]:
    """The body that asks for one sample of a batch, null for NaN."""
    named = {}
    for spec in specs:
        values = inputs[spec.name][row]
        if spec.can_miss and np.isnan(values).any():
            holes = values.astype(object)
            holes[np.isnan(values)] = None
            named[spec.name] = holes.tolist()
        else:
            named[spec.name] = values.tolist()
    return {"data": named}


def check_tensors(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """A client's arrays, whose names, types and shapes fit already, by content; raises InputError."""
    absent = [spec.name for spec in manifest.inputs if spec.name not in tensors]
    if absent:
        raise InputError("missing tensor", "inputs", ", ".join(s.name for s in manifest.inputs), f"no {absent[0]}")
    num_rows = len(tensors[manifest.inputs[0].name])
    for spec in manifest.inputs:
        if len(tensors[spec.name]) != num_rows:
            got = f"{len(tensors[spec.name])}"
            raise InputError("wrong batch size", spec.name, f"{num_rows} items, as in {manifest.inputs[0].name}", got)
        _check_values(spec, tensors[spec.name], spec.name)
    return {spec.name: tensors[spec.name] for spec in manifest.inputs}


def _parse_one(manifest: Manifest, item: Any, at: str) -> dict[str, NDArray[Any]]:
    names = [spec.name for spec in manifest.inputs]
    if not isinstance(item, dict):
        got = "array" if isinstance(item, list) else repr(item)[:40]
        raise InputError("wrong type", at, f"an object with {', '.join(names)}", got)
    if unknown := [name for name in item if name not in names]:
        raise InputError(
            "unknown field", f"{at}.{unknown[0][:60]}", f"one of {', '.join(names)}", repr(unknown[0][:60])
        )
    if absent := [name for name in names if name not in item]:
        raise InputError("missing field", at, f"the field `{absent[0]}`", "none")
    return {spec.name: _tensor(spec, item[spec.name], f"{at}.{spec.name}") for spec in manifest.inputs}


def _tensor(spec: TensorSpec, value: Any, at: str) -> NDArray[Any]:
    if isinstance(value, dict):
        value = _by_label(spec, value, at)
    if not isinstance(value, list) and spec.shape:
        raise InputError("wrong type", at, f"a list {sizes(spec.shape)}", repr(value)[:40])
    _check_leaves(value, at)
    values: NDArray[Any] = to_array(value if spec.shape else [value], at)
    values = values if spec.shape else values[0]
    if values.shape != spec.shape:
        raise InputError("wrong shape", at, sizes(spec.shape) or "a number", sizes(values.shape) or "a number")
    if spec.dtype == "int64":
        values = _whole(value, at)
    _check_values(spec, values, at)
    return values


def _by_label(spec: TensorSpec, value: Mapping[str, Any], at: str) -> list[Any]:
    """The entries of an object in the order of the labels."""
    if len(spec.shape) != 1 or not spec.labels:
        raise InputError("wrong type", at, f"a list {sizes(spec.shape)}", "object")
    known = ", ".join(spec.labels[:_NUM_NAMED]) + (", …" if len(spec.labels) > _NUM_NAMED else "")
    if unknown := [name for name in value if name not in spec.labels]:
        raise InputError("unknown name", f"{at}.{unknown[0][:60]}", f"one of {known}", repr(unknown[0][:60]))
    absent = [name for name in spec.labels if name not in value]
    if absent and not spec.can_miss:
        raise InputError("missing name", at, f"all of {known}", f"none for {absent[0]}")
    return [value.get(name) for name in spec.labels]


def _check_leaves(value: Any, at: str) -> None:
    """Only numbers and null at the bottom: a text or true would be taken for a number further on."""
    level = [(value, at)]
    while level:
        item, place = level.pop()
        if isinstance(item, list):
            level += [(part, f"{place}[{index}]") for index, part in enumerate(item)]
        elif item is not None and (isinstance(item, bool) or not isinstance(item, int | float)):
            raise InputError("wrong type", place, "a number, or null where missing", repr(item)[:40])
        elif isinstance(item, int) and abs(item) >= _LARGEST:
            raise InputError("not a number", place, "a finite number, or null where missing", "a number out of range")


def _whole(nested: Any, at: str) -> NDArray[np.int64]:
    """Whole numbers as they came: not every one of them is a float32."""
    exact = np.array(nested, object)
    for place, item in np.ndenumerate(exact):
        if item is None or item != int(item) or abs(item) > EXACT:
            got = "null" if item is None else f"{item!r}"[:40]
            raise InputError("not a whole number", at + sizes(place), "a whole number", got)
    return exact.astype(np.int64)


def _check_values(spec: TensorSpec, values: NDArray[Any], at: str) -> None:
    """Ranges, and what is missing where nothing may be."""
    if values.dtype.kind == "f":
        missing = np.isnan(values)
        if missing.any() and not spec.can_miss:
            place = np.argwhere(missing)[0]
            raise InputError("not a number", at + sizes(place), "a finite number", "nothing or NaN")
    limit = float(np.finfo(np.float32).max)
    low = -limit if spec.minimum is None else spec.minimum
    high = limit if spec.maximum is None else spec.maximum
    outside = (values < low) | (values > high)
    if outside.any():
        place = np.argwhere(outside)[0]
        span = (
            f"{_bound(spec.minimum, 'no lower bound')} to {_bound(spec.maximum, 'no upper bound')} {spec.unit}".rstrip()
        )
        raise InputError("outside its range", at + sizes(place), span, f"{float(values[tuple(place)]):g}")


def _bound(value: float | None, words: str) -> str:
    return words if value is None else f"{value:g}"
