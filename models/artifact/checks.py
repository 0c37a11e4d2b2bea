"""Refuses, in precise words, a request of wrong shape, time, nodes, range or missing share.

Apart from `wire` because these know nothing of JSON: they check nested lists against a manifest.
"""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest

_DAY_US = 86_400_000_000
_EPOCH_ORDINAL = datetime(1970, 1, 1).toordinal()
_NUM_NAMED = 8  # how many nodes a message lists


class InputError(ValueError):
    """A request that breaks the contract: what is wrong, where, what was expected and what came."""

    def __init__(self, what: str, where: str, expected: str, got: str) -> None:
        super().__init__(f"{where}: {what}: expected {expected}, got {got}")
        self.what, self.where, self.expected, self.got = what, where, expected, got

    def as_dict(self) -> dict[str, str]:
        return {"what": self.what, "where": self.where, "expected": self.expected, "got": self.got}


def to_array(nested: Sequence[Any], where: str) -> NDArray[np.float32]:
    """Nested lists of numbers as an array, NaN for null; raises InputError when they are ragged."""
    level: list[Any] = list(nested)
    shape = [len(level)]
    while level and list in (kinds := set(map(type, level))):
        sizes = set(map(len, level)) if kinds == {list} else set()
        if len(sizes) != 1:
            raise _ragged(level, shape, where)
        shape.append(sizes.pop())
        level = list(chain.from_iterable(level))
    with np.errstate(over="ignore"):  # what is too large for a float32 becomes infinite, and so out of range
        return np.array(level, np.float32).reshape(shape)


def _ragged(level: list[Any], shape: list[int], where: str) -> InputError:
    """The first item of this level that is not like most of them, by its path."""
    kinds = [f"{len(item)} items" if isinstance(item, list) else "a single value" for item in level]
    usual = Counter(kinds).most_common(1)[0][0]
    position = next(index for index, kind in enumerate(kinds) if kind != usual)
    place = where + sizes([int(index) for index in np.unravel_index(position, shape)])
    return InputError("ragged array", place, f"{usual}, as elsewhere", kinds[position])


def sizes(shape: Sequence[int]) -> str:
    """`[12][30][3]`."""
    return "".join(f"[{size}]" for size in shape)


def check_count(payload: bytes | memoryview, most: int, where: str, separator: bytes = b",") -> None:
    """Refuse a text of far more values than fit, before it is read: each would be forty times its byte in memory."""
    if len(payload) > most and (count := bytes(payload).count(separator)) > most:
        raise InputError("too many values", where, f"at most {most}", f"{count}")


def check_batch(manifest: Manifest, num_items: int, where: str) -> None:
    """Between one item and `max_batch` of them."""
    if not 1 <= num_items <= manifest.max_batch:
        raise InputError("wrong batch size", where, f"1 to {manifest.max_batch} items", str(num_items))


def check_window(
    manifest: Manifest, nested: Sequence[Any], nodes: list[str] | None, at: str, nodes_at: str
) -> NDArray[np.float32]:
    """Past values [T, N, C] in the manifest's order of nodes, NaN where missing; raises InputError.

    `nodes` names the columns that came, in any order; None: they are in the manifest's order.
    `at` and `nodes_at` say where in the request both were.
    """
    order = None if nodes is None else columns(manifest, nodes, nodes_at)
    x = to_array(nested, at)
    shape = (manifest.past_steps, len(manifest.nodes), len(manifest.channels))
    if x.shape == shape[:2] and shape[2] == 1:
        x = x[..., None]
    if x.shape != shape:
        either = f"{sizes(shape)} or {sizes(shape[:2])}" if shape[2] == 1 else sizes(shape)
        expected = f"{either}: past steps, nodes, channels ({', '.join(manifest.channels)})"
        raise InputError("wrong shape", at, expected, sizes(x.shape))
    if order is not None:
        x = x[:, order]
    _check_range(manifest, x, at, order)
    missing_share = float(np.isnan(x).mean())
    if missing_share > manifest.max_missing_share:
        allowed = f"at most {manifest.max_missing_share:.1%} of the values missing"
        raise InputError("too much is missing", at, allowed, f"{missing_share:.1%}")
    return x


