"""The wire: JSON to checked inputs, outputs to JSON.

forecast: `{"data": {"time": "2024-05-31T17:45:00", "values": [T][N][C], "nodes": [...]}}`, a list of such objects, or
`{"data": [T][N][C], "time": ..., "nodes": ...}`; `[T][N]` where there is one channel; null where a value is missing.
`time` is that of the last past step; with a zone it is converted to UTC. `nodes`, optional, names the columns.
classify: `{"data": [C][H][W]}`, `[H][W]` where there is one channel, or a list of either; pixels in their range.
tensor tasks: `{"data": {"<input>": [...], ...}}` or a list of such objects; see `samples`.
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact import samples
from models.artifact.checks import InputError, check_batch, check_count, check_images, check_time, check_window
from models.artifact.manifest import Manifest
from models.artifact.tensors import outputs as named_outputs
from models.artifact.writer import Writer

__all__ = ["InputError", "Request", "answer", "build_request", "numbers", "parse_request"]

_NUM_OTHERS = 16  # commas of an item that are not between its numbers or its nodes, and some to spare
_Reading = float | None
_Step = list[_Reading | list[_Reading]]  # [N] or [N][C]
_Image = list[list[float | list[float | list[float]]]]  # [H][W], [C][H][W], [B][H][W] or [B][C][H][W]


@dataclass(frozen=True)
class Request:
    """Checked inputs for `Predictor.predict`, and whether a list was sent, so that a list is answered."""

    inputs: dict[str, NDArray[Any]]
    is_list: bool

    @property
    def num_rows(self) -> int:
        return len(next(iter(self.inputs.values())))


class _Window(msgspec.Struct, forbid_unknown_fields=True):
    time: str
    values: list[_Step]
    nodes: list[str] | None = None


class _ForecastBody(msgspec.Struct, forbid_unknown_fields=True):
    data: _Window | list[_Window | _Step]
    time: str | None = None
    nodes: list[str] | None = None


class _SamplesBody(msgspec.Struct, forbid_unknown_fields=True):
    data: Any


class _ClassifyBody(msgspec.Struct, forbid_unknown_fields=True):
    data: _Image


def parse_request(manifest: Manifest, payload: bytes) -> Request:
    """The checked inputs of a JSON body; raises InputError."""
    if manifest.inputs:
        return _parse_samples(manifest, payload)
    size = math.prod(manifest.image_shape or (manifest.past_steps + 1, len(manifest.nodes), len(manifest.channels)))
    check_count(payload, manifest.max_batch * (size + _NUM_OTHERS), "body")
    if manifest.task == "forecast":
        return _parse_forecast(manifest, _decode(payload, _ForecastBody))
    images, is_list = check_images(manifest, _decode(payload, _ClassifyBody).data, "data")
    return Request({"x": images}, is_list)


def answer(manifest: Manifest, outputs: NDArray[np.float32], is_list: bool) -> dict[str, Any]:
    """The answer to a graph's `outputs` [B, H, N] or [B, K]: one prediction, or a list of them when a list was sent.

    Numbers have the digits that a service writes, the shortest that read back as the same float32.
    """
    writer = Writer(manifest)
    predictions = writer.predictions(named_outputs(manifest, outputs), is_list)
    said: dict[str, Any] = orjson.loads(b'{"predictions":%b,%b}' % (predictions, writer.facts))
    return said


def _parse_samples(manifest: Manifest, payload: bytes) -> Request:
    size = sum(math.prod(spec.shape) for spec in manifest.inputs)
    check_count(payload, manifest.max_batch * (size + _NUM_OTHERS), "body")
    return Request(*samples.parse_samples(manifest, _decode(payload, _SamplesBody).data))


def build_request(x: NDArray[np.float32], mask: NDArray[np.float32] | None = None, time: Any = None) -> dict[str, Any]:
    """The body that asks for one sample: x [T, N, C] with mask and time of the last past step, or an image [C, H, W].

    The values are exact: as doubles they read back as the same float32.
    """
    if mask is None:
        return {"data": x.tolist()}
    values = x.astype(object)
    values[mask == 0] = None
    return {"data": {"time": str(np.datetime64(time, "s")), "values": values.tolist()}}


def numbers(predictions: Any) -> NDArray[np.float64]:
    """Every number of an answer's `predictions`, in order; of a choice its probabilities, by name as in a file."""
    if isinstance(predictions, dict):
        return np.array([share for _, share in sorted(predictions["probabilities"].items())], np.float64)
    if isinstance(predictions, list):
        return np.concatenate([numbers(item) for item in predictions]) if predictions else np.zeros(0)
    return np.array([predictions], np.float64)


