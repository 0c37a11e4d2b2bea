"""Captured predictions as the monitor reads them: windows in their place, or samples."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.workshop import Workshop
from infra import captures, labels
from infra.captures import moment
from infra.refs import ModelRef
from infra.spool import Record
from models.artifact.manifest import Manifest
from models.judging.drift_errors import told_error
from models.judging.drift_hours import reading_hours
from models.judging.drift_readings import Windows, last_step
from models.judging.drift_samples import features_of
from models.judging.drift_verdict import Live

MAX_PER_HOUR = 2000  # the first of each hour; their windows hold the readings of the hour


@dataclass(frozen=True)
class LiveSamples:
    """Features of what came in (n, F), of what the live version answered, and its errors where the truth was told."""

    inputs: NDArray[np.float64] | None
    outputs: NDArray[np.float64] | None
    errors: NDArray[np.float64]


def captured_hours(
    shop: Workshop, manifest: Manifest, live: ModelRef, since: datetime, until: datetime, num_hours: int
) -> tuple[int, Live | None]:
    """How many windows were captured, and their tables; None where there is none. Raises StorageError, CaptureError."""
    windows = Windows(manifest)
    by_id: dict[str, NDArray[np.datetime64]] = {}
    for record in records(shop, live.product, since, until):
        clock = _array(record, "inputs", "clock")
        x, mask = _array(record, "inputs", "x"), _array(record, "inputs", "mask")
        if x is None or clock is None or x.shape[1:] != _window(manifest):
            continue
        answered = np.datetime64(moment(record).replace(tzinfo=None), "us")
        time = last_step(clock, answered, manifest.cadence_min)
        by_id[record.prediction_id] = time
        seen = np.where(mask > 0, x, np.nan) if mask is not None else x
        forecast = _array(record, "outputs", "forecast") if record.parcel_digest == live.digest else None
        windows.add(time, np.asarray(seen, np.float32), forecast)
    if not windows.windows:
        return 0, None
    told = _told_steps(shop, manifest, live.product, by_id, since, until)
    windows = windows.until_now(num_hours)
    forecasts, error = windows.tables(told)
    series, _ = windows.series()
    return windows.num_windows, Live(reading_hours(series, windows.asked()), forecasts, error)


def captured_samples(
    shop: Workshop, manifest: Manifest, live: ModelRef, since: datetime, until: datetime
) -> tuple[int, LiveSamples]:
    """How many samples were captured, and their features and errors. Raises StorageError, CaptureError."""
    inputs: list[NDArray[np.float64]] = []
    outputs: list[NDArray[np.float64]] = []
    errors: list[float] = []
    told = _told_rows(shop, live.product, since, until)
    for record in records(shop, live.product, since, until):
        given = {name: array for name in record.inputs if (array := _array(record, "inputs", name)) is not None}
        if len(given) == len(record.inputs):
            inputs.append(features_of(given, manifest.inputs)[1])
        if record.parcel_digest != live.digest:
            continue
        answer = {name: array for name in record.outputs if (array := _array(record, "outputs", name)) is not None}
        if answer:
            outputs.append(features_of(answer)[1])
            errors += [told_error(manifest, answer, row, truths)
                       for row, truths in told.get(record.prediction_id, {}).items()]  # fmt: skip
    known = np.array(errors, np.float64)
    joined = (np.concatenate(inputs) if inputs else None, np.concatenate(outputs) if outputs else None)
    return sum(map(len, inputs)), LiveSamples(*joined, known[np.isfinite(known)])


def records(shop: Workshop, product: str, since: datetime, until: datetime) -> Iterator[Record]:
    """The shipped predictions answered in [since, until), at most `MAX_PER_HOUR` of each hour."""
    start = since
    while start < until:
        hour = start.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
        stop = min(hour + timedelta(hours=1), until)
        yield from islice(captures.read(shop.store, product, start, stop), MAX_PER_HOUR)
        start = stop


def _told_rows(
    shop: Workshop, product: str, since: datetime, until: datetime
) -> Mapping[str, Mapping[int, Sequence[tuple[str, str]]]]:
    """Truths that were told: by prediction, then row."""
    found: dict[str, dict[int, list[tuple[str, str]]]] = {}
    for one in labels.read(shop.store, product, since, until):
        found.setdefault(one.prediction_id, {}).setdefault(one.row, []).append((one.place, one.truth))
    return found


def _told_steps(
    shop: Workshop, manifest: Manifest, product: str, by_id: Mapping[str, NDArray[np.datetime64]], since: datetime,
    until: datetime,
) -> dict[tuple[int, int], float]:  # fmt: skip
    """Truths of forecasts that were told: by (step, node) of the data's own time."""
    cadence_us = round(manifest.cadence_min * 60e6)
    found: dict[tuple[int, int], float] = {}
    for one in labels.read(shop.store, product, since, until):
        times, node = by_id.get(one.prediction_id), manifest.node_index.get(one.place)
        if times is None or node is None or one.row >= len(times):
            continue
        ahead = one.step or manifest.judged_step
        found[int(times[one.row].astype(np.int64)) // cadence_us + ahead, node] = float(one.truth)
    return found


def _array(record: Record, side: str, name: str) -> NDArray[Any] | None:
    """A captured tensor; None where it was masked or is not there."""
    tensor = getattr(record, side).get(name)
    return None if tensor is None or tensor.data is None else tensor.array()


def _window(manifest: Manifest) -> tuple[int, int, int]:
    return manifest.past_steps, len(manifest.nodes), len(manifest.channels)
