"""Arrays are held to the same contract as JSON, in the same words, and pass uncopied where they are sound."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from models.artifact import tensors, wire
from models.artifact.checks import InputError
from models.artifact.manifest import Manifest

FIELDS: dict[str, Any] = {
    "product": "toy", "variant": "v", "data_digest": "d", "recipe_digest": "r", "code_commit": "c",
    "num_parameters": 1, "opset": 20, "max_batch": 4, "files": {},
}  # fmt: skip
FORECAST = Manifest(
    **FIELDS, task="forecast", family="f", ranges=((0.0, 150.0), (0.0, None)), nodes=("a", "b", "c"),
    channels=("speed_kmh", "flow_vph"), units=("km/h", "veh/h"), past_steps=4, horizon_steps=2, cadence_min=15.0,
    slots_per_day=96, judged_step=1, max_missing_share=0.25,
)  # fmt: skip
CLASSIFY = Manifest(
    **FIELDS, task="classify", family="f", ranges=((0.0, 1.0),), classes=("no", "yes", "maybe"), image_shape=(1, 2, 2)
)
TIME = "2024-05-31T17:45:00"
TIMES = np.array([TIME, TIME], object)
WINDOW = (4, 3, 2)


def readings(num_rows: int = 2) -> NDArray[np.float32]:
    return np.linspace(0, 150, num_rows * 24, dtype=np.float32).reshape(num_rows, *WINDOW)


def refusal(manifest: Manifest, **given_tensors: Any) -> InputError:
    with pytest.raises(InputError) as caught:
        tensors.inputs(manifest, given_tensors)
    assert all(caught.value.as_dict().values())
    return caught.value


def test_sound_arrays_are_handed_on_uncopied() -> None:
    x, clock, images = readings(), np.array([[71, 4], [0, 6]]), np.zeros((3, 1, 2, 2), np.float32)
    found = tensors.inputs(FORECAST, {"x": x, "clock": clock})
    assert found["x"] is x and found["clock"] is clock and (found["mask"] == 1).all()
    assert tensors.inputs(CLASSIFY, {"x": images})["x"] is images


@pytest.mark.parametrize("times", [TIMES, np.array([TIME.encode()] * 2, object), np.array([TIME] * 2)])
def test_times_become_the_clock(times: NDArray[Any]) -> None:
    assert tensors.inputs(FORECAST, {"x": readings(), "time": times})["clock"].tolist() == [[71, 4]] * 2


def test_missing_is_said_by_nan_or_by_the_mask_to_the_same_effect() -> None:
    x, mask = readings(), np.ones((2, *WINDOW), np.float32)
    x[1, 2, 0, 1], mask[1, 2, 0, 1] = np.nan, 0
    by_nan = tensors.inputs(FORECAST, {"x": x, "time": TIMES})
    by_both = tensors.inputs(FORECAST, {"x": x, "mask": mask, "time": TIMES})
    by_mask = tensors.inputs(FORECAST, {"x": np.nan_to_num(x, nan=1e9), "mask": mask, "time": TIMES})
    for name in ("x", "mask", "clock"):
        assert by_nan[name].tobytes() == by_both[name].tobytes() == by_mask[name].tobytes()
    assert by_nan["x"][1, 2, 0, 1] == 0 and by_nan["mask"][1, 2, 0, 1] == 0


@settings(max_examples=100, deadline=None)
@given(arrays(np.float32, (2, *WINDOW), elements=st.floats(-10, 210, width=32) | st.sampled_from([np.nan, np.inf])))
def test_arrays_and_json_are_refused_and_read_alike(x: NDArray[np.float32]) -> None:
    x[..., 0] = np.where(x[..., 1] < 100, np.abs(x[..., 0]) / 2, x[..., 0])  # enough of them are sound
    values = x.astype(object)
    values[np.isnan(x)] = None
    body = {"data": [{"time": TIME, "values": window} for window in values.tolist()]}
    try:
        by_json: Any = wire.parse_request(FORECAST, msgspec.json.encode(body)).inputs
    except InputError as error:
        by_json = error
    if isinstance(by_json, InputError) or np.isinf(x).any():
        found = refusal(FORECAST, x=x, time=TIMES)
        if not np.isinf(x).any():
            assert (found.what, found.got, found.expected) == (by_json.what, by_json.got, by_json.expected)
            assert found.where == by_json.where.replace("data[", "x[").replace(".values", "")
        return
    by_array = tensors.inputs(FORECAST, {"x": x, "time": TIMES})
    assert all(by_array[name].tobytes() == by_json[name].tobytes() for name in ("x", "mask", "clock"))


def changed(array: NDArray[Any], place: tuple[int, ...], value: float) -> NDArray[Any]:
    array = array.copy()
    array[place] = value
    return array


ONES, CLOCK = np.ones((2, *WINDOW), np.float32), np.array([[71, 4], [0, 6]])
BAD: dict[str, tuple[dict[str, Any], str]] = {
    "no x": ({"time": TIMES}, "inputs: missing tensor"),
    "no time": ({"x": readings()}, "either clock or time, got neither"),
    "two times": ({"x": readings(), "time": TIMES, "clock": CLOCK}, "got both"),
    "unknown": ({"x": readings(), "time": TIMES, "y": ONES}, "one of x, mask, clock, time, got 'y'"),
    "wrong datatype": ({"x": readings().astype(np.float64), "time": TIMES}, "expected FP32, got 'FP64'"),
    "wrong rank": ({"x": readings()[0], "time": TIMES}, "expected [B][4][3][2], B from 1 to 4, got [4][3][2]"),
    "wrong size": ({"x": readings()[:, :3], "time": TIMES}, "got [2][3][3][2]"),
    "no rows": ({"x": readings()[:0], "time": TIMES}, "expected 1 to 4 items, got 0"),
    "too many rows": ({"x": readings(5), "time": TIMES}, "expected 1 to 4 items, got 5"),
    "times of others": ({"x": readings(), "time": TIMES[:1]}, "time: wrong batch size: expected 2 items"),
    "masks of others": ({"x": readings(), "time": TIMES, "mask": ONES[:1]}, "mask: wrong batch size"),
    "half a mask": ({"x": readings(), "time": TIMES, "mask": changed(ONES, (1, 0, 2, 1), 0.5)}, "mask[1][0][2][1]"),
    "nan in mask": ({"x": readings(), "time": TIMES, "mask": ONES * np.float32(np.nan)}, "expected 0 or 1, got nan"),
    "nan seen": (
        {"x": changed(readings(), (1, 3, 2, 0), np.nan), "time": TIMES, "mask": ONES},
        "x[1][3][2][0]: not a number",
    ),
    "too fast": ({"x": changed(readings(), (1, 3, 2, 0), 151), "time": TIMES}, "x[1][3][2][0] (node c): speed_kmh"),
    "all missing": ({"x": changed(readings(), (1, ...), np.nan), "time": TIMES}, "x[1]: too much is missing"),  # type: ignore[arg-type]
    "slot": ({"x": readings(), "clock": changed(CLOCK, (0, 0), 96)}, "clock[0][0]: slot of the day outside its range"),
    "weekday": ({"x": readings(), "clock": changed(CLOCK, (1, 1), -1)}, "clock[1][1]: weekday outside its range"),
    "no text": ({"x": readings(), "time": np.array([b"\xff\xfe", TIME], object)}, "time[0]: not a time"),
    "off the grid": ({"x": readings(), "time": np.array([TIME, TIME[:-4] + "1:00"], object)}, "time[1]: time off"),
}


@pytest.mark.parametrize("case", BAD)
def test_tensors_that_break_the_contract_are_told_what_was_expected(case: str) -> None:
    broken, words = BAD[case]
    assert words in str(refusal(FORECAST, **broken))


@pytest.mark.parametrize(("value", "words"), [(1.5, "x[1][0][1][0]: pixel outside"), (np.nan, "x[1][0][1][0]: not a")])
def test_bad_pixels_are_named(value: float, words: str) -> None:
    x = changed(np.zeros((3, 1, 2, 2), np.float32), (1, 0, 1, 0), value)
    assert words in str(refusal(CLASSIFY, x=x))


@pytest.mark.parametrize("shape", [[2**40], [-1, 4, 3, 2], [2**62, 4, 3, 2], [], [2] * 1000, [2**70, 4, 3, 2]])
def test_a_shape_that_is_announced_is_held_to_the_contract_before_anything_is_read(shape: list[int]) -> None:
    with pytest.raises(InputError) as caught:
        tensors.check_declared(tensors.input_specs(FORECAST), "x", "FP32", shape, FORECAST.max_batch)
    assert len(str(caught.value)) < 300


def test_outputs_are_named_and_logits_become_probabilities() -> None:
    raw = np.array([[1.0, 2.0, 3.0], [500.0, -500.0, 500.0]], np.float32)
    found = tensors.outputs(CLASSIFY, raw)["probabilities"]
    assert found.dtype == np.float32 and found.sum(axis=1) == pytest.approx(1)
    assert found[1].tolist() == [0.5, 0.0, 0.5]
    assert tensors.outputs(FORECAST, raw)["forecast"] is raw
    assert tensors.output_specs(FORECAST)[0].shape == (-1, 2, 3)
