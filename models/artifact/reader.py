"""Reads sound JSON requests fast.

Every other one is left to `wire`, which says what is wrong with it.

Numbers are never built into nested lists: what is left of the text without its numbers must be exactly the brackets and
commas of the contract's shape, and then all numbers are read as one flat list. JSON takes half of a small model's
request; this reads a window of 1080 numbers in 60 % of the time of msgspec and numpy with their nested lists.
"""

import struct
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import orjson
from numpy.typing import NDArray

from models.artifact.checks import InputError, check_time, columns
from models.artifact.manifest import Manifest
from models.artifact.reader_samples import NUMBER, RawSamples, SampleReader, brackets, flat, float32
from models.artifact.wire import Request, parse_request

# What msgspec, orjson, struct and the checks raise for a text that is not as expected; `wire` says it in order.
_UNFIT = (
    msgspec.DecodeError, UnicodeDecodeError, orjson.JSONDecodeError, RecursionError, struct.error, OverflowError,
    InputError, KeyError, ValueError,
)  # fmt: skip


class _RawWindow(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    time: str
    values: msgspec.Raw
    nodes: list[str] | None = None


class _RawForecast(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    data: _RawWindow | list[_RawWindow]


class _RawImages(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    data: msgspec.Raw


class Reader:
    """Reads the requests of one contract."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._read: Callable[[Any], Request | None]
        if manifest.inputs:
            self._decoder: Any = msgspec.json.Decoder(RawSamples)
            self._samples, self._read = SampleReader(manifest), self._tensors
        else:
            self._of_one_tensor(manifest)

    def _of_one_tensor(self, manifest: Manifest) -> None:
        """What is known beforehand of windows, or of images."""
        is_forecast = manifest.task == "forecast"
        self._shape = (
            (manifest.past_steps, len(manifest.nodes), len(manifest.channels))
            if is_forecast
            else (manifest.image_shape or (1, 1, 1))
        )
        self._size = int(np.prod(self._shape))
        self._floats = struct.Struct(f"{self._size}f")
        # A single channel need not have brackets of its own: last in a window, first in an image.
        short = self._shape[:2] if is_forecast else self._shape[1:]
        has_short = self._shape[2 if is_forecast else 0] == 1
        self._forms = (brackets(self._shape), *([brackets(short)] if has_short else []))
        low, high = manifest.bounds
        self._low, self._high = (np.resize(bound, self._size) for bound in (low, high))
        self._bounds = (float(low[0]), float(high[0])) if len(set(manifest.ranges)) == 1 else None
        self._seen = np.ones((1, *self._shape), np.float32)
        self._seen.flags.writeable = False  # every request without a gap gets this very array
        self._decoder = msgspec.json.Decoder(_RawForecast if is_forecast else _RawImages)
        self._read = self._windows if is_forecast else self._images

    def read(self, payload: bytes) -> Request:
        """The checked inputs of a JSON body; raises InputError. The same as `wire.parse_request`, sooner."""
        try:  # the libraries say "not as expected" by raising; what exactly is said by parse_request
            return self._read(self._decoder.decode(payload)) or parse_request(self._manifest, payload)
        except _UNFIT:
            return parse_request(self._manifest, payload)

    def _tensors(self, body: RawSamples) -> Request | None:
        found = self._samples.read(body)
        return None if found is None else Request(*found)

    def _windows(self, body: _RawForecast) -> Request | None:
        is_list = isinstance(body.data, list)
        items: list[Any] = body.data if is_list else [body.data]  # type: ignore[assignment]
        if not 1 <= len(items) <= self._manifest.max_batch:
            return None
        x = np.empty((len(items), self._size), np.float32)
        has_nulls = False
        for row, item in enumerate(items):
            text = bytes(item.values)
            if text.translate(None, NUMBER) not in self._forms:
                return None
            has_nulls |= self._fill(x, row, text)
        if self._is_outside(x):
            return None
        return self._request(x, items, is_list, has_nulls)

    def _request(self, x: NDArray[np.float32], items: list[Any], is_list: bool, has_nulls: bool) -> Request | None:
        manifest = self._manifest
        windows = x.reshape(-1, *self._shape)  # [B, T, N, C]
        slots = []
        for row, item in enumerate(items):
            at = f"data[{row}]" if is_list else "data"
            if item.nodes is not None:
                windows[row] = windows[row][:, columns(manifest, item.nodes, f"{at}.nodes")]
            slots.append(check_time(manifest, item.time, f"{at}.time"))
        clock = np.array(slots, np.int64)  # [B, 2]
        if not has_nulls:
            mask = self._seen if len(items) == 1 else np.ones_like(windows)
            return Request({"x": windows, "mask": mask, "clock": clock}, is_list)
        seen = ~np.isnan(windows)
        if (1 - seen.mean(axis=(1, 2, 3)) > manifest.max_missing_share).any():
            return None
        inputs = {"x": np.where(seen, windows, np.float32(0)), "mask": seen.astype(np.float32), "clock": clock}
        return Request(inputs, is_list)

    def _images(self, body: _RawImages) -> Request | None:
        text = bytes(body.data)
        form = text.translate(None, NUMBER)
        is_list = form not in self._forms
        num_images = self._num_listed(form) if is_list else 1
        if not 1 <= num_images <= self._manifest.max_batch or b"n" in text:
            return None
        x = float32(flat(text)).reshape(num_images, self._size)
        if self._is_outside(x):
            return None
        return Request({"x": x.reshape(-1, *self._shape)}, is_list)

    def _is_outside(self, x: NDArray[np.float32]) -> bool:
        """Whether any number is outside its range; what is missing is not."""
        if self._bounds and x.min() >= self._bounds[0] and x.max() <= self._bounds[1]:
            return False  # and nothing is missing, or neither comparison held
        return bool((x < self._low).any() or (x > self._high).any())

    def _num_listed(self, brackets: bytes) -> int:
        """How many images of one form these are the brackets of; 0 where they are of something else."""
        for form in self._forms[::-1]:
            num_images = (len(brackets) - 1) // (len(form) + 1)
            if b"[%b]" % b",".join([form] * num_images) == brackets:
                return num_images
        return 0

    def _fill(self, x: NDArray[np.float32], row: int, text: bytes) -> bool:
        """Write one window's numbers into `x`; whether any of them is missing, which is NaN then."""
        numbers = flat(text)
        if b"n" not in text:
            self._floats.pack_into(x.data, row * self._floats.size, *numbers)
            return False
        x[row] = float32(numbers)
        return True