def check_images(manifest: Manifest, nested: Sequence[Any], at: str) -> tuple[NDArray[np.float32], bool]:
    """Images [B, C, H, W] and whether a list of them came; raises InputError.

    Where there is one channel, `[1][H][W]` is one image, and any other `[B][H][W]` is a list.
    """
    x = to_array(nested, at)
    shape = manifest.image_shape or (0, 0, 0)
    is_gray = shape[0] == 1
    if x.shape == shape or (is_gray and x.shape == shape[1:]):
        images, is_list = x.reshape(1, *shape), False
    elif x.shape[1:] == shape or (is_gray and x.shape[1:] == shape[1:]):
        images, is_list = x.reshape(-1, *shape), True
    else:
        either = f"{sizes(shape)} or {sizes(shape[1:])}" if is_gray else sizes(shape)
        raise InputError("wrong shape", at, f"{either} (channels, height, width), or a list of such", sizes(x.shape))
    check_batch(manifest, len(images), at)
    low, high = manifest.bounds
    outside = (x < low[0]) | (x > high[0])
    if outside.any():
        place = np.argwhere(outside)[0]
        got = f"{float(x[tuple(place)]):g}"
        raise InputError("pixel outside its range", at + sizes(place), _span(manifest, 0), got)
    return images, is_list


def check_time(manifest: Manifest, text: str, where: str) -> tuple[int, int]:
    """Slot of the day and weekday (Monday 0) of a time on the cadence's grid; raises InputError."""
    try:  # the standard library's only parser of ISO 8601 raises; a client needs it as an InputError
        time = datetime.fromisoformat(text)
        time = time.astimezone(UTC).replace(tzinfo=None) if time.tzinfo else time
    except (ValueError, OverflowError) as error:
        raise InputError("not a time", where, "ISO 8601, e.g. 2024-05-31T17:45:00", repr(text[:60])) from error
    of_day_us = ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond
    cadence_us, offset_us = round(manifest.cadence_min * 60e6), round(manifest.grid_offset_s * 1e6)
    # On a cadence that divides the day every day is alike; on another the grid is counted from 1970.
    days_us = 0 if _DAY_US % cadence_us == 0 else (time.toordinal() - _EPOCH_ORDINAL) * _DAY_US
    if (days_us + of_day_us - offset_us) % cadence_us:
        offset = f" plus {manifest.grid_offset_s:g} s" if manifest.grid_offset_s else ""
        grid = f"a multiple of {manifest.cadence_min:g} min{offset}, the cadence of the data"
        raise InputError("time off the grid", where, grid, repr(text))
    return of_day_us // cadence_us, time.weekday()


def columns(manifest: Manifest, nodes: list[str], where: str) -> list[int]:
    """Column of the request that holds each node of the manifest; raises InputError."""
    for index, node in enumerate(nodes):
        if node not in manifest.node_index:
            raise InputError("unknown node", f"{where}[{index}]", f"one of {_names(manifest.nodes)}", repr(node[:60]))
    columns = {node: column for column, node in enumerate(nodes)}
    if len(columns) != len(nodes):
        repeated = next(node for column, node in enumerate(nodes) if columns[node] != column)
        raise InputError("repeated node", where, "every node once", f"{repeated!r} more than once")
    if len(columns) != len(manifest.nodes):
        absent = _names([node for node in manifest.nodes if node not in columns])
        raise InputError("missing nodes", where, f"all {len(manifest.nodes)} nodes", f"none for {absent}")
    return [columns[node] for node in manifest.nodes]


def _check_range(manifest: Manifest, x: NDArray[np.float32], at: str, order: list[int] | None) -> None:
    low, high = manifest.bounds
    outside = (x < low) | (x > high)
    if outside.any():
        step, node, channel = (int(index) for index in np.argwhere(outside)[0])
        column = node if order is None else order[node]
        place = f"{at}[{step}][{column}][{channel}] (node {manifest.nodes[node]})"
        span = f"{_span(manifest, channel)} {manifest.units[channel]}".rstrip()
        got = f"{float(x[step, node, channel]):g}"
        raise InputError(f"{manifest.channels[channel]} outside its range", place, span, got)


def _span(manifest: Manifest, channel: int) -> str:
    low, high = manifest.ranges[channel]
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    return f"at least {low:g}" if low is not None else f"at most {high:g}" if high is not None else "a finite number"


def _names(nodes: Sequence[str]) -> str:
    more = len(nodes) - _NUM_NAMED
    return ", ".join(nodes[:_NUM_NAMED]) + (f" and {more} more" if more > 0 else "")
