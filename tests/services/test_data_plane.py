"""The data plane through its door, over a real parcel, without BentoML."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from infra.settings import ServiceSettings
from services.answers import sortable_id
from services.app import DataPlane
from services.host import Host
from services.observe import Metrics

Ask = Callable[..., httpx.Response]
MISSING = object()


def door(folder: Path) -> Ask:
    """Requests to a data plane over this folder, loaded as at start-up."""
    metrics = Metrics()
    host = Host(folder, ServiceSettings(signatures="off"), metrics)
    host.load()
    plane = DataPlane(host, metrics=metrics)

    async def ask(method: str, path: str, **request: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=plane, raise_app_exceptions=True)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return lambda method, path, **request: asyncio.run(ask(method, path, **request))


@pytest.fixture
def forecast(served_folder: Callable[[str], Path]) -> Ask:
    return door(served_folder("forecast"))


@pytest.fixture
def classify(served_folder: Callable[[str], Path]) -> Ask:
    return door(served_folder("classify"))


def refusal(response: httpx.Response) -> dict[str, str]:
    """The error of a refused request, which always says all four things."""
    error: dict[str, str] = response.json()["error"]
    assert set(error) == {"what", "where", "expected", "got"} and all(error.values())
    return error


@pytest.mark.parametrize("path", ["/predict", "/model/predict"])
def test_a_window_is_answered_with_units_version_and_identity(forecast: Ask, window: Any, path: str) -> None:
    response = forecast("POST", path, json={"data": window})
    answer = response.json()
    assert response.status_code == 200
    assert [len(answer["predictions"]), len(answer["predictions"][0])] == [2, 3]
    assert answer["units"] == "km/h" and answer["horizon_min"] == [15.0, 30.0] and answer["nodes"] == ["a", "b", "c"]
    assert answer["model_version"] == "tiny/3"
    assert uuid.UUID(answer["prediction_id"]).version == 7
    assert response.headers["x-prediction-id"] == answer["prediction_id"]
    assert len(response.headers["x-model-digest"]) == 64


def test_a_list_is_answered_with_a_list_equal_to_single_answers(forecast: Ask, window: Any) -> None:
    later = {**window, "time": "2024-06-01T08:15:00"}
    one, other = (forecast("POST", "/predict", json={"data": each}).json()["predictions"] for each in (window, later))
    assert forecast("POST", "/predict", json={"data": [window, later]}).json()["predictions"] == [one, other]


def test_an_image_is_answered_with_its_label(classify: Ask) -> None:
    answer = classify("POST", "/predict", json={"data": [[[1.0] * 3] * 3]}).json()
    assert answer["predictions"]["label"] == "one"
    assert sum(answer["predictions"]["probabilities"].values()) == pytest.approx(1.0, abs=1e-5)


def values(change: Callable[[list[list[Any]]], None]) -> list[list[Any]]:
    table: list[list[Any]] = [[40.0, 40.0, 40.0] for _ in range(4)]
    change(table)
    return table


BAD_DATA = {
    "wrong shape": {"values": [[1.0, 2.0, 3.0]] * 3},
    "no columns": {"values": [[]] * 4},
    "no rows": {"values": []},
    "ragged": {"values": values(lambda table: table[2].pop())},
    "text": {"values": values(lambda table: table[0].__setitem__(1, "fast"))},
    "too fast": {"values": values(lambda table: table[1].__setitem__(2, 1e6))},
    "huge number": {"values": values(lambda table: table[1].__setitem__(2, 1e300))},
    "huge integer": {"values": values(lambda table: table[1].__setitem__(2, 10**400))},
    "negative": {"values": values(lambda table: table[1].__setitem__(2, -5.0))},
    "too much missing": {"values": [[None, None, 40.0]] * 4},
    "unknown sensor": {"nodes": ["a", "b", "nowhere"]},
    "repeated sensor": {"nodes": ["a", "b", "b"]},
    "too few sensors": {"nodes": ["a", "b"]},
    "bad time": {"time": "yesterday"},
    "number for time": {"time": 5},
    "time off the grid": {"time": "2024-05-31T17:46:00"},
    "unicode garbage": {"time": "\u202e\U0001f697\x00"},
    "no time": {"time": MISSING},
    "no values": {"values": MISSING},
    "unknown field": {"speed": 1},
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_a_request_that_breaks_the_contract_is_told_what_was_expected(forecast: Ask, window: Any, case: str) -> None:
    data = {name: value for name, value in {**window, **BAD_DATA[case]}.items() if value is not MISSING}
    response = forecast("POST", "/predict", content=json.dumps({"data": data}))
    assert response.status_code == 422, response.text
    refusal(response)


def test_an_unknown_sensor_is_named_beside_the_known_ones(forecast: Ask, window: Any) -> None:
    error = refusal(forecast("POST", "/predict", json={"data": {**window, "nodes": ["a", "b", "nowhere"]}}))
    assert "nowhere" in error["got"] and "a, b, c" in error["expected"]


def test_more_rows_than_a_batch_holds_are_refused(forecast: Ask, window: Any) -> None:
    assert forecast("POST", "/predict", json={"data": [window] * 8}).status_code == 200
    assert "1 to 8" in refusal(forecast("POST", "/predict", json={"data": [window] * 9}))["expected"]


@pytest.mark.parametrize("body", [b"{}", b"[]", b"null", b"17", b'{"data": null}', b'{"data": []}', b'{"data": {}}'])
def test_json_that_is_no_request_is_refused(forecast: Ask, classify: Ask, body: bytes) -> None:
    for ask in (forecast, classify):
        response = ask("POST", "/predict", content=body)
        assert response.status_code == 422, (body, response.text)
        refusal(response)


GARBAGE = [
    b"", b"speed", b'{"data":', b"\xff\xfe\x00", b'"\xc3\x28"', b'{"data": "\\ud800"}', b"[" * 9_000,
    b'{"data":' + b"[" * 9_000, b'{"bomb":' + b'{"a":' * 3_000, b'{"data":{"values":' + b"[" * 4_000 + b"]" * 4_000,
]  # fmt: skip


@pytest.mark.parametrize("body", GARBAGE)
def test_what_is_not_json_is_refused_and_nothing_breaks(forecast: Ask, classify: Ask, body: bytes) -> None:
    for ask in (forecast, classify):
        response = ask("POST", "/predict", content=body)
        assert response.status_code in (400, 422), response.text
        refusal(response)


@pytest.mark.parametrize("literal", [b"NaN", b"Infinity", b"-Infinity"])
def test_not_a_number_is_refused_and_null_is_offered(forecast: Ask, literal: bytes) -> None:
    body = b'{"data": {"time": "2024-05-31T17:45:00", "values": [[' + literal + b", 1, 1]]}}"
    response = forecast("POST", "/predict", content=body)
    assert response.status_code == 422 and "null" in refusal(response)["expected"]


def test_a_large_body_is_refused_without_being_kept(forecast: Ask) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(1_000):
            yield b" " * 1_000

    for content in (b" " * 20_001, b" " * 1_000_000, endless()):
        response = forecast("POST", "/predict", content=content)
        assert response.status_code == 413 and "20000 bytes" in refusal(response)["expected"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("PUT", "/model/predict", 405), ("POST", "/readyz", 405), ("GET", "/nothing", 404)],
)
def test_wrong_method_and_wrong_path(forecast: Ask, method: str, path: str, status: int) -> None:
    response = forecast(method, path)
    assert response.status_code == status
    refusal(response)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("headers", [{"content-type": "text/html"}, {"content-encoding": "gzip"}])
def test_a_body_that_is_not_plain_json_is_refused(forecast: Ask, window: Any, headers: dict[str, str]) -> None:
    response = forecast("POST", "/predict", content=json.dumps({"data": window}), headers=headers)
    assert response.status_code == 415
    refusal(response)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "application/vnd.x+json", None])
def test_json_by_any_name_is_read(forecast: Ask, window: Any, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    assert forecast("POST", "/predict", content=json.dumps({"data": window}), headers=headers).status_code == 200


def test_probes_metrics_and_page(forecast: Ask, window: Any) -> None:
    forecast("POST", "/predict", json={"data": [window, window]})
    forecast("POST", "/predict", json={})
    assert [forecast("GET", path).status_code for path in ("/livez", "/readyz", "/", "/docs.json")] == [200] * 4
    text = forecast("GET", "/metrics").text
    assert 'roadworthy_requests_total{path="/predict",status="200"} 1.0' in text
    assert 'roadworthy_requests_total{path="/predict",status="422"} 1.0' in text
    assert "roadworthy_predict_seconds_count 1.0" in text and "roadworthy_predicted_rows_total 2.0" in text
    assert 'roadworthy_model_info{digest="' in text and "roadworthy_ready 1.0" in text
    assert forecast("HEAD", "/readyz").content == b""


def test_the_documented_example_is_answered(forecast: Ask, classify: Ask) -> None:
    for ask in (forecast, classify):
        document = ask("GET", "/docs.json").json()
        content = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]
        assert document["openapi"].startswith("3.1") and content["schema"]["$ref"] == "#/components/schemas/Request"
        assert ask("POST", "/predict", json=content["example"]).status_code == 200


def test_documented_sizes_are_the_parcels(forecast: Ask) -> None:
    schemas = forecast("GET", "/docs.json").json()["components"]["schemas"]
    window = schemas["Request"]["anyOf"][0]["properties"]["data"]["oneOf"][0]
    values = window["properties"]["values"]["oneOf"][0]
    assert values["minItems"] == 4 and values["items"]["maxItems"] == 3
    assert schemas["Answer"]["properties"]["units"] == {"const": "km/h"}


def test_ids_sort_by_time_and_are_version_7() -> None:
    ids = [sortable_id() for _ in range(1_000)]
    assert len(set(ids)) == 1_000 and {uuid.UUID(one).version for one in ids} == {7}
    assert {uuid.UUID(one).variant for one in ids} == {uuid.RFC_4122}
    assert [one[:13] for one in ids] == sorted(one[:13] for one in ids)
