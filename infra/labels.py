"""What really came about, told later: truths by prediction, as Parquet in the object store.

`labels/<product>/date=YYYY-MM-DD/hour=HH/<hash of the rows>.parquet`, by the time of the prediction, which its id says.
A key is named by its rows, so a file that is added twice is stored once. Of two truths for the same value the one added
later counts.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any, NamedTuple

import msgspec

from infra.captures import id_moment
from infra.objects import Store, hash_of

LABELS = "labels"


class Label(NamedTuple):
    """One truth. row: of the request's batch; place: an entry of the answer, a node, a station; "" where there is one.

    step: of the horizon, from 1; 0 where there is none
    """

    prediction_id: str
    row: int
    place: str
    step: int
    truth: str


class Added(NamedTuple):
    """What one adding did."""

    num_labels: int
    num_new_files: int
    keys: tuple[str, ...]


def add(store: Store, product: str, labels: Sequence[Label], now: datetime) -> Added:
    """Keep these truths; idempotent. Raises CaptureError for an id that no service gives, StorageError."""
    groups: dict[str, list[Label]] = defaultdict(list)
    for one in labels:
        groups[partition(product, id_moment(one.prediction_id))].append(one)
    keys, num_new = [], 0
    for folder, rows in sorted(groups.items()):
        ordered = sorted(set(rows))
        key = f"{folder}/{hash_of(msgspec.json.encode(ordered))[:24]}.parquet"
        if not store.exists(key):
            store.put_bytes(key, _parquet(ordered, now))
            num_new += 1
        keys.append(key)
    return Added(len(labels), num_new, tuple(keys))


def read(store: Store, product: str, since: datetime, until: datetime) -> list[Label]:
    """The truths of predictions asked in [since, until), each value once. Raises StorageError."""
    found: dict[tuple[str, int, str, int], tuple[int, Label]] = {}
    for added_us, label in _all(store, product, since, until):
        if since <= id_moment(label.prediction_id) < until:
            known = found.get(label[:4])
            if known is None or known[0] <= added_us:
                found[label[:4]] = (added_us, label)
    return [label for _, label in found.values()]


def partition(product: str, at: datetime) -> str:
    """The folder of the store that holds an hour of a product."""
    return f"{LABELS}/{product}/date={at:%Y-%m-%d}/hour={at:%H}"


def _all(store: Store, product: str, since: datetime, until: datetime) -> Iterator[tuple[int, Label]]:
    hour = since.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    while hour < until:
        for key in sorted(found.key for found in store.list(partition(product, hour))):
            yield from _rows(store.get_bytes(key))
        hour += timedelta(hours=1)


def _rows(data: bytes) -> Iterator[tuple[int, Label]]:
    import pyarrow.parquet as pq  # half a second

    table = pq.ParquetFile(BytesIO(data), pre_buffer=False).read(use_threads=False)
    for row in table.to_pylist():
        added = row.pop("added")
        yield round(added.timestamp() * 1e6), Label(**row)


def _parquet(rows: Sequence[Label], now: datetime) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    text, count = pa.string(), pa.int64()
    fields: list[tuple[str, Any]] = [("prediction_id", text), ("row", count), ("place", text), ("step", count)]
    schema = pa.schema([*fields, ("truth", text), ("added", pa.timestamp("us", tz="UTC"))])
    target = BytesIO()
    pq.write_table(
        pa.Table.from_pylist([{**one._asdict(), "added": now} for one in rows], schema=schema), target,
        compression="zstd",
    )  # fmt: skip
    return target.getvalue()
