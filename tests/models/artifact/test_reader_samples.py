"""Tensor tasks: the fast reader reads what `wire` reads, refuses what it refuses, and in the same words."""

import json
import random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.artifact.manifest import Manifest
from models.artifact.reader import Reader
from models.data.card import TensorSpec
from tests.models.artifact.test_reader import FACTS, PIECES, assert_alike

SPECS = (
    TensorSpec(name="x", shape=(2, 3), can_miss=True, minimum=0, maximum=100),
    TensorSpec(name="place", shape=(2,), labels=("east", "north")),
    TensorSpec(name="slot", shape=(1,), dtype="int64", minimum=0, maximum=2**53),
    TensorSpec(name="speed", shape=()),
)
MIXED = Manifest(**FACTS, task="localise", ranges=(), inputs=SPECS, output=TensorSpec(name="y", shape=(2,)))
ONE = {"x": [[1, 2.5, None], [0, 1e2, 3]], "place": [-1.5, 2], "slot": [2**24 + 1], "speed": 13.5}
BODIES = [
    ONE, [ONE, {**ONE, "speed": -1}], {**ONE, "place": {"north": 1, "east": 2}}, {**ONE, "x": [[1, 2, 3]]},
    {**ONE, "slot": [1.5]}, {**ONE, "slot": [2.0]}, {**ONE, "slot": [-1]}, {**ONE, "slot": [2**63]},
    {**ONE, "slot": [None]},
    {**ONE, "x": [[101, 2, 3], [4, 5, 6]]}, {**ONE, "speed": None}, {**ONE, "speed": [1]}, {**ONE, "speed": 10**400},
    {**ONE, "more": 1}, {"x": ONE["x"]}, [ONE] * 3, [ONE] * 4, [], [ONE, 1], 5, {**ONE, "place": [1, True]},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BODIES)))
def test_every_form_is_read_alike(number: int) -> None:
    assert_alike(MIXED, json.dumps({"data": BODIES[number]}).encode())


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 2), seed=st.integers(0, 2**32))
def test_every_damaged_text_is_refused_in_the_same_words(number: int, seed: int) -> None:
    rng = random.Random(seed)
    payload = json.dumps({"data": BODIES[number]}).encode()
    for _ in range(rng.randrange(1, 3)):
        start = rng.randrange(len(payload))
        payload = payload[:start] + rng.choice(PIECES) + payload[start + rng.randrange(3) :]
    assert_alike(MIXED, payload)


def test_whole_numbers_are_not_rounded_to_a_float32_and_nothing_is_copied_between_rows() -> None:
    read = Reader(MIXED).read(json.dumps({"data": [ONE, {**ONE, "speed": 0.1}]}).encode())
    assert read.is_list and read.num_rows == 2 and read.inputs["slot"].tolist() == [[2**24 + 1]] * 2
    assert read.inputs["speed"].tolist() == [13.5, float(np.float32(0.1))]
    assert np.isnan(read.inputs["x"][:, 0, 2]).all() and read.inputs["x"].dtype == np.float32


def test_a_text_without_an_end_is_refused_and_not_followed() -> None:
    nested: Any = b'{"data":' + b"[" * 100_000
    assert_alike(MIXED, nested)
