"""Capture: what is sampled, what is stored, and that nothing accepted is lost."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from infra.spool import OPEN, READY, Record, read_segment, segments
from models.artifact import tensors, wire
from models.artifact.predictor import Predictor
from services.answers import Caller, sortable_id
from services.capture import Capture, Limits
from services.environment import differences, digest, environment
from services.schemas import Release

FAST = Limits(write_every_s=0.01, retry_s=0.01)
ASKED_BY = Caller(name="Ada, 10.0.0.7", tenant="north", key_id="k1")


@dataclass(frozen=True)
class Answering:
    """What a capture sees of a served model."""

    release: Release
    predictor: Predictor

    @property
    def manifest(self) -> Any:
        return self.predictor.manifest


@pytest.fixture
def served(released: tuple[Path, Release]) -> Answering:
    return Answering(released[1], Predictor.open(released[0]))


@pytest.fixture
def offer(served: Answering, window: dict[str, Any]) -> Callable[..., str]:
    """Answers the window and offers it; returns the prediction's id."""
    inputs = wire.parse_request(served.manifest, msgspec.json.encode({"data": window})).inputs
    outputs = tensors.outputs(served.manifest, served.predictor.predict(inputs))

    def make(capture: Capture, **changed: Any) -> str:
        prediction_id = sortable_id()
        capture.offer(served, prediction_id, ASKED_BY, "rest", {**inputs, **changed}, outputs)
        return prediction_id

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Capture]]:
    """Starts captures into `tmp_path / "spool"`; those left running are stopped."""
    started: list[Capture] = []

    def make(**options: Any) -> Capture:
        started.append(Capture(tmp_path / "spool", **{"limits": FAST, **options}))
        started[-1].start()
        return started[-1]

    yield make
    for capture in started:
        capture.stop()


def stored(folder: Path, *suffixes: str) -> list[Record]:
    return [one for path in segments(folder, *(suffixes or (OPEN, READY))) for one in read_segment(path).records]


