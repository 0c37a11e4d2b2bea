"""Tensors of the Open Inference Protocol: what a model takes and gives, as whole arrays.

A client that sends arrays already has them in the graph's own form, so nothing is rebuilt: an array that is sound goes
to the graph as it came. Whether it is sound is decided here for the whole batch at once; what is wrong with the first
bad row is then said by `checks`, so both doors refuse in the same words.
"""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.artifact import samples
from models.artifact.checks import InputError, check_batch, check_images, check_time, check_window, sizes
from models.artifact.manifest import Manifest, Range
from models.data.card import TENSOR_KINDS

_DAYS_PER_WEEK = 7


class Spec(NamedTuple):
    """One tensor of a contract: `shape` has -1 for the batch; `note` says when it may be left out."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    note: str = ""


def input_specs(manifest: Manifest) -> tuple[Spec, ...]:
    """What `inputs` accepts, in the graph's order; `clock` and `time` say the same thing in two ways."""
    if manifest.task == "classify":
        return (Spec("x", "FP32", (-1, *(manifest.image_shape or ()))),)
    if manifest.inputs:
        return tuple(
            Spec(one.name, samples.DATATYPES[one.dtype], (-1, *one.shape), one.description) for one in manifest.inputs
        )
    return _window_specs(manifest.past_steps, len(manifest.nodes), len(manifest.channels))


@cache
def _window_specs(past_steps: int, num_nodes: int, num_channels: int) -> tuple[Spec, ...]:
    window = (-1, past_steps, num_nodes, num_channels)
    return (
        Spec("x", "FP32", window),
        Spec("mask", "FP32", window, "1 where x was seen, else 0; may be left out: missing is what is NaN in x"),
        Spec("clock", "INT64", (-1, 2), "slot of the day and weekday (Monday 0) of the last past step, or send `time`"),
        Spec("time", "BYTES", (-1,), "ISO 8601, of the last past step; or send `clock`"),
    )


def output_specs(manifest: Manifest) -> tuple[Spec, ...]:
    """What `outputs` gives."""
    if manifest.task == "classify":
        return (Spec("probabilities", "FP32", (-1, len(manifest.classes))),)
    if manifest.output is not None:
        return (Spec(samples.output_name(manifest), "FP32", (-1, *manifest.output.shape)),)
    return (Spec("forecast", "FP32", (-1, manifest.horizon_steps, len(manifest.nodes))),)


