"""Open Inference Protocol over REST through its door: JSON and binary tensors, refusals, and a fuzz of both."""

import asyncio
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infra.settings import ServiceSettings
from services.host import Host
from services.observe import Metrics
from services.protocol_v2 import ProtocolV2

Ask = Callable[..., httpx.Response]
TIME = "2024-05-31T17:45:00"
INFER = "/v2/models/tiny/infer"
LENGTH = "inference-header-content-length"
X = np.arange(24, dtype=np.float32).reshape(2, 4, 3, 1)


class Seen:
    """Keeps what is offered for capture."""

    def __init__(self) -> None:
        self.offers: list[tuple[Any, ...]] = []

    def offer(self, *offered: Any) -> None:
        self.offers.append(offered)


def door(host: Any, capture: Any = None) -> Ask:
    app = ProtocolV2(host, capture, Metrics())

    async def ask(method: str, path: str, **request: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return lambda method, path, **request: asyncio.run(ask(method, path, **request))


@pytest.fixture
def host_of(served_folder: Callable[[str], Path]) -> Callable[[str], Host]:
    """The real host over a parcel of this task."""

    def make(task: str) -> Host:
        host = Host(served_folder(task), ServiceSettings(signatures="off"))
        host.load()
        assert host.served, host.reason
        return host

    return make


@pytest.fixture
def capture() -> Seen:
    return Seen()


@pytest.fixture
def forecast(host_of: Callable[[str], Host], capture: Seen) -> Ask:
    return door(host_of("forecast"), capture)


@pytest.fixture
def classify(host_of: Callable[[str], Host]) -> Ask:
    return door(host_of("classify"))


def texts(*values: str) -> bytes:
    return b"".join(struct.pack("<I", len(value.encode())) + value.encode() for value in values)


def tensor(name: str, datatype: str, shape: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": list(shape), **more}


def binary(*parts: tuple[str, str, Any, bytes], **more: Any) -> dict[str, Any]:
    """The request's content and headers, every tensor behind the JSON."""
    inputs = [tensor(n, d, s, parameters={"binary_data_size": len(content)}) for n, d, s, content in parts]
    head = json.dumps({"inputs": inputs, **more}).encode()
    return {"content": head + b"".join(part[3] for part in parts), "headers": {LENGTH: str(len(head))}}


BY_JSON = {
    "inputs": [
        tensor("x", "FP32", X.shape, data=X.ravel().tolist()),
        tensor("time", "BYTES", [2], data=[TIME, TIME]),
    ]
}
PARTS = (("x", "FP32", X.shape, X.tobytes()), ("time", "BYTES", [2], texts(TIME, TIME)))


def forecasts(response: httpx.Response) -> NDArray[np.float32]:
    """The one output, from JSON or from the bytes behind it."""
    assert response.status_code == 200, response.text
    length = int(response.headers.get(LENGTH, len(response.content)))
    output = json.loads(response.content[:length])["outputs"][0]
    if "data" in output:
        return np.array(output["data"], np.float32).reshape(output["shape"])
    assert output["parameters"]["binary_data_size"] == len(response.content) - length
    return np.frombuffer(response.content[length:], "<f4").reshape(output["shape"])


def error(response: httpx.Response) -> str:
    body = response.json()
    assert set(body) == {"error"} and isinstance(body["error"], str), body
    assert "expected" in body["error"] and "got" in body["error"]
    return str(body["error"])


def test_every_way_to_ask_and_to_be_answered_gives_the_same_bytes(forecast: Ask, capture: Seen) -> None:
    nested = {"inputs": [{**BY_JSON["inputs"][0], "data": X.tolist()}, BY_JSON["inputs"][1]]}
    clock = ("clock", "INT64", [2, 2], np.array([[71, 4]] * 2).tobytes())
    ones = ("mask", "FP32", X.shape, np.ones_like(X).tobytes())
    wish = {"outputs": [{"name": "forecast", "parameters": {"binary_data": True}}]}
    answers = [
        forecast("POST", INFER, json=BY_JSON),
        forecast("POST", INFER, json=nested),
        forecast(
            "POST", "/v2/models/tiny/versions/3/infer", json={**BY_JSON, "parameters": {"binary_data_output": True}}
        ),
        forecast("POST", INFER, **binary(*PARTS)),
        forecast("POST", INFER, **binary(*PARTS[::-1], parameters={"binary_data_output": True})),
        forecast("POST", INFER, **binary(PARTS[0], ones, clock, **wish)),
    ]
    assert len({forecasts(answer).tobytes() for answer in answers}) == 1
    assert [LENGTH in answer.headers for answer in answers] == [False, False, True, False, True, True]
    assert [offer[3] for offer in capture.offers] == ["v2"] * 6
    assert capture.offers[0][4]["x"].tobytes() == X.tobytes()


def test_an_answer_carries_identity_and_the_id_that_came(forecast: Ask) -> None:
    response = forecast("POST", INFER, json={**BY_JSON, "id": "mine"})
    body = response.json()
    assert (body["id"], body["model_name"], body["model_version"]) == ("mine", "tiny", "3")
    assert body["parameters"]["prediction_id"] == response.headers["x-prediction-id"]
    assert body["parameters"]["model_digest"] == response.headers["x-model-digest"]
    assert "id" not in forecast("POST", INFER, json=BY_JSON).json()


def test_null_is_missing_and_counts_like_nan(forecast: Ask) -> None:
    x = X.copy()
    x[:, :, 2] = np.nan
    data = [None if np.isnan(value) else float(value) for value in x.ravel()]
    by_json = forecast("POST", INFER, json={"inputs": [{**BY_JSON["inputs"][0], "data": data}, BY_JSON["inputs"][1]]})
    by_bytes = forecast("POST", INFER, **binary(("x", "FP32", x.shape, x.tobytes()), PARTS[1]))
    assert forecasts(by_json).tobytes() == forecasts(by_bytes).tobytes()


def test_images_are_answered_with_probabilities(classify: Ask) -> None:
    images = np.stack([np.ones((1, 3, 3)), np.zeros((1, 3, 3))]).astype(np.float32)
    response = classify("POST", INFER, **binary(("x", "FP32", images.shape, images.tobytes())))
    assert forecasts(response).shape == (2, 2) and forecasts(response).sum(axis=1) == pytest.approx(1)


def test_the_server_tells_what_it_is_and_serves(forecast: Ask) -> None:
    assert forecast("GET", "/v2").json()["extensions"] == ["binary_tensor_data", "model_repository"]
    assert forecast("GET", "/v2/health/live").json() == {"live": True}
    assert forecast("GET", "/v2/health/ready").json() == {"ready": True}
    assert forecast("GET", "/v2/models/tiny/versions/3/ready").status_code == 200
    about = forecast("GET", "/v2/models/tiny").json()
    assert (about["name"], about["versions"]) == ("tiny", ["3"])
    assert [(each["name"], each["shape"]) for each in about["inputs"]] == [
        ("x", [-1, 4, 3, 1]), ("mask", [-1, 4, 3, 1]), ("clock", [-1, 2]), ("time", [-1]),
    ]  # fmt: skip
    assert about["outputs"] == [{"name": "forecast", "datatype": "FP32", "shape": [-1, 2, 3]}]
    assert forecast("POST", "/v2/repository/index").json()[0]["state"] == "READY"


def test_not_ready_is_a_status_of_4xx(served_folder: Callable[[str], Path]) -> None:
    ask = door(Host(served_folder("forecast"), ServiceSettings()))  # not loaded
    assert ask("GET", "/v2/health/ready").status_code == 400
    assert ask("GET", "/v2/health/live").status_code == 200
    assert ask("POST", INFER, json=BY_JSON).status_code == 503


def without(**change: Any) -> dict[str, Any]:
    """The JSON request with its x changed."""
    return {"json": {"inputs": [{**BY_JSON["inputs"][0], **change}, BY_JSON["inputs"][1]]}}


BIG = {"name": "x", "datatype": "FP32", "shape": [2**40], "parameters": {"binary_data_size": 0}}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no json": ({"content": b"tensor"}, "not an inference request"),
    "nothing": ({"content": b""}, "not an inference request"),
    "no inputs": ({"json": {"inputs": []}}, "missing tensor"),
    "unknown field": ({"json": {**BY_JSON, "speed": 1}}, "unknown field `speed`"),
    "unknown output": ({"json": {**BY_JSON, "outputs": [{"name": "y"}]}}, "one of forecast, got 'y'"),
    "shared memory": (without(parameters={"shared_memory_region": "r"}), "unsupported parameter"),
    "classification": (
        {"json": {**BY_JSON, "outputs": [{"name": "forecast", "parameters": {"classification": 3}}]}},
        "unsupported parameter",
    ),
    "wrong datatype": (without(datatype="FP64"), "x: wrong datatype: expected FP32, got 'FP64'"),
    "huge shape": ({"json": {"inputs": [BIG]}}, "x: wrong shape"),
    "overflowing shape": (without(shape=[2**62, 4, 3, 1]), "1 to 8 items"),
    "shape beyond 64 bits": (without(shape=[2**70, 4, 3, 1]), "1 to 8 items"),
    "negative shape": (without(shape=[-2, 4, 3, 1]), "1 to 8 items"),
    "short data": (without(data=[1.0]), "expected [2][4][3][1] or [24], got [1]"),
    "ragged data": (without(data=[[[[1.0]]], [[[1.0], [2.0]]]]), "ragged"),
    "text for data": (without(data=["1"] * 24), "wrong data"),
    "true for data": (without(data=[True] * 24), "wrong data"),
    "number beyond float": (without(data=[1e300] * 24), "speed_kmh outside its range"),
    "integer beyond float": (without(data=[10**400] * 24), "wrong data"),
    "too fast": (without(data=[1e6] * 24), "x[0][0][0][0] (node a): speed_kmh outside its range"),
    "neither": ({"json": {"inputs": [tensor("x", "FP32", X.shape)]}}, "either `data` or `binary_data_size`"),
    "no bytes": (without(data=[], parameters={"binary_data_size": 96}), "got both"),
    "size of nothing": (
        {"json": {"inputs": [tensor("x", "FP32", X.shape, parameters={"binary_data_size": 96})]}}, "0 to 0, the bytes"
    ),
    "one byte less": (binary(("x", "FP32", X.shape, X.tobytes()[:-1]), PARTS[1]), "expected 96 bytes of FP32"),
    "bytes left over": (
        {"content": binary(*PARTS)["content"] + b"!", "headers": binary(*PARTS)["headers"]}, "bytes left over"
    ),
    "bytes not announced": ({"content": json.dumps(BY_JSON).encode(), "headers": {LENGTH: "3"}}, "not an inference"),
    "length of no number": ({**binary(*PARTS), "headers": {LENGTH: "-1"}}, "wrong length of the JSON part"),
    "length past the end": ({**binary(*PARTS), "headers": {LENGTH: "9" * 30}}, "wrong length of the JSON part"),
    "text past its end": (binary(PARTS[0], ("time", "BYTES", [2], b"\xff\xff\xff\xff")), "time[0]: wrong length"),
    "text left over": (binary(PARTS[0], ("time", "BYTES", [2], texts(TIME, TIME, ""))), "50 bytes"),
    "repeated": (binary(*PARTS, PARTS[0]), "repeated tensor"),
    "deep": ({"content": b'{"inputs":' + b"[" * 5_000}, "not an inference request"),
    "deep data": ({"content": json.dumps(BY_JSON).replace("[0.0", "[" * 5_000).encode()}, "not an inference request"),
    "deep parameters": ({"content": b'{"inputs":[],"parameters":{"a":' + b'{"a":' * 3_000}, "not an inference request"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_broken_request_is_told_what_was_expected_and_got(forecast: Ask, case: str) -> None:
    request, words = REFUSED[case]
    response = forecast("POST", INFER, **request)
    assert response.status_code == 400, response.text
    assert words in error(response)
    assert response.headers["x-prediction-id"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/nothing", 404), ("GET", "/v2/models", 404), ("GET", "/v2/models/tiny/versions", 404),
        ("GET", "/v2/models/other", 404), ("GET", "/v2/models/tiny/versions/9", 404),
        ("GET", "/v2/models/a/ready", 404),
        ("GET", INFER, 405), ("POST", "/v2", 405), ("DELETE", "/v2/models/tiny", 405),
        ("POST", "/v2/models/tiny/versions/9/infer", 404), ("POST", "/v2/models/../infer", 404),
    ],
)  # fmt: skip
def test_wrong_paths_and_methods(forecast: Ask, method: str, path: str, status: int) -> None:
    response = forecast(method, path)
    assert response.status_code == status
    error(response)


def test_large_and_encoded_bodies_are_refused(forecast: Ask) -> None:
    assert forecast("POST", INFER, content=b" " * 20_001).status_code == 413
    response = forecast("POST", INFER, json=BY_JSON, headers={"content-encoding": "gzip"})
    assert response.status_code == 415 and "identity" in error(response)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_nothing_that_strangers_send_is_more_than_refused(forecast: Ask, data: st.DataObject) -> None:
    whole = binary(*PARTS)
    content, length = bytearray(whole["content"]), whole["headers"][LENGTH]
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        content[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4) | st.just(b"[" * 40))
    headers = {LENGTH: data.draw(st.sampled_from([length, "0", "10", "-5", "1e3", "x", str(len(content))]))}
    response = forecast("POST", INFER, content=bytes(content[: data.draw(st.integers(0, 2000))]), headers=headers)
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=12,
)


@settings(max_examples=75, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(["name", "datatype", "shape", "data", "parameters"]),
    value=_JSON,
    datatype=st.sampled_from(["FP32", "INT64", "BYTES", "FP64", "BOOL", ""]),
)
def test_no_json_that_strangers_send_is_more_than_refused(forecast: Ask, field: str, value: Any, datatype: str) -> None:
    x = {**BY_JSON["inputs"][0], "datatype": datatype, field: value}
    response = forecast("POST", INFER, content=json.dumps({"inputs": [x, BY_JSON["inputs"][1]]}).encode())
    assert response.status_code == 200 or 400 <= response.status_code < 500, response.text
