"""What a request may be, and in which words every other one is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.artifact import wire
from models.artifact.manifest import Manifest
from models.artifact.wire import InputError
from models.data.windows import clock

FACTS: dict[str, Any] = {
    "product": "toy", "variant": "v", "family": "f", "data_digest": "d", "recipe_digest": "r", "code_commit": "c",
    "num_parameters": 1, "opset": 20, "max_batch": 3, "files": {},
}  # fmt: skip
FORECAST = Manifest(
    **FACTS, task="forecast", nodes=("a", "b", "c"), channels=("speed_kmh", "flow_vph"), units=("km/h", "veh/h"),
    ranges=((0, 150), (0, None)), past_steps=2, horizon_steps=2, cadence_min=5, slots_per_day=288, judged_step=1,
    max_missing_share=0.25,
)  # fmt: skip
SINGLE = FORECAST.model_copy(update={"channels": ("speed_kmh",), "units": ("km/h",), "ranges": ((0.0, 150.0),)})
GRAY = Manifest(**FACTS, task="classify", classes=("no", "yes"), image_shape=(1, 2, 3), ranges=((0.0, 1.0),))
COLOUR = GRAY.model_copy(update={"image_shape": (3, 2, 3)})
TIME = "2024-05-31T17:45:00"  # a Friday
VALUES = [[[50.0, 900.0], [60.0, 800.0], [70.0, 700.0]], [[51.0, 901.0], [61.0, None], [71.0, 701.0]]]
PLANE = [[0.0, 0.1, 0.2], [0.3, 0.4, 1.0]]


def window(**changes: Any) -> dict[str, Any]:
    return {"time": TIME, "values": VALUES, **changes}


def parse(manifest: Manifest, body: Any) -> wire.Request:
    return wire.parse_request(manifest, json.dumps(body).encode())


def altered(step: int, node: int, channel: int, value: Any) -> dict[str, Any]:
    values = json.loads(json.dumps(VALUES))
    values[step][node][channel] = value
    return {"data": window(values=values)}


def test_window_becomes_values_mask_and_clock() -> None:
    request = parse(FORECAST, {"data": window()})
    assert not request.is_list and request.num_rows == 1
    assert request.inputs["x"].dtype == request.inputs["mask"].dtype == np.float32
    assert request.inputs["x"][0, 1].tolist() == [[51, 901], [61, 0], [71, 701]]
    assert request.inputs["mask"][0, 1].tolist() == [[1, 1], [1, 0], [1, 1]]
    assert request.inputs["clock"].tolist() == [[17 * 12 + 9, 4]]


@pytest.mark.parametrize(
    "body",
    [
        {"data": VALUES, "time": TIME},
        {"data": VALUES, "time": "2024-05-31 17:45"},
        {"data": VALUES, "time": "2024-05-31T19:45:00+02:00"},
        {"data": VALUES, "time": TIME + "Z", "nodes": ["a", "b", "c"]},
        {"data": [window()]},
        {"data": window(nodes=["c", "a", "b"], values=[[step[2], step[0], step[1]] for step in VALUES])},
    ],
)
def test_every_form_of_the_same_window_is_read_alike(body: dict[str, Any]) -> None:
    expected, request = parse(FORECAST, {"data": window()}).inputs, parse(FORECAST, body)
    assert all(np.array_equal(request.inputs[name], expected[name]) for name in expected)
    assert request.is_list == isinstance(body["data"][0] if isinstance(body["data"], list) else None, dict)


def test_one_channel_may_be_left_out() -> None:
    flat = [[reading[0] for reading in step] for step in VALUES]
    deep = [[[reading[0]] for reading in step] for step in VALUES]
    shapes = [parse(SINGLE, {"data": values, "time": TIME}).inputs["x"].shape for values in (flat, deep)]
    assert shapes == [(1, 2, 3, 1)] * 2


Bad = tuple[Manifest, Any, str, str, str, str]
BAD: list[Bad] = [
    (FORECAST, [], "wrong type", "body", "object", "array"),
    (FORECAST, {}, "missing field", "body", "the field `data`", "none"),
    (FORECAST, {"data": "x"}, "wrong type", "data", "object or array", "str"),
    (FORECAST, {"data": VALUES}, "missing field", "body", "the field `time`", "none"),
    (FORECAST, {"data": []}, "wrong batch size", "data", "1 to 3 items", "0"),
    (FORECAST, {"data": [window()] * 4}, "wrong batch size", "data", "1 to 3 items", "4"),
    (FORECAST, {"data": [window(), VALUES[0]]}, "wrong type", "data[1]", "an object", "array"),
    (FORECAST, {"data": window(), "time": TIME}, "misplaced field", "body", "inside `data`", "beside it"),
    (FORECAST, {"data": window(tine=1)}, "unknown field", "data", "`data`, `time`", "`tine`"),
    (FORECAST, {"data": {"time": TIME}}, "missing field", "data", "the field `values`", "none"),
    (FORECAST, {"data": window(values=VALUES[:1])}, "wrong shape", "data.values", "[2][3][2]", "[1][3][2]"),
    (FORECAST, {"data": window(values=[VALUES[0], VALUES[1][:2]])}, "ragged array", "data.values[1]", "3", "2 items"),
    (FORECAST, {"data": window(values=[[1, 2, 3]] * 2)}, "wrong shape", "data.values", "speed_kmh, flow_vph", "[2][3]"),
    (FORECAST, altered(1, 2, 0, "fast"), "wrong type", "data.values[1][2][0]", "float or null", "str"),
    (FORECAST, altered(1, 2, 0, True), "wrong type", "data.values[1][2][0]", "float or null", "bool"),
    (FORECAST, altered(1, 2, 0, 151), "speed_kmh outside", "data.values[1][2][0] (node c)", "0 to 150 km/h", "151"),
    (FORECAST, altered(0, 1, 1, -1), "flow_vph outside", "data.values[0][1][1] (node b)", "at least 0 veh/h", "-1"),
    (FORECAST, altered(0, 1, 1, 1e39), "flow_vph outside", "data.values[0][1][1]", "at least 0 veh/h", "inf"),
    (FORECAST, altered(0, 1, 1, math.nan), "not a number", "body, byte", "null where missing", "NaN"),
    (FORECAST, altered(0, 1, 1, -math.inf), "not a number", "body, byte", "null where missing", "-Infinity"),
    (FORECAST, {"data": window(values=[[[1, 2]] * 3, [[None, None]] * 3])}, "too much", "values", "25.0%", "50.0%"),
    (FORECAST, {"data": window(nodes=["a", "b", "x"])}, "unknown node", "data.nodes[2]", "one of a, b, c", "'x'"),
    (FORECAST, {"data": window(nodes=["a", "b"])}, "missing nodes", "data.nodes", "all 3 nodes", "none for c"),
    (FORECAST, {"data": window(nodes=["a", "b", "a"])}, "repeated node", "data.nodes", "once", "'a' more than once"),
    (FORECAST, {"data": window(time="noon")}, "not a time", "data.time", "ISO 8601", "'noon'"),
    (FORECAST, {"data": window(time=1717177500)}, "wrong type", "data.time", "str", "int"),
    (FORECAST, {"data": window(time="2024-05-31T17:46")}, "time off the grid", "data.time", "5 min", "17:46"),
    (
        FORECAST,
        {"data": [window(), window(time="0001-01-01T00:00+23:00")]},
        "not a time",
        "data[1].time",
        "ISO",
        "0001",
    ),
    (GRAY, {"data": [[0.1, 0.2]]}, "wrong shape", "data", "[1][2][3] or [2][3]", "[1][2]"),
    (GRAY, {"data": [PLANE] * 4}, "wrong batch size", "data", "1 to 3 items", "4"),
    (GRAY, {"data": [[0, 0, 0], [0, 255, 0]]}, "pixel outside its range", "data[1][1]", "0 to 1", "255"),
    (GRAY, {"data": [[0, 0, 0], [0, None, 0]]}, "wrong type", "data[1][1]", "float or array", "null"),
    (GRAY, {"data": PLANE, "time": TIME}, "unknown field", "body", "`data`", "`time`"),
    (COLOUR, {"data": PLANE}, "wrong shape", "data", "[3][2][3] (channels, height, width)", "[2][3]"),
]


@pytest.mark.parametrize(("manifest", "body", "what", "where", "expected", "got"), BAD)
def test_what_breaks_the_contract_is_refused_in_precise_words(
    manifest: Manifest, body: Any, what: str, where: str, expected: str, got: str
) -> None:
    with pytest.raises(InputError) as refusal:
        parse(manifest, body)
    said = refusal.value.as_dict()
    assert what in said["what"] and where in said["where"] and expected in said["expected"] and got in said["got"]


@pytest.mark.parametrize("payload", [b"", b"{", b"\xff\xfe{}", b'{"data": 01}', b"[" * 100_000])
def test_what_is_not_json_is_refused(payload: bytes) -> None:
    with pytest.raises(InputError):
        wire.parse_request(FORECAST, payload)


def test_number_beyond_a_double_is_refused() -> None:
    with pytest.raises(InputError, match="not a number"):
        wire.parse_request(FORECAST, json.dumps({"data": window()}).replace("50.0", "1e999").encode())


def test_gray_images_are_read_in_every_form() -> None:
    forms: list[tuple[Any, int, bool]] = [
        (PLANE, 1, False),
        ([PLANE], 1, False),
        ([PLANE] * 2, 2, True),
        ([[PLANE]], 1, True),
    ]
    for data, num_rows, is_list in forms:
        request = parse(GRAY, {"data": data})
        assert request.inputs["x"].shape == (num_rows, 1, 2, 3) and request.is_list == is_list


def test_forecast_answer_has_units_and_minutes_ahead() -> None:
    outputs = np.array([[[61.23456789, 1, 2], [3, 4, 5]]], np.float32)
    said = wire.answer(FORECAST, outputs, is_list=False)
    assert said["predictions"] == [[61.23457, 1, 2], [3, 4, 5]]
    assert (said["units"], said["horizon_min"], said["nodes"]) == ("km/h", [5, 10], ["a", "b", "c"])
    assert wire.answer(FORECAST, outputs, is_list=True)["predictions"] == [said["predictions"]]


def test_classify_answer_has_probabilities_even_for_large_logits() -> None:
    said = wire.answer(GRAY, np.array([[1000.0, 1001.0]], np.float32), is_list=False)["predictions"]
    assert said["label"] == "yes" and said["probability"] == said["probabilities"]["yes"] == pytest.approx(0.731059)
    assert sum(said["probabilities"].values()) == pytest.approx(1)


@given(seed=st.integers(0, 2**31), minutes=st.integers(-50_000_000, 50_000_000))
def test_request_built_from_a_window_reads_back_exactly(seed: int, minutes: int) -> None:
    rng = np.random.default_rng(seed)
    mask = (rng.random((2, 3, 2)) > 0.1).astype(np.float32)
    mask[0] = 1
    x = (rng.random((2, 3, 2)) * 150).astype(np.float32) * mask
    time = np.datetime64("1970-01-01T00:00") + 5 * minutes // 5
    time = time - (time.astype(np.int64) % 5)
    request = parse(FORECAST.model_copy(update={"max_missing_share": 1.0}), wire.build_request(x, mask, time))
    assert np.array_equal(request.inputs["x"][0], x) and np.array_equal(request.inputs["mask"][0], mask)
    assert np.array_equal(request.inputs["clock"], clock(np.array([time]), 5.0)), "the clock of training"


def test_numbers_of_an_answer_in_order() -> None:
    assert wire.numbers([[1, 2], [3]]).tolist() == [1, 2, 3]
    assert wire.numbers({"label": "a", "probabilities": {"a": 0.9, "b": 0.1}}).tolist() == [0.9, 0.1]