def until(done: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_was_answered_is_stored(
    start: Callable[..., Capture], offer: Callable[..., str], served: Answering, tmp_path: Path
) -> None:
    capture = start()
    prediction_id = offer(capture)
    until(lambda: capture.counts()["written"])
    (record,) = stored(tmp_path / "spool", OPEN)  # readable while it is written
    capture.stop()
    assert stored(tmp_path / "spool", READY) == [record]
    assert (record.prediction_id, record.protocol, record.product) == (prediction_id, "rest", "tiny")
    assert (record.tenant, record.key_id) == ("north", "k1")
    assert Release.model_validate_json(record.release) == served.release
    inputs = {name: tensor.array() for name, tensor in record.inputs.items()}
    again = tensors.outputs(served.manifest, served.predictor.predict(inputs))["forecast"]
    assert record.outputs["forecast"].array().tobytes() == again.tobytes()


def test_neither_name_nor_address_of_the_caller_is_stored(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    capture = start()
    offer(capture)
    capture.stop()
    (path,) = segments(tmp_path / "spool", READY)
    assert b"Ada" not in path.read_bytes()
    assert b"10.0.0.7" not in path.read_bytes()


def test_every_segment_says_what_its_process_was_made_of(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    capture = start(limits=Limits(write_every_s=0.01, segment_bytes=1))
    ids = []
    for number in range(3):
        ids.append(offer(capture))
        until(lambda number=number: capture.counts()["written"] > number)
    found = [read_segment(path) for path in segments(tmp_path / "spool", READY)]
    assert [one.records[0].prediction_id for one in found] == ids
    for one in found:
        assert one.made[0].facts == dict(environment())
        assert one.records[0].environment == one.made[0].digest == digest(environment())


def test_the_share_decides_by_the_id(start: Callable[..., Capture], offer: Callable[..., str]) -> None:
    none, half = start(share=0.0), start(share=0.5, per_second=1e9)
    for _ in range(200):
        offer(none)
        offer(half)
    assert none.counts()["skipped"] == 200
    assert 50 < half.counts()["accepted"] < 150


def test_no_more_than_so_many_in_a_second(start: Callable[..., Capture], offer: Callable[..., str]) -> None:
    seconds = [100.0]
    capture = start(per_second=5, clock=lambda: seconds[0])
    for _ in range(20):
        offer(capture)
    assert capture.counts()["accepted"] == 5
    seconds[0] += 0.4
    for _ in range(20):
        offer(capture)
    assert (capture.counts()["accepted"], capture.counts()["skipped"]) == (7, 33)


@pytest.mark.parametrize("limits", [Limits(waiting_records=3), Limits(waiting_bytes=900)])
def test_a_full_buffer_drops_and_counts(limits: Limits, tmp_path: Path, offer: Callable[..., str]) -> None:
    capture = Capture(tmp_path / "spool", limits=limits)  # nobody writes yet
    ids = [offer(capture) for _ in range(10)]
    accepted = capture.counts()["accepted"]
    assert 0 < accepted < 10
    assert capture.counts()["dropped"] == 10 - accepted
    capture.start()
    capture.stop()
    assert [record.prediction_id for record in stored(tmp_path / "spool")] == ids[:accepted]


def test_masked_inputs_and_nodes_are_never_stored(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    capture = start(masked=("clock", "b"))
    offer(capture)
    capture.stop()
    (record,) = stored(tmp_path / "spool")
    assert record.masked == ("clock", "b")
    assert record.inputs["clock"].data is None
    for tensor in (record.inputs["x"], record.inputs["mask"], record.outputs["forecast"]):
        values = tensor.array()
        assert np.isnan(values[:, :, 1]).all()
        assert not np.isnan(values[:, :, [0, 2]]).any()


def test_what_cannot_be_stored_is_refused_and_the_rest_goes_on(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    capture = start()
    offer(capture, clock=np.array([object()]))
    good = offer(capture)
    capture.stop()
    assert [record.prediction_id for record in stored(tmp_path / "spool")] == [good]
    assert capture.counts()["refused"] == 1


def test_a_folder_that_cannot_be_written_is_tried_again(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file in the way")
    capture = start()
    first = offer(capture)
    until(lambda: capture.counts()["failed"])
    second = offer(capture)
    (tmp_path / "spool").unlink()
    until(lambda: capture.counts()["written"] == 2)
    assert [record.prediction_id for record in stored(tmp_path / "spool")] == [first, second]


def test_a_spool_that_nobody_ships_is_full_once(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    capture = start(limits=Limits(write_every_s=0.01, retry_s=0.01, segment_bytes=1, spool_bytes=1))
    first = offer(capture)
    until(lambda: capture.counts()["written"] == 1)
    second = offer(capture)
    until(lambda: capture.counts()["failed"])
    assert [record.prediction_id for record in stored(tmp_path / "spool")] == [first]
    segments(tmp_path / "spool", READY)[0].unlink()  # shipped
    until(lambda: capture.counts()["written"] == 2)
    assert [record.prediction_id for record in stored(tmp_path / "spool")] == [second]


def test_a_segment_is_closed_when_it_is_old(
    start: Callable[..., Capture], offer: Callable[..., str], tmp_path: Path
) -> None:
    capture = start(limits=Limits(write_every_s=0.01, segment_s=0.02))
    offer(capture)
    until(lambda: stored(tmp_path / "spool", READY))
    assert not segments(tmp_path / "spool", OPEN)


def test_a_refusing_disk_does_not_hold_up_the_end(offer: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "spool").write_text("a file in the way")
    capture = Capture(tmp_path / "spool", limits=Limits(write_every_s=0.01, retry_s=0.01, stop_s=0.05))
    offer(capture)
    capture.start()
    capture.stop()
    assert capture.counts()["written"] == 0
    assert capture.counts()["failed"] > 0


def test_environments_are_held_beside_each_other() -> None:
    facts = dict(environment())
    assert {"python", "numpy", "onnxruntime", "machine", "processor", "providers", "code"} <= set(facts)
    assert differences(facts, facts) == {}
    assert differences(facts, {**facts, "numpy": "1.0"}) == {"numpy": (facts["numpy"], "1.0")}


def test_capturing_needs_neither_parquet_nor_a_store() -> None:
    heavy = "{'pyarrow', 'polars', 'boto3', 'torch', 'infra.storage'}"
    script = f"import sys, services.capture; assert not {heavy} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