def _parse_forecast(manifest: Manifest, body: _ForecastBody) -> Request:
    if isinstance(body.data, _Window):
        _refuse_twice(body)
        return _stacked([_parse_window(manifest, body.data, "data")], is_list=False)
    if not body.data or isinstance(body.data[0], _Window):
        _refuse_twice(body)
        check_batch(manifest, len(body.data), "data")
        rows = [_parse_window(manifest, item, f"data[{index}]") for index, item in enumerate(body.data)]
        return _stacked(rows, is_list=True)
    if body.time is None:
        raise InputError("missing field", "body", "the field `time`, of the last past step", "none")
    window = check_window(manifest, body.data, body.nodes, "data", "nodes")
    return _stacked([(window, check_time(manifest, body.time, "time"))], is_list=False)


_Row = tuple[NDArray[np.float32], tuple[int, int]]


def _parse_window(manifest: Manifest, item: Any, at: str) -> _Row:
    if not isinstance(item, _Window):
        raise InputError("wrong type", at, "an object with `time` and `values`, as the first item", "array")
    window = check_window(manifest, item.values, item.nodes, f"{at}.values", f"{at}.nodes")
    return window, check_time(manifest, item.time, f"{at}.time")


def _stacked(rows: list[_Row], is_list: bool) -> Request:
    x = np.stack([window for window, _ in rows])  # [B, T, N, C]
    seen = ~np.isnan(x)
    clock = np.array([slots for _, slots in rows], np.int64)  # [B, 2]
    return Request({"x": np.where(seen, x, np.float32(0)), "mask": seen.astype(np.float32), "clock": clock}, is_list)


def _refuse_twice(body: _ForecastBody) -> None:
    if body.time is not None or body.nodes is not None:
        raise InputError("misplaced field", "body", "`time` and `nodes` inside `data`", "beside it")


def _decode(payload: bytes, body: Any) -> Any:
    try:  # msgspec says what is wrong with JSON by raising; a client needs it as an InputError
        return _decoder(body).decode(payload)
    except msgspec.ValidationError as error:
        raise _explained(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if literal := re.search(rb"[-+]?\b(?:NaN|nan|Infinity|inf)\b", payload):
            place, word = f"body, byte {literal.start()}", literal.group().decode()
            raise InputError("not a number", place, "a finite number, or null where missing", word) from error
        raise InputError("not JSON", "body", "a JSON object with the field `data`", str(error)) from error


@cache
def _decoder(body: Any) -> Any:
    return msgspec.json.Decoder(body)


def _explained(message: str) -> InputError:
    """msgspec's "Expected `x`, got `y` - at `$.path`" as an InputError."""
    text, _, path = message.partition(" - at `$")
    where = path.rstrip("`").lstrip(".") or "body"
    if kinds := re.fullmatch(r"Expected `(.+)`, got `(.+)`", text):
        return InputError("wrong type", where, kinds[1].replace(" | ", " or "), kinds[2])
    if missing := re.fullmatch(r"Object missing required field `(.+)`", text):
        return InputError("missing field", where, f"the field `{missing[1]}`", "none")
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", text):
        return InputError("unknown field", where, "only `data`, `time`, `values`, `nodes`", f"`{unknown[1]}`")
    if text == "Number out of range":
        return InputError("not a number", where, "a finite number, or null where missing", "a number out of range")
    return InputError("refused", where, "a request as described in /docs.json", text)
