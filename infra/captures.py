"""Captured predictions in the object store: shipped, found by id, read in order of time.

`captures/<product>/date=YYYY-MM-DD/hour=HH/<microseconds>-<hash of the segment>.parquet`, in UTC by the time of the
answer; `environments/<digest>.json` says what the process was made of. A key is named by the segment's content, so a
shipment that was killed and is repeated puts the same objects again, and never another beside them.
"""

import heapq
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec

from infra.atomic import exclusive
from infra.objects import NotThereError, Store, hash_of
from infra.spool import OPEN, READY, Made, Record, adopt, read_segment, segments

CAPTURES, ENVIRONMENTS = "captures", "environments"
DAMAGED = ".damaged"
LATE = timedelta(minutes=2)  # an answer comes this long after its id at most: a slow body, then the deadline


class CaptureError(ValueError):
    """The id is none that a service gives, or a captured file cannot be read; the message says which."""


@dataclass(frozen=True)
class Shipment:
    """What one pass over a spool did; `num_damaged` records failed their check, their segment is kept aside."""

    num_segments: int = 0
    num_records: int = 0
    num_damaged: int = 0
    keys: tuple[str, ...] = ()


def ship(spool: Path, store: Store) -> Shipment:
    """Put every ready segment into the store and remove it once that is confirmed; those being written stay.

    Safe beside running services and other shippers; a second pass has nothing to do. Raises StorageError, OSError.
    """
    total = Shipment()
    if not spool.is_dir():
        return total
    with exclusive(spool / ".ship.lock"):
        adopt(spool)
        for path in segments(spool, READY):
            one = _ship_segment(path, store)
            total = Shipment(
                total.num_segments + 1,
                total.num_records + one.num_records,
                total.num_damaged + one.num_damaged,
                (*total.keys, *one.keys),
            )
    return total


def _ship_segment(path: Path, store: Store) -> Shipment:
    segment = read_segment(path)
    name = f"{path.stem.partition('-')[0]}-{hash_of(path.read_bytes())[:16]}.parquet"
    groups: dict[str, list[Record]] = defaultdict(list)
    for record in segment.records:
        groups[f"{partition(record.product, moment(record))}/{name}"].append(record)
    for made in segment.made:
        if not store.exists(f"{ENVIRONMENTS}/{made.digest}.json"):
            _put(store, f"{ENVIRONMENTS}/{made.digest}.json", json.dumps(made.facts, sort_keys=True, indent=1).encode())
    for key, records in groups.items():
        _put(store, key, _parquet(records))
    if segment.num_damaged:
        path.rename(path.with_suffix(DAMAGED))
    else:
        path.unlink()
    return Shipment(1, len(segment.records), segment.num_damaged, tuple(groups))


def _put(store: Store, key: str, data: bytes) -> None:
    """Raises CaptureError unless the store itself then says that it has exactly this."""
    store.put_bytes(key, data)
    if store.stat(key).sha256 != hash_of(data):
        raise CaptureError(f"{store.uri}: {key}: expected what was put, got other bytes; the segment is kept")


def moment(record: Record) -> datetime:
    """When it was answered: aware, UTC."""
    return datetime.fromtimestamp(record.time_us / 1e6, UTC)


def partition(product: str, at: datetime) -> str:
    """The folder of the store that holds an hour of a product."""
    return f"{CAPTURES}/{product}/date={at:%Y-%m-%d}/hour={at:%H}"


def id_moment(prediction_id: str) -> datetime:
    """When a prediction with this id was asked for. Raises CaptureError for what is no UUID of version 7."""
    expected = "expected the X-Prediction-Id of an answered request, a UUID of version 7"
    try:  # the standard library's parser says so by raising
        value = UUID(prediction_id)
    except ValueError as error:
        raise CaptureError(f"prediction {prediction_id[:80]!r}: {expected}, got no UUID") from error
    if value.version != 7:
        raise CaptureError(f"prediction {prediction_id[:80]!r}: {expected}, got one of version {value.version}")
    return datetime.fromtimestamp((value.int >> 80) / 1000, UTC)


def find(store: Store, spools: Iterable[Path], prediction_id: str, products: Sequence[str] = ()) -> Record | None:
    """The captured prediction, from the spools or else the store; None when it was not captured or is gone.

    Raises CaptureError for a malformed id, StorageError. `products`, where known, saves listing all captures.
    """
    asked = id_moment(prediction_id)
    wanted = str(UUID(prediction_id))
    for record in spooled(spools):
        if record.prediction_id == wanted:
            return record
    return next((found for key in _keys_about(store, products, asked) for found in _read(store, key, wanted)), None)


def _keys_about(store: Store, products: Sequence[str], asked: datetime) -> Iterator[str]:
    """The files that may hold what was asked then: the hour's, and the next one's when it was nearly over."""
    moments = sorted({at.replace(minute=0, second=0, microsecond=0) for at in (asked, asked + LATE)})
    if products:
        folders = [partition(product, at) for at in moments for product in products]
        yield from sorted(found.key for folder in folders for found in store.list(folder))
    else:
        endings = tuple(partition("", at).removeprefix(CAPTURES).lstrip("/") for at in moments)
        keys = (found.key for found in store.list(CAPTURES))
        yield from sorted(key for key in keys if key.rpartition("/")[0].endswith(endings))


