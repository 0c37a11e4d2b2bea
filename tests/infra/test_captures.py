"""Captured predictions: shipped to a folder and to S3, found by id, read in order of time."""

import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from infra import captures
from infra.captures import CaptureError, environment_of, find, id_moment, last, read, ship
from infra.settings import Settings
from infra.spool import OPEN, READY, Made, Member, Record, SegmentWriter, frame, read_segment, segments, tensor_of
from infra.storage import StorageError, Store, open_store

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MADE = Made("e1", {"python": "3.11.2"})


@pytest.fixture
def store(store_settings: Settings) -> Store:
    return open_store(store_settings)


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    return tmp_path / "spool"


def id_at(at: datetime) -> str:
    """An id as a service gives it at this time."""
    high = int(at.timestamp() * 1000) << 16 | 0x7000 | (uuid.uuid4().int & 0xFFF)
    return str(uuid.UUID(int=high << 64 | 0x2 << 62 | uuid.uuid4().int & (1 << 62) - 1))


def record_at(at: datetime, product: str = "tiny", asked_s: float = 0.0) -> Record:
    x = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    return Record(
        prediction_id=id_at(at - timedelta(seconds=asked_s)),
        time_us=round(at.timestamp() * 1e6),
        product=product,
        version=3,
        parcel_digest="p1",
        protocol="grpc",
        tenant="north",
        key_id="k1",
        release='{"product": "tiny"}',
        environment=MADE.digest,
        inputs={"x": tensor_of(x), "clock": tensor_of(np.array([[71, 4]]), masked=True)},
        outputs={"forecast": tensor_of(x * 2)},
        masked=("clock",),
        members=(Member("tiny", 2, "p2", 0.25),),
    )


def write(spool: Path, *records: Record, close: bool = True) -> SegmentWriter:
    writer = SegmentWriter(spool, records[0].time_us, MADE)
    writer.append(b"".join(frame(record) for record in records))
    if close:
        writer.close()
    return writer


def test_what_is_shipped_is_found_and_is_the_same(spool: Path, store: Store) -> None:
    records = [record_at(NOON + timedelta(seconds=second)) for second in range(3)]
    write(spool, *records)
    assert find(store, [spool], records[1].prediction_id) == records[1]
    done = ship(spool, store)
    assert (done.num_segments, done.num_records, done.num_damaged) == (1, 3, 0)
    (key,) = done.keys
    assert key.startswith("captures/tiny/date=2026-03-01/hour=12/")
    assert not segments(spool, OPEN, READY)
    for products in ((), ("other", "tiny")):
        assert find(store, [spool], records[1].prediction_id, products) == records[1]
    assert find(store, [spool], id_at(NOON)) is None
    assert environment_of(store, [], MADE.digest) == MADE.facts
    assert environment_of(store, [], "other") == {}


def test_one_segment_goes_to_as_many_partitions_as_it_needs(spool: Path, store: Store) -> None:
    before, after = record_at(NOON - timedelta(seconds=1)), record_at(NOON + timedelta(seconds=1))
    write(spool, before, after, record_at(NOON, "other"))
    folders = {key.rpartition("/")[0] for key in ship(spool, store).keys}
    day = "date=2026-03-01"
    assert folders == {f"captures/tiny/{day}/hour=11", f"captures/tiny/{day}/hour=12", f"captures/other/{day}/hour=12"}
    assert [find(store, [], one.prediction_id, ["tiny"]) for one in (before, after)] == [before, after]


def test_an_answer_in_the_hour_after_its_question_is_found(spool: Path, store: Store) -> None:
    record = record_at(NOON + timedelta(seconds=10), asked_s=25)
    write(spool, record)
    ship(spool, store)
    assert find(store, [], record.prediction_id) == record