def outputs(manifest: Manifest, raw: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
    """The named outputs of a graph's raw ones: forecasts [B, H, N] as they are, logits [B, K] as probabilities."""
    if manifest.task == "forecast":
        return {"forecast": raw}
    if manifest.output is not None and TENSOR_KINDS[manifest.task] != "choice":
        is_binary = TENSOR_KINDS[manifest.task] == "binary"
        return {samples.output_name(manifest): samples.sigmoid(raw) if is_binary else raw}
    weights = np.exp(raw.astype(np.float64) - raw.max(axis=1, keepdims=True))
    return {"probabilities": (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)}


def check_declared(specs: Sequence[Spec], name: str, datatype: str, shape: Sequence[int], max_batch: int) -> int:
    """The number of elements that a tensor of the contract announces; raises InputError before any of them is read.

    Shapes come from strangers: none that is not the contract's is ever multiplied out or allocated.
    """
    for spec in specs:
        if spec.name == name:
            break
    else:
        raise InputError("unknown tensor", "inputs", f"one of {', '.join(s.name for s in specs)}", repr(name[:60]))
    if datatype != spec.datatype:
        raise InputError("wrong datatype", name, spec.datatype, repr(datatype[:60]))
    _check_shape(spec, tuple(shape), max_batch)
    num_elements = 1
    for size in shape:
        num_elements *= size
    return num_elements


def inputs(manifest: Manifest, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The graph's inputs from a client's tensors, without a copy where nothing is missing; raises InputError.

    x: float32 [B, T, N, C], NaN where missing, or [B, C, H, W] of an image;
    mask: float32 like x, optional; clock: int64 [B, 2], or time: B texts (str or bytes).
    """
    specs = input_specs(manifest)
    for name, array in tensors.items():
        check_declared(specs, name, _datatype(array), array.shape, manifest.max_batch)
    if manifest.inputs:
        return samples.check_tensors(manifest, tensors)
    if "x" not in tensors:
        raise _missing("x", specs[0])
    x = tensors["x"]
    if manifest.task == "classify":
        _check_pixels(manifest, x)
        return {"x": x}
    clock = _clock(manifest, tensors, len(x))
    seen = _seen(x, tensors.get("mask"))
    _check_readings(manifest, x, seen)
    if seen is None:
        return {"x": x, "mask": np.ones_like(x), "clock": clock}
    return {"x": np.where(seen, x, np.float32(0)), "mask": seen.astype(np.float32), "clock": clock}


_DATATYPES = {
    np.dtype(kind): datatype
    for datatype, kind in {
        "FP32": np.float32, "FP64": np.float64, "FP16": np.float16, "INT64": np.int64, "INT32": np.int32,
        "BOOL": np.bool_, "BYTES": np.object_,
    }.items()
}  # fmt: skip


def _datatype(array: NDArray[Any]) -> str:
    return _DATATYPES.get(array.dtype) or ("BYTES" if array.dtype.kind in "SU" else array.dtype.name)


def _check_shape(spec: Spec, shape: tuple[int, ...], max_batch: int) -> None:
    if len(shape) != len(spec.shape) or shape[1:] != spec.shape[1:]:
        expected = f"[B]{sizes(spec.shape[1:])}, B from 1 to {max_batch}"
        raise InputError("wrong shape", spec.name, expected, sizes(shape[:8])[:120] or "a scalar")
    if not 1 <= shape[0] <= max_batch:
        raise InputError("wrong batch size", spec.name, f"1 to {max_batch} items", str(shape[0])[:40])


def _missing(names: str, spec: Spec) -> InputError:
    return InputError("missing tensor", "inputs", f"{names}: {spec.datatype} [B]{sizes(spec.shape[1:])}", "none")


def _clock(manifest: Manifest, tensors: Mapping[str, NDArray[Any]], num_rows: int) -> NDArray[np.int64]:
    """Slot of the day and weekday, int64 [B, 2]."""
    clock, times = tensors.get("clock"), tensors.get("time")
    if (clock is None) == (times is None):
        got = "neither" if clock is None else "both"
        raise InputError("missing tensor" if clock is None else "one too many", "inputs", "either clock or time", got)
    for name in ("clock", "time", "mask"):
        if name in tensors and len(tensors[name]) != num_rows:
            raise InputError("wrong batch size", name, f"{num_rows} items, as in x", str(len(tensors[name])))
    if times is not None:
        slots = [check_time(manifest, _text(time, row), f"time[{row}]") for row, time in enumerate(times)]
        return np.array(slots, np.int64)
    assert clock is not None
    limits = (manifest.slots_per_day, _DAYS_PER_WEEK)
    if clock.min() < 0 or clock[:, 0].max() >= limits[0] or clock[:, 1].max() >= limits[1]:
        outside = (clock < 0) | (clock >= np.array(limits))
        row, column = (int(index) for index in np.argwhere(outside)[0])
        what = ("slot of the day", "weekday")[column]
        place, span = f"clock[{row}][{column}]", f"0 to {limits[column] - 1}"
        raise InputError(f"{what} outside its range", place, span, str(clock[row, column]))
    return clock


def _text(raw_time: Any, row: int) -> str:
    if isinstance(raw_time, str):
        return raw_time
    text = bytes(raw_time).decode("utf-8", "replace")
    if "\ufffd" in text:
        raise InputError("not a time", f"time[{row}]", "ISO 8601 as UTF-8, e.g. 2024-05-31T17:45:00", repr(text[:60]))
    return text


def _seen(x: NDArray[np.float32], mask: NDArray[np.float32] | None) -> NDArray[np.bool_] | None:
    """Where x was seen, [B, T, N, C]; None where all of it was."""
    numbers = ~np.isnan(x)
    if mask is None:
        return None if numbers.all() else numbers
    seen = mask == 1
    if not (seen | (mask == 0)).all():
        place = np.argwhere(~(seen | (mask == 0)))[0]
        raise InputError("mask is neither 0 nor 1", "mask" + sizes(place), "0 or 1", f"{float(mask[tuple(place)]):g}")
    if (seen & ~numbers).any():
        place = np.argwhere(seen & ~numbers)[0]
        raise InputError("not a number", "x" + sizes(place), "a finite number where the mask is 1", "NaN")
    return None if seen.all() else seen


def _check_readings(manifest: Manifest, x: NDArray[np.float32], seen: NDArray[np.bool_] | None) -> None:
    """Ranges and missing share of every window; what is wrong with the first bad one is said by `check_window`."""
    readings = x if seen is None else np.where(seen, x, np.float32(np.nan))
    low, high = _bounds_of_window(manifest.ranges, manifest.past_steps * len(manifest.nodes))
    flat = readings.reshape(len(x), -1)
    bad = np.zeros(len(x), np.bool_)
    if (flat < low).any() or (flat > high).any():
        bad |= ((flat < low) | (flat > high)).any(axis=1)
    if seen is not None:
        bad |= (~seen).mean(axis=(1, 2, 3)) > manifest.max_missing_share
    for row in np.flatnonzero(bad):
        check_window(manifest, readings[row].tolist(), None, f"x[{row}]", "x")


@cache
def _bounds_of_window(ranges: tuple[Range, ...], num_cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Smallest and largest value of each number of a flat window: rows this long are compared fast, [C] is not."""
    limit = float(np.finfo(np.float32).max)
    low = [-limit if minimum is None else minimum for minimum, _ in ranges]
    high = [limit if maximum is None else maximum for _, maximum in ranges]
    return np.tile(np.array(low, np.float32), num_cells), np.tile(np.array(high, np.float32), num_cells)


def _check_pixels(manifest: Manifest, x: NDArray[np.float32]) -> None:
    low, high = manifest.bounds
    if np.isnan(x).any():
        place = np.argwhere(np.isnan(x))[0]
        raise InputError("not a number", "x" + sizes(place), "a finite number", "NaN")
    if not (x.min() >= low[0] and x.max() <= high[0]):
        check_batch(manifest, len(x), "x")
        check_images(manifest, x.tolist(), "x")
