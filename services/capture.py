"""Captures a sample of the answers to a local spool; serving never waits for it.

`offer` decides and keeps references, a few microseconds; a thread of its own masks, encodes and writes. The buffer is
bounded: when the disk does not keep up, predictions go uncaptured and are counted. Each batch is synced, so SIGTERM
loses nothing that was accepted and `kill -9` at most the last half second. No address and no key is ever stored.
"""

import atexit
import errno
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from infra.settings import ServiceSettings
from infra.spool import Made, Member, Record, SegmentWriter, Tensor, frame, num_bytes_in, tensor_of
from services.answers import Caller
from services.copies import is_copy
from services.environment import digest, environment

LOG = logging.getLogger("roadworthy.capture")

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Limits:
    """What may wait in memory, how much is written at once, when a segment is closed, how long `stop` tries.

    A disk that refuses is tried again after `retry_s`; a spool that nobody ships is full at `spool_bytes`.
    """

    waiting_records: int = 4096
    waiting_bytes: int = 16 << 20
    batch_bytes: int = 1 << 20
    segment_bytes: int = 8 << 20
    segment_s: float = 10.0
    spool_bytes: int = 2 << 30
    write_every_s: float = 0.2
    retry_s: float = 1.0
    stop_s: float = 5.0


class _Offer(NamedTuple):
    served: Any  # services.runtime.Served, or an ensemble of such
    prediction_id: str
    caller: Caller
    protocol: str
    inputs: Arrays
    outputs: Arrays
    time_s: float
    num_bytes: int


def open_capture(settings: ServiceSettings) -> "Capture | None":
    """The capture that a serving process was told to make, or None."""
    if settings.capture_folder is None:
        return None
    masked = [name.strip() for name in settings.capture_masked.split(",") if name.strip()]
    return Capture(settings.capture_folder, settings.capture_share, settings.capture_per_s, masked)


class Capture:
    """Samples by `share` and `per_second`; `offer` belongs to one thread, the event loop's."""

    def __init__(
        self,
        folder: Path,
        share: float = 1.0,
        per_second: float = 50.0,
        masked: Collection[str] = (),
        clock: Callable[[], float] = time.time,
        limits: Limits = Limits(),
    ) -> None:
        """`masked` names inputs, outputs and nodes that are never stored; `clock` gives seconds from 1970."""
        self._folder, self._masked, self._clock, self._limits = folder, frozenset(masked), clock, limits
        self._threshold = int(share * (1 << 32))
        self._per_second, self._token_s = per_second, clock()
        self._tokens = self._most_tokens = max(per_second, 1.0) if per_second else 0.0
        self._waiting: deque[_Offer] = deque()
        self._accepted = self._skipped = self._dropped = self._bytes_in = 0  # written by the event loop only
        self._written = self._refused = self._failed = self._bytes_out = 0  # written by the writer only
        self._segment: SegmentWriter | None = None
        self._segment_s = 0.0
        self._batch: list[tuple[bytes, _Offer]] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="capture", daemon=True)

    def start(self) -> None:
        """Start writing. What was accepted is written even where nobody calls `stop` before the process exits."""
        self._thread.start()
        atexit.register(self.stop)

    def offer(
        self, served: Any, prediction_id: str, caller: Caller, protocol: str, inputs: Arrays, outputs: Arrays
    ) -> None:
        """Take one answered prediction, or not; no copies. Never blocks or raises; the arrays must not change later."""
        now_s = self._clock()
        if is_copy.get() or crc32(prediction_id.encode()) >= self._threshold or not self._take_token(now_s):
            self._skipped += 1
            return
        num_bytes = sum([array.nbytes for array in inputs.values()]) + sum([array.nbytes for array in outputs.values()])
        num_waiting = self._accepted - self._written - self._refused
        is_full = num_waiting >= self._limits.waiting_records or self._stopping.is_set()
        if is_full or self._bytes_in - self._bytes_out + num_bytes > self._limits.waiting_bytes:
            self._dropped += 1
            return
        self._bytes_in += num_bytes
        self._accepted += 1
        self._waiting.append(_Offer(served, prediction_id, caller, protocol, inputs, outputs, now_s, num_bytes))

    def stop(self) -> None:
        """Write everything accepted, close the segment, end the thread; gives a refusing disk up after `stop_s`."""
        atexit.unregister(self.stop)
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(self._limits.stop_s + 1)
        if lost := self._accepted - self._written - self._refused:
            LOG.error("%d captured predictions could not be written to %s", lost, self._folder)

    def counts(self) -> dict[str, int]:
        """Predictions accepted, written, skipped by sampling, dropped for a full buffer, refused; failed writes."""
        return {
            "accepted": self._accepted, "written": self._written, "skipped": self._skipped,
            "dropped": self._dropped, "refused": self._refused, "failed": self._failed,
        }  # fmt: skip

    def _take_token(self, now_s: float) -> bool:
        earned = max(now_s - self._token_s, 0.0) * self._per_second
        self._token_s = now_s
        self._tokens = min(self._tokens + earned, self._most_tokens)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True

    def _run(self) -> None:
        while not self._stopping.wait(self._limits.write_every_s):
            if not self._write_all():
                self._stopping.wait(self._limits.retry_s)
        give_up_s = time.monotonic() + self._limits.stop_s
        while not self._write_all() and time.monotonic() < give_up_s:
            time.sleep(self._limits.write_every_s)
        self._close()

    def _write_all(self) -> bool:
        """Write what waits, batch by batch; False when the disk refused, and then nothing is forgotten."""
        while self._batch or self._waiting:
            self._batch = self._batch or self._encoded()
            if self._batch and not self._wrote(self._batch):
                return False
            self._batch = []
        if self._segment is not None and time.monotonic() - self._segment_s >= self._limits.segment_s:
            self._close()
        return True

    def _wrote(self, batch: Sequence[tuple[bytes, _Offer]]) -> bool:
        try:  # a full or unwritable disk says so by raising; serving goes on
            segment = self._segment or self._opened(batch[0][1].time_s)
            segment.append(b"".join([data for data, _ in batch]))
        except OSError as error:
            self._note_failure(error)
            self._close()
            return False
        self._written += len(batch)
        self._bytes_out += sum([offer.num_bytes for _, offer in batch])
        if segment.num_bytes >= self._limits.segment_bytes:
            self._close()
        return True

    def _opened(self, first_s: float) -> SegmentWriter:
        if not self._stopping.is_set() and num_bytes_in(self._folder) > self._limits.spool_bytes:
            raise OSError(errno.EDQUOT, "the spool is full: ship it (roadworthy capture ship)")
        self._segment = SegmentWriter(self._folder, round(first_s * 1e6), self._made)
        self._segment_s = time.monotonic()
        return self._segment

    def _close(self) -> None:
        segment, self._segment = self._segment, None
        if segment is None:
            return
        try:  # what is written stays readable, and whoever ships takes it as left behind
            segment.close()
        except OSError as error:
            self._note_failure(error)

    def _note_failure(self, error: OSError) -> None:
        self._failed += 1
        LOG.warning("capture cannot write to %s: %s; it tries again", self._folder, error.strerror or error)

    @cached_property
    def _made(self) -> Made:
        return Made(digest(environment()), dict(environment()))

    def _encoded(self) -> list[tuple[bytes, _Offer]]:
        """The frames of the first of those that wait."""
        batch: list[tuple[bytes, _Offer]] = []
        num_bytes = 0
        while self._waiting and num_bytes < self._limits.batch_bytes:
            offer = self._waiting.popleft()
            try:
                data = frame(_record(offer, self._masked, self._made.digest))
            except Exception:  # the service edge: one odd prediction must not end the capture of all others
                LOG.exception("prediction %s cannot be captured", offer.prediction_id)
                self._refused += 1
                self._bytes_out += offer.num_bytes
                continue
            batch.append((data, offer))
            num_bytes += len(data)
            time.sleep(0)  # between records the event loop gets the interpreter at once, not after its 5 ms
        return batch


