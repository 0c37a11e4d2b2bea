"""Answers in JSON carry the very float32 values of the graph."""

import json
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.artifact.writer import Writer
from tests.models.artifact.test_reader import GRAY, ONE


def said(writer: Writer, outputs: Any, is_list: bool) -> Any:
    return json.loads(writer.body(outputs, is_list, "id-1"))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=6, max_size=6))
def test_every_float32_comes_back_bit_for_bit(numbers: list[float]) -> None:
    forecast = np.array(numbers, np.float32).reshape(1, 2, 3)
    answer = said(Writer(ONE, "toy/1"), {"forecast": forecast}, is_list=False)
    assert np.array(answer["predictions"], np.float32).tobytes() == forecast[0].tobytes()
    assert list(answer) == ["predictions", "units", "horizon_min", "nodes", "model_version", "prediction_id"]


def test_what_is_no_number_is_null() -> None:
    forecast = np.full((1, 2, 3), np.nan, np.float32)
    assert said(Writer(ONE), {"forecast": forecast}, is_list=True)["predictions"] == [[[None] * 3] * 2]


def test_names_are_a_tenants_and_may_hold_anything() -> None:
    names = {"no": 'n% "0"', "yes": "oui"}
    answer = said(Writer(GRAY, "toy/1", names), {"probabilities": np.array([[0.75, 0.25]], np.float32)}, is_list=False)
    assert answer["predictions"] == {
        "label": 'n% "0"', "probability": 0.75, "probabilities": {'n% "0"': 0.75, "oui": 0.25},
    }  # fmt: skip


def test_a_class_needs_its_threshold() -> None:
    writer = Writer(GRAY, thresholds={"no": 0.8, "yes": 0.2})
    shares = np.array([[0.75, 0.25], [0.9, 0.1], [0.79, 0.19]], np.float32)
    labels = [row["label"] for row in said(writer, {"probabilities": shares}, is_list=True)["predictions"]]
    assert labels == ["yes", "no", None]


def test_nodes_are_renamed_too() -> None:
    answer = said(Writer(ONE, labels={"a": "A 1"}), {"forecast": np.zeros((1, 2, 3), np.float32)}, is_list=False)
    assert answer["nodes"] == ["A 1", "b", "c"]
