"""The fast reader reads what `wire` reads, refuses what it refuses, and in the same words."""

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact import wire
from models.artifact.manifest import Manifest
from models.artifact.reader import Reader
from models.artifact.wire import InputError

FACTS: dict[str, Any] = {
    "product": "toy", "variant": "v", "family": "f", "data_digest": "d", "recipe_digest": "r", "code_commit": "c",
    "num_parameters": 1, "opset": 20, "max_batch": 3, "files": {},
}  # fmt: skip
TWO = Manifest(
    **FACTS, task="forecast", nodes=("a", "b", "c"), channels=("speed_kmh", "flow_vph"), units=("km/h", "veh/h"),
    ranges=((0, 150), (0, None)), past_steps=2, horizon_steps=2, cadence_min=5, slots_per_day=288, judged_step=1,
    max_missing_share=0.25,
)  # fmt: skip
ONE = TWO.model_copy(update={"channels": ("speed_kmh",), "units": ("km/h",), "ranges": ((0.0, 150.0),)})
GRAY = Manifest(**FACTS, task="classify", classes=("no", "yes"), image_shape=(1, 2, 3), ranges=((0.0, 1.0),))
COLOUR = GRAY.model_copy(update={"image_shape": (3, 2, 3)})
TIME = "2024-05-31T17:45:00"
DEEP = [[[50.0, 900], [60.0, 8e2], [70.25, 700]], [[51.5, 901], [61, None], [7.1e1, 701]]]
FLAT = [[50.0, 60, 7.5e1], [51.5, None, 71]]
PLANE = [[0, 0.1, 2e-1], [0.3, 0.4, 1.0]]
WINDOW, SHORT = {"time": TIME, "values": DEEP}, {"time": TIME, "values": FLAT}

BODIES: list[tuple[Manifest, Any]] = [
    (TWO, {"data": WINDOW}),
    (TWO, {"data": [WINDOW, {**WINDOW, "nodes": ["c", "a", "b"]}]}),
    (TWO, {"data": DEEP, "time": TIME}),
    (TWO, {"data": {**WINDOW, "nodes": ["c", "b", "a"]}}),
    (TWO, {"data": {**WINDOW, "time": "2024-05-31T17:46:00"}}),
    (TWO, {"data": {**WINDOW, "nodes": ["c", "b"]}}),
    (ONE, {"data": SHORT}),
    (ONE, {"data": [SHORT, {**SHORT, "values": [[[reading] for reading in step] for step in FLAT]}]}),
    (ONE, {"data": {**SHORT, "values": [[1, 2, 3], [4, 5, 6]]}}),
    (ONE, {"data": {**SHORT, "values": [[1, 2, 3], [4, 5, 1e39]]}}),
    (ONE, {"data": {**SHORT, "values": [[None, None, 3], [4, 5, 6]]}}),
    (GRAY, {"data": PLANE}),
    (GRAY, {"data": [PLANE]}),
    (GRAY, {"data": [[PLANE]]}),
    (GRAY, {"data": [PLANE] * 3}),
    (GRAY, {"data": [PLANE] * 4}),
    (GRAY, {"data": [[0, 0, 0], [0, 1e300, 0]]}),
    (GRAY, {"data": [[0, 0, 0], [0, None, 0]]}),
    (COLOUR, {"data": [PLANE] * 3}),
    (COLOUR, {"data": [[PLANE] * 3] * 2}),
]


def outcome(read: Any, payload: bytes) -> Any:
    """Inputs as bytes with their types and shapes, or the words of the refusal."""
    try:
        request = read(payload)
    except InputError as error:
        return error.as_dict()
    arrays = {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in request.inputs.items()}
    return arrays, request.is_list


def assert_alike(manifest: Manifest, payload: bytes) -> None:
    slow = outcome(lambda body: wire.parse_request(manifest, body), payload)
    assert outcome(Reader(manifest).read, payload) == slow, payload


@pytest.mark.parametrize("number", range(len(BODIES)))
@pytest.mark.parametrize("layout", [None, 1])
def test_every_form_is_read_alike(number: int, layout: int | None) -> None:
    manifest, body = BODIES[number]
    assert_alike(manifest, json.dumps(body, indent=layout).encode())


PIECES = [b"[", b"]", b",", b"1", b"-", b".", b"e", b"n", b"null", b"true", b'"1"', b"0", b" ", b"{", b"}", b"1e999",
          b"NaN", b"", b"[]", b"1,", b"00", b"\xff", b":", b"1e39", b"-0"]  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(number=st.integers(0, len(BODIES) - 1), seed=st.integers(0, 2**32), num_changes=st.integers(1, 3))
def test_every_damaged_text_is_refused_in_the_same_words(number: int, seed: int, num_changes: int) -> None:
    rng = random.Random(seed)
    manifest, body = BODIES[number]
    payload = json.dumps(body).encode()
    for _ in range(num_changes):
        start = rng.randrange(len(payload))
        payload = payload[:start] + rng.choice(PIECES) + payload[start + rng.randrange(3) :]
    assert_alike(manifest, payload)


@pytest.mark.parametrize(
    "values",
    [b"[[1,2,3][4,5,6]]", b"[[1,2,3],[4,5,6]", b"[[1,2],[3,4,5,6]]", b"1[[,2,3],[4,5,6]]", b"[1[,2,3],[4,5,6]]",
     b"[[1,2,3],[4,5,]]", b"[[1,2,3],[4,5,true]]", b"[[1,2,3],[4,5,01]]", b"[[1,2,3],[4,5,1 1]]",
     b"[[1,2,3],[4,5,nul]]",
     b"[[1,2,3],[4,5,1.]]", b"[[1,2,3],[4,5,+1]]", b"[[1,2,3],[4,5,-]]", b"[[1,2,3],[4,5,123456789012345678901234]]"],
)  # fmt: skip
def test_texts_whose_brackets_look_right_are_no_way_in(values: bytes) -> None:
    assert_alike(ONE, b'{"data":{"time":"%b","values":%b}}' % (TIME.encode(), values))


def test_what_is_shared_between_requests_cannot_be_changed() -> None:
    body = json.dumps({"data": {**SHORT, "values": [[1, 2, 3], [4, 5, 6]]}}).encode()
    mask = Reader(ONE).read(body).inputs["mask"]
    assert mask.all()
    with pytest.raises(ValueError, match="read-only"):
        mask[:] = 0


@given(seed=st.integers(0, 2**31))
def test_every_float32_is_read_exactly(seed: int) -> None:
    x = np.random.default_rng(seed).uniform(0, 150, (2, 3, 2)).astype(np.float32)
    read = Reader(TWO).read(json.dumps({"data": {"time": TIME, "values": x.tolist()}}).encode())
    assert np.array_equal(read.inputs["x"][0], x)