def _record(offer: _Offer, masked: frozenset[str], environment_digest: str) -> Record:
    release = offer.served.release
    members = zip(getattr(offer.served, "members", ()), getattr(offer.served, "weights", ()), strict=True)
    labels, axis = _labels(getattr(offer.served, "manifest", None), (*offer.inputs, *offer.outputs))
    named = dict.fromkeys(label for each in labels.values() for label in each)
    left_out = [name for name in (*offer.inputs, *offer.outputs, *named) if name in masked]
    hidden = {name: [i for i, label in enumerate(each) if label in masked] for name, each in labels.items()}
    return Record(
        prediction_id=offer.prediction_id,
        time_us=round(offer.time_s * 1e6),
        product=release.product,
        version=release.version,
        parcel_digest=release.parcel_digest,
        protocol=offer.protocol,
        tenant=offer.caller.tenant,
        key_id=offer.caller.key_id,
        release=release.model_dump_json(),
        environment=environment_digest,
        inputs=_tensors(offer.inputs, masked, hidden, axis),
        outputs=_tensors(offer.outputs, masked, hidden, axis),
        masked=tuple(left_out),
        members=tuple(
            Member(one.release.product, one.release.version, one.release.parcel_digest, weight)
            for one, weight in members
        ),
    )


def _labels(manifest: Any, names: Sequence[str]) -> tuple[dict[str, tuple[str, ...]], int]:
    """What can be masked within each tensor, and on which axis it lies: nodes, or the labels of a tensor task."""
    if nodes := getattr(manifest, "nodes", ()):
        return dict.fromkeys(names, nodes), 2  # [B, T, N, C], [B, H, N]
    if (output := getattr(manifest, "output", None)) is None:
        return {}, -1
    labels = {spec.name: spec.labels for spec in manifest.inputs}
    return labels | {name: output.labels for name in names if name not in labels}, -1


def _tensors(
    arrays: Arrays, masked: frozenset[str], hidden: Mapping[str, Sequence[int]], axis: int
) -> dict[str, Tensor]:
    return {
        name: tensor_of(_blanked(array, hidden.get(name, ()), axis), masked=name in masked)
        for name, array in arrays.items()
    }


def _blanked(array: NDArray[Any], hidden: Sequence[int], axis: int) -> NDArray[Any]:
    """NaN in place of what is hidden on this axis; an array that does not have it is left as it is."""
    if not hidden or array.ndim < max(axis + 1, 2):
        return array
    blanked = array.astype(np.result_type(array, np.float32))
    np.moveaxis(blanked, axis, 0)[list(hidden)] = np.nan
    return blanked