def test_the_same_segment_twice_is_one_object(spool: Path, store: Store, tmp_path: Path) -> None:
    write(spool, record_at(NOON))
    shutil.copytree(spool, tmp_path / "copy")  # as a shipper leaves it that is killed before it removes the segment
    first = ship(spool, store)
    assert ship(spool, store) == captures.Shipment()
    assert ship(tmp_path / "copy", store) == first
    assert len(list(store.list("captures"))) == 1


def test_a_segment_being_written_stays_and_one_left_behind_is_shipped(spool: Path, store: Store) -> None:
    record = record_at(NOON)
    writer = write(spool, record, close=False)
    assert ship(spool, store).num_segments == 0
    assert find(store, [spool], record.prediction_id) == record
    (path,) = segments(spool, OPEN)
    shutil.copy(path, spool / f"9{path.name}")  # the same without anybody who writes it
    assert ship(spool, store).num_records == 1
    writer.close()
    assert ship(spool, store).num_segments == 1


def test_a_torn_tail_is_left_out_and_a_damaged_record_kept_aside(spool: Path, store: Store) -> None:
    records = [record_at(NOON + timedelta(seconds=second)) for second in range(3)]
    write(spool, *records)
    (path,) = segments(spool, READY)
    data = bytearray(path.read_bytes())
    data[data.find(records[1].prediction_id.encode())] ^= 1
    path.write_bytes(data[:-1])
    found = read_segment(path)
    assert (found.records, found.num_damaged, found.num_torn_bytes > 0) == ((records[0],), 1, True)
    done = ship(spool, store)
    assert (done.num_records, done.num_damaged) == (1, 1)
    assert [item.suffix for item in spool.glob("[0-9]*")] == [captures.DAMAGED]
    assert ship(spool, store).num_segments == 0


def test_a_file_that_is_no_segment_says_nothing(spool: Path) -> None:
    spool.mkdir()
    (spool / "1-a.ready").write_bytes(b"nothing of ours")
    assert read_segment(spool / "1-a.ready").records == ()


def test_captures_are_read_in_order_of_time(spool: Path, store: Store) -> None:
    times = [NOON + timedelta(minutes=minute) for minute in (-70, -5, -4, 0, 1, 2, 3, 65)]
    records = [record_at(at) for at in times]
    write(spool, *records[0:7:2])  # two replicas, at the same time
    write(spool, *records[1:8:2])
    write(spool, record_at(NOON, "other"))
    ship(spool, store)
    assert list(read(store, "tiny", times[0], times[-1] + timedelta(seconds=1))) == records
    assert list(read(store, "tiny", times[2], times[5])) == records[2:5]
    assert last(store, [], "tiny", 1) == records[-1:]


def test_the_newest_are_those_in_the_spool_then_those_in_the_store(spool: Path, store: Store) -> None:
    records = [record_at(NOON + timedelta(minutes=minute)) for minute in range(4)]
    write(spool, *records[:2])
    ship(spool, store)
    write(spool, *records[2:])
    assert last(store, [spool], "tiny", 3) == records[:0:-1]
    assert last(store, [spool], "other", 3) == []


def test_a_segment_stays_while_the_store_refuses(spool: Path, tmp_path: Path) -> None:
    record = record_at(NOON)
    write(spool, record)
    (tmp_path / "store").write_text("a file in the way")
    with pytest.raises((StorageError, OSError)):
        ship(spool, open_store(Settings(home=tmp_path)))
    assert read_segment(segments(spool, READY)[0]).records == (record,)


@pytest.mark.parametrize("wrong", ["", "x", "local-20260301T120000", "d9428888-122b-11e1-b85c-61cd3cbb3210"])
def test_an_id_that_no_service_gives_is_refused(wrong: str, tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="UUID of version 7"):
        find(open_store(Settings(home=tmp_path)), [], wrong)


def test_an_id_tells_when_it_was_asked() -> None:
    assert abs(id_moment(id_at(NOON)) - NOON) < timedelta(milliseconds=2)