def spooled(spools: Iterable[Path]) -> Iterator[Record]:
    """Every whole record that is still in these spools, those being written included."""
    for spool in spools:
        for path in segments(spool, OPEN, READY, DAMAGED):
            for name in (path, path.with_suffix(READY)):
                try:
                    segment = read_segment(name)
                except FileNotFoundError:  # closed, or shipped, a moment ago
                    continue
                yield from segment.records
                break


def environment_of(store: Store, spools: Iterable[Path], digest: str) -> dict[str, str]:
    """What the process was made of; empty when nobody knows. Raises StorageError."""
    try:
        facts: dict[str, str] = json.loads(store.get_bytes(f"{ENVIRONMENTS}/{digest}.json"))
        return facts
    except NotThereError:
        made = (one for spool in spools for path in segments(spool, OPEN, READY) for one in _made(path))
        return next((dict(one.facts) for one in made if one.digest == digest), {})


def _made(path: Path) -> tuple[Made, ...]:
    return read_segment(path).made if path.exists() else ()


def read(store: Store, product: str, since: datetime, until: datetime) -> Iterator[Record]:
    """The shipped predictions of a product answered in [since, until), in order of time; aware datetimes.

    Holds the records of overlapping segments in memory, not an hour. Raises StorageError, CaptureError.
    """
    first_us, end_us = round(since.timestamp() * 1e6), round(until.timestamp() * 1e6)
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    waiting: list[tuple[int, str, Record]] = []
    while hour < until:
        for key in sorted(found.key for found in store.list(partition(product, hour))):
            begins_us = int(key.rpartition("/")[2].partition("-")[0])
            while waiting and waiting[0][0] < begins_us:
                yield heapq.heappop(waiting)[2]
            for record in _read(store, key) if begins_us < end_us else ():
                if first_us <= record.time_us < end_us:
                    heapq.heappush(waiting, (record.time_us, record.prediction_id, record))
        hour += timedelta(hours=1)
    while waiting:
        yield heapq.heappop(waiting)[2]


def last(store: Store, spools: Iterable[Path], product: str, num_records: int) -> list[Record]:
    """The newest captured predictions of a product, newest first; shipped segments count as new as they begin."""
    found = {record.prediction_id: record for record in spooled(spools) if record.product == product}
    num_shipped = 0
    for key in sorted((item.key for item in store.list(f"{CAPTURES}/{product}")), reverse=True):
        if num_shipped >= num_records:
            break
        shipped = {record.prediction_id: record for record in _read(store, key)}
        found |= shipped
        num_shipped += len(shipped)
    return sorted(found.values(), key=lambda record: record.time_us, reverse=True)[:num_records]


_TEXTS = ("prediction_id", "product", "parcel_digest", "protocol", "tenant", "key_id", "release", "environment")


def _schema() -> Any:
    import pyarrow as pa  # half a second, and who only captures does without

    text, count = pa.string(), pa.int64()
    tensor = [("name", text), ("dtype", text), ("shape", pa.list_(count)), ("data", pa.binary())]
    tensors = pa.list_(pa.struct(tensor))
    member = pa.struct([("product", text), ("version", count), ("parcel_digest", text), ("weight", pa.float64())])
    return pa.schema(
        [
            ("time", pa.timestamp("us", tz="UTC")),
            ("version", count),
            *((name, text) for name in _TEXTS),
            ("inputs", tensors),
            ("outputs", tensors),
            ("masked", pa.list_(text)),
            ("members", pa.list_(member)),
        ]
    )


def _parquet(records: Sequence[Record]) -> bytes:
    """One row per prediction; a tensor is its name, dtype, shape and raw bytes, null where masked."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [_row(record) for record in sorted(records, key=lambda record: record.time_us)]
    target = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_schema()), target, compression="zstd")
    return target.getvalue()


def _row(record: Record) -> dict[str, Any]:
    row: dict[str, Any] = msgspec.structs.asdict(record)
    del row["time_us"]
    row["time"] = moment(record)
    for side in ("inputs", "outputs"):
        row[side] = [{"name": name, **msgspec.structs.asdict(one)} for name, one in row[side].items()]
    row["members"] = [msgspec.structs.asdict(member) for member in record.members]
    return row


def _read(store: Store, key: str, prediction_id: str = "") -> list[Record]:
    """All records of a file, or those with an id."""
    import pyarrow.parquet as pq

    # Without threads of its own: with them, one process in four aborted when it ended.
    file = pq.ParquetFile(BytesIO(store.get_bytes(key)), pre_buffer=False)
    if prediction_id:
        ids = file.read(columns=["prediction_id"], use_threads=False)["prediction_id"].to_pylist()
        if prediction_id not in ids:
            return []
        table = file.read(use_threads=False).slice(ids.index(prediction_id), 1)
    else:
        table = file.read(use_threads=False)
    return [_record(row) for row in table.to_pylist()]


def _record(row: dict[str, Any]) -> Record:
    time_us = round(row.pop("time").timestamp() * 1e6)
    for side in ("inputs", "outputs"):
        row[side] = {one.pop("name"): one for one in row[side]}
    return msgspec.convert({"type": "prediction", "time_us": time_us, **row}, Record)
