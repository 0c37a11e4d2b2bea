"""What a forecast says beside its numbers, for who asks: the same over every door, and nothing for who does not."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import pytest

from infra.settings import ServiceSettings
from models.artifact.manifest import Intervals, Levels, read_and_verify, write_manifest
from services import inference_pb2 as messages
from services.app import DataPlane
from services.host import Host
from services.observe import Metrics
from services.openapi import openapi
from services.protocol_v2 import ProtocolV2
from tests.services.conftest import make_release
from tests.services.test_grpc import asked, raw_request, typed_request
from tests.services.test_protocol_v2 import BY_JSON, LENGTH, Seen

INFER = "/v2/models/tiny/infer"
INTERVALS = Intervals(
    quantiles=(0.05, 0.5, 0.95), edges=((20.0,), (20.0,)),
    offsets=(((-5, 0, 5), (-10, 0.5, 10)), ((-6, 0, 6), (-500, 1, 12))),
)  # fmt: skip
LEVELS = Levels(dense_below=(1000.0, 1000.0, 0.0), jammed_below=(1000.0, 0.0, 0.0))
ALL = "quantiles,level_of_service"

Ask = Callable[..., httpx.Response]


@pytest.fixture
def host(served_folder: Callable[[str], Path]) -> Host:
    """The real host over a forecast parcel with intervals and levels."""
    folder = served_folder("forecast")
    manifest = read_and_verify(folder / "parcel").model_copy(update={"intervals": INTERVALS, "levels": LEVELS})
    release = make_release(write_manifest(folder / "parcel", manifest), max_body_bytes=20_000)
    (folder / "release.json").write_text(release.model_dump_json())
    return opened(folder)


def opened(folder: Path) -> Host:
    host = Host(folder, ServiceSettings(signatures="off"))
    host.load()
    assert host.served, host.reason
    return host


def door(host: Host, capture: Any = None) -> Ask:
    metrics = Metrics()
    plane = DataPlane(host, None, metrics, capture, ProtocolV2(host, capture, metrics))

    async def ask(method: str, path: str, **request: Any) -> httpx.Response:
        transport = httpx.ASGITransport(app=plane, raise_app_exceptions=True)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.request(method, path, **request)

    return lambda method, path, **request: asyncio.run(ask(method, path, **request))


def test_quantiles_and_levels_come_to_who_asks(host: Host, window: Any) -> None:
    capture = Seen()
    ask = door(host, capture)
    plain, asked_for = (ask("POST", f"/predict{query}", json={"data": window}).json() for query in ("", f"?with={ALL}"))
    assert list(plain) == ["predictions", "units", "horizon_min", "nodes", "model_version", "prediction_id"]
    forecast = np.array(plain["predictions"])
    assert asked_for["predictions"] == plain["predictions"] and (forecast > 20).all()
    by_share = {share: np.array(rows) for share, rows in asked_for["quantiles"].items()}
    assert list(by_share) == ["0.05", "0.5", "0.95"]
    np.testing.assert_allclose(by_share["0.95"], forecast + np.array([[10], [12]]), rtol=1e-6)
    np.testing.assert_allclose(
        by_share["0.05"], np.maximum(forecast - np.array([[10], [500]]), 0), rtol=1e-6
    )  # no speed is below 0
    assert asked_for["level_of_service"] == [["jammed", "dense", "free"]] * 2
    # What can be computed from the answer again is not stored beside it.
    assert [set(offer[5]) for offer in capture.offers] == [{"forecast"}] * 2
    document = openapi(host.served.manifest, host.served.release, {"data": window})  # type: ignore[union-attr]
    schema = {"$ref": "#/components/schemas/Answer", "components": document["components"]}
    for answer in (plain, asked_for):
        jsonschema.Draft202012Validator(schema).validate(answer)
    assert "with" in [each["name"] for each in document["paths"]["/predict"]["post"]["parameters"]]


def test_a_list_and_a_single_wish(host: Host, window: Any) -> None:
    ask = door(host)
    one = ask("POST", "/predict?with=quantiles", json={"data": window}).json()
    both = ask("POST", "/predict?with=quantiles", json={"data": [window, window]}).json()
    assert both["quantiles"] == [one["quantiles"]] * 2 and "level_of_service" not in both
    assert "quantiles" not in ask("POST", "/predict?with=", json={"data": window}).json()


def test_both_protocols_carry_the_same_bytes_where_they_are_wanted(host: Host, window: Any) -> None:
    ask = door(host)
    wanted = ["level_of_service", "quantiles", "forecast"]
    request = {**BY_JSON, "outputs": [{"name": name} for name in wanted]}
    outputs = {one["name"]: one for one in ask("POST", INFER, json=request).json()["outputs"]}
    assert list(outputs) == wanted
    assert outputs["quantiles"]["shape"] == [2, 3, 2, 3] and outputs["level_of_service"]["datatype"] == "INT64"
    values = window | {"values": np.arange(12.0).reshape(4, 3).tolist()}
    by_name = ask("POST", f"/predict?with={ALL}", json={"data": values}).json()
    quantiles = np.array(list(by_name["quantiles"].values()), np.float32)
    assert np.array(outputs["quantiles"]["data"], np.float32).reshape(2, 3, 2, 3)[0].tobytes() == quantiles.tobytes()
    raw = ask("POST", INFER, json={**request, "parameters": {"binary_data_output": True}})
    blobs = raw.content[int(raw.headers[LENGTH]) :]
    levels = np.array(outputs["level_of_service"]["data"], np.int64).tobytes()
    assert blobs.startswith(levels) and len(blobs) == len(levels) + 4 * 36 + 4 * 12
    plain = ask("POST", INFER, json=BY_JSON).json()
    assert [one["name"] for one in plain["outputs"]] == ["forecast"]
    for made in (raw_request(), typed_request()):
        for name in wanted:
            made.outputs.add(name=name)
        answer = asked(host, "ModelInfer", made)
        assert [one.name for one in answer.outputs] == wanted
        found = answer.raw_output_contents[0] if made.raw_input_contents else None
        typed = np.array(answer.outputs[0].contents.int64_contents, np.int64).tobytes()
        assert (found or typed) == levels
    about = asked(host, "ModelMetadata", messages.ModelMetadataRequest(name="tiny"))
    assert [one.name for one in about.outputs] == ["forecast", "quantiles", "level_of_service"]


def test_a_wish_that_cannot_be_met_is_refused(
    host: Host, served_folder: Callable[[str], Path], window: Any, tmp_path: Path
) -> None:
    known = door(host)("POST", "/predict?with=quantiles,weather", json={"data": window})
    assert known.status_code == 422 and "quantiles, level_of_service" in known.json()["error"]["expected"]
    assert door(host)("POST", "/predict?wiht=quantiles", json={"data": window}).status_code == 422
    classify = door(opened(served_folder("classify")))
    without = classify("POST", "/predict?with=quantiles", json={"data": [[[1.0] * 3] * 3]})
    assert without.status_code == 422 and "neither intervals nor levels" in without.json()["error"]["expected"]
    request = {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1, 3, 3], "data": [1.0] * 9}]}
    refused = classify("POST", INFER, json={**request, "outputs": [{"name": "quantiles"}]})
    assert refused.status_code == 400 and "probabilities" in refused.json()["error"]
    assert json.loads(known.content)["error"]["got"] == "'weather'"
