"""The tensor tasks through every door: JSON, tables, Open Inference Protocol over REST and gRPC, all the same bytes."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jsonschema
import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray

from infra.settings import ServiceSettings
from models.artifact import tensors, wire
from models.artifact.ensemble import MeanPredictor
from models.artifact.predictor import Predictor
from services import inference_pb2 as messages
from services.answers import Caller
from services.app import DataPlane
from services.capture import _Offer, _record
from services.host import Host
from services.observe import Metrics
from services.openapi import openapi
from services.page import render
from services.protocol_v2 import ProtocolV2
from services.schemas import Overlay
from tests.services.tensor_parcels import TASKS, make_tensor_folder
from tests.services.test_grpc import asked
from tests.services.test_protocol_v2 import LENGTH, Seen, binary

INFER = "/v2/models/tiny/infer"
DATATYPES = {"float32": "FP32", "int64": "INT64"}


class Service:
    """A parcel of one task behind the data plane."""

    def __init__(self, folder: Path) -> None:
        self.host, self.capture, metrics = Host(folder, ServiceSettings(signatures="off")), Seen(), Metrics()
        self.host.load()
        assert self.host.served, self.host.reason
        self.served = self.host.served
        self.request = self.served.example
        self.plane = DataPlane(
            self.host, None, metrics, self.capture, ProtocolV2(self.host, self.capture, metrics)
        )  # fmt: skip

    def ask(self, path: str, **request: Any) -> httpx.Response:
        async def go() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.plane, raise_app_exceptions=True)  # type: ignore[arg-type]
            async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
                return await client.post(path, **request)

        return asyncio.run(go())

    def refused(self, path: str = "/predict", status: int = 422, **request: Any) -> dict[str, str]:
        response = self.ask(path, **request)
        assert response.status_code == status, response.text
        error: dict[str, str] = response.json()["error"]
        assert set(error) == {"what", "where", "expected", "got"} and all(error.values())
        return error

    @property
    def inputs(self) -> dict[str, NDArray[Any]]:
        """The golden request's arrays, one row."""
        return wire.parse_request(self.served.manifest, json.dumps(self.request).encode()).inputs

    @property
    def answer(self) -> NDArray[np.float32]:
        """What the predictor itself says to it, as it is given out."""
        (answer,) = tensors.outputs(self.served.manifest, self.served.predictor.predict(self.inputs)).values()
        return answer


@pytest.fixture(scope="module")
def service_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Service]:
    made: dict[str, Service] = {}

    def make(task: str) -> Service:
        if task not in made:
            made[task] = Service(make_tensor_folder(tmp_path_factory.mktemp(task) / "release", task))
        return made[task]

    return make


@pytest.fixture(params=TASKS)
def service(request: pytest.FixtureRequest, service_of: Callable[[str], Service]) -> Service:
    return service_of(request.param)


def test_json_and_both_protocols_carry_the_graphs_own_bytes(service: Service) -> None:
    expected = service.answer.tobytes()
    answer = service.ask("/predict", json=service.request).json()
    said = answer["predictions"]
    numbers = list(said["probabilities"].values()) if isinstance(said, dict) else said
    assert np.array(numbers, np.float32).tobytes() == expected
    parts = [
        (spec.name, DATATYPES[spec.dtype], (1, *spec.shape), service.inputs[spec.name].tobytes())
        for spec in service.served.manifest.inputs
    ]
    by_json = [{"name": n, "datatype": d, "shape": list(s), "data": _listed(service.inputs[n])} for n, d, s, _ in parts]
    for request in (binary(*parts), {"json": {"inputs": by_json}}):
        output = service.ask(INFER, **request).json()["outputs"][0]
        assert output["name"] == tensors.output_specs(service.served.manifest)[0].name
        assert output["shape"] == list(service.answer.shape)
        assert np.array(output["data"], np.float32).tobytes() == expected
    raw = service.ask(INFER, **binary(*parts, parameters={"binary_data_output": True}))
    assert raw.content[int(raw.headers[LENGTH]) :] == expected


def test_grpc_gives_the_same_bytes(service_of: Callable[[str], Service]) -> None:
    service = service_of("detect")
    request = messages.ModelInferRequest(model_name="tiny")
    for spec in service.served.manifest.inputs:
        request.inputs.add(name=spec.name, datatype=DATATYPES[spec.dtype], shape=(1, *spec.shape))
        request.raw_input_contents.append(service.inputs[spec.name].tobytes())
    answer = asked(service.host, "ModelInfer", request)
    assert answer.raw_output_contents[0] == service.answer.tobytes() and answer.outputs[0].name == "probabilities"


def test_a_list_is_answered_by_a_list_equal_to_single_answers(service: Service) -> None:
    one = service.ask("/predict", json=service.request).json()["predictions"]
    both = service.ask("/predict", json={"data": [service.request["data"]] * 2}).json()["predictions"]
    assert both == [one, one]


def test_an_answer_says_what_its_numbers_are(service_of: Callable[[str], Service]) -> None:
    answers = {task: service_of(task).ask("/predict", json=service_of(task).request).json() for task in TASKS}
    assert {task: answer["units"] for task, answer in answers.items()} == {
        "detect": "probability", "regress": "EUR", "localise": "m", "route": "s", "control": "probability",
    }  # fmt: skip
    detect, control = answers["detect"], answers["control"]["predictions"]
    assert detect["labels"] == ["s1", "s2", "s3"] and detect["threshold"] == 0.5
    over = [label for label, share in zip(detect["labels"], detect["predictions"], strict=True) if share >= 0.5]
    assert detect["alarms"] == over and 0 < len(over) < 3
    assert isinstance(answers["regress"]["predictions"], float)
    assert control["choice"] == max(control["probabilities"], key=control["probabilities"].__getitem__)
    assert set(control["probabilities"]) == {"north-south", 'east-"west" 100 %'}
    listed = service_of("detect").ask("/predict", json={"data": [service_of("detect").request["data"]]}).json()
    assert listed["alarms"] == [over]


def test_the_document_holds_for_request_answer_and_explanation(service: Service) -> None:
    served = service.served
    document = openapi(served.manifest, served.release, service.request)
    answers = {
        "Request": service.request, "Answer": service.ask("/predict", json=service.request).json(),
        "Explanation": service.ask("/explain", json=service.request).json(),
    }  # fmt: skip
    for name, instance in answers.items():
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(instance)
    page = render(served.manifest, served.release, service.request).decode()
    assert f"{served.manifest.task.capitalize()}: " in page


def test_features_may_come_by_name_or_as_a_table(service_of: Callable[[str], Service]) -> None:
    service = service_of("regress")
    rows = [
        {"age": 1.5, "length, m": -2.0, "lanes": 3.25, "rain": None},
        {"age": 4.0, "length, m": 1.0, "lanes": 0.0, "rain": 2.0},
    ]
    data = [
        {"x": {name: row[name] for name in ("lanes", "age", "length, m")}, "weather": [row["rain"]]} for row in rows
    ]
    expected = service.ask("/predict", json={"data": data}).json()["predictions"]
    assert expected[0] == service.ask("/predict", json=service.request).json()["predictions"]
    frame = pl.DataFrame(rows).select("rain", "lanes", "length, m", "age")
    parquet = service.served.manifest  # any columns' order, both kinds of table
    for kind, body in (("text/csv", frame.write_csv().encode()), ("application/vnd.apache.parquet", _parquet(frame))):
        assert service.ask("/predict", content=body, headers={"content-type": kind}).json()["predictions"] == expected
    golden = openapi(parquet, service.served.release, service.request)["components"]["examples"]["GoldenTable"]["value"]
    answer = service.ask("/predict", content=golden, headers={"content-type": "text/csv"}).json()
    assert answer["predictions"] == expected[:1]


BAD_ROWS = {
    "unknown column": "age,length m,lanes\n1,2,3\n", "missing column": "age,lanes\n1,2\n",
    "not a number": 'age,"length, m",lanes\n1,long,3\n', "not a fitting value": 'age,"length, m",lanes\n1,,3\n',
    "wrong batch size": 'age,"length, m",lanes\n' + "1,2,3\n" * 8 + "1,2,1000\n",
}  # fmt: skip


@pytest.mark.parametrize("what", BAD_ROWS)
def test_a_table_that_breaks_the_contract_is_told_where(service_of: Callable[[str], Service], what: str) -> None:
    error = service_of("regress").refused(content=BAD_ROWS[what], headers={"content-type": "text/csv"})
    assert error["what"] in (what, "table too large")
    if what == "unknown column":
        assert "age, length, m, lanes, rain" in error["expected"] and "length m" in error["got"]


DETECT = TASKS["detect"]["request"]
BAD_DATA: dict[str, Any] = {
    "not an object": [[1.0]], "unknown input": {**DETECT, "flows": [1]}, "no clock": {"speeds": DETECT["speeds"]},
    "ragged": {**DETECT, "speeds": [[1, 2, 3], [1, 2]]}, "wrong shape": {**DETECT, "speeds": [[1, 2, 3]]},
    "too fast": {**DETECT, "speeds": [[1, 2, 3], [1, 2, 201]]}, "text": {**DETECT, "clock": ["1", 2]},
    "half": {**DETECT, "clock": [1.5, 2]}, "null": {**DETECT, "clock": [None, 2]},
    "true": {**DETECT, "clock": [True, 2]},
    "huge": {**DETECT, "speeds": [[10**400, 2, 3], [1, 2, 3]]}, "outside": {**DETECT, "clock": [288, 0]},
    "too many": [DETECT] * 9, "none": [], "names where none are": {**DETECT, "clock": {"a": 1}},
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_DATA)
def test_a_request_that_breaks_the_contract_is_told_what_was_expected(
    service_of: Callable[[str], Service], case: str
) -> None:
    service_of("detect").refused(content=json.dumps({"data": BAD_DATA[case]}))


def test_what_no_parser_takes_is_refused_too(service_of: Callable[[str], Service]) -> None:
    service = service_of("detect")
    for body in (b'{"data":' + b"[" * 9000 + b"]" * 9000 + b"}", b'{"data": {"speeds": NaN}}', b"\xff", b""):
        service.refused(content=body, status=400 if service.ask("/predict", content=body).status_code == 400 else 422)
    assert "known" not in service.refused(content=b"a,b\n1,2\n", status=415, headers={"content-type": "text/csv"})
    error = service_of("regress").refused(json={"data": {"x": {"age": 1, "size": 2}, "weather": [1]}})
    assert "age" in error["expected"] and "size" in error["got"]


def test_an_effect_is_the_answer_minus_the_answer_without(service_of: Callable[[str], Service]) -> None:
    service = service_of("regress")
    answer = service.ask("/explain", json=service.request).json()
    without = {**service.request["data"], "x": [1.5, 2.0, 3.25]}  # the mean of the second feature on the training split
    expected = service.answer[0] - service.ask("/predict", json={"data": without}).json()["predictions"]
    assert answer["effects"]["x"]["length, m"] == pytest.approx(expected, rel=1e-4)
    assert answer["effects"]["weather"] == {"rain": 0.0}  # it is missing already
    assert answer["most"][0]["label"] == "length, m" and sum(one["share"] for one in answer["most"]) == pytest.approx(1)


def test_explanations_say_where_and_refuse_what_is_not_there(service_of: Callable[[str], Service]) -> None:
    service = service_of("route")
    answer = service.ask("/explain?output=ca&index=1&fill=mean", json=service.request).json()
    assert answer["explained"] | {"prediction": 0} == {"output": "ca", "index": [1], "units": "s", "prediction": 0}
    assert answer["explained"]["prediction"] == pytest.approx(float(service.answer[0, 1, 3]), rel=1e-5)
    assert answer["left_out"] == ["slot", "weekday"]
    for query in ("output=xy", "index=2", "index=0,0", "fill=missing", "fill=zero", "node=a", "format=pdf"):
        service.refused(f"/explain?{query}", json=service.request)
    service.refused("/explain", json={"data": [service.request["data"]] * 2})
    picture = service_of("control").ask("/explain?format=png", json=service_of("control").request)
    assert picture.content.startswith(b"\x89PNG")


def test_captured_tensors_give_the_same_answer_again(service_of: Callable[[str], Service]) -> None:
    service = service_of("detect")
    service.ask("/predict", json=service.request)
    _, prediction_id, caller, protocol, inputs, outputs = service.capture.offers[-1]
    offer = _Offer(service.served, prediction_id, caller, protocol, inputs, outputs, 0.0, 0)
    record = _record(offer, frozenset(), "")
    again = service.served.predictor.predict({name: one.array() for name, one in record.inputs.items()})
    stored = {name: one.array().tobytes() for name, one in record.outputs.items()}
    assert {name: one.tobytes() for name, one in tensors.outputs(service.served.manifest, again).items()} == stored
    masked = _record(offer._replace(caller=Caller()), frozenset({"s2", "clock"}), "")
    assert masked.masked == ("clock", "s2") and masked.inputs["clock"].data is None
    assert (
        np.isnan(masked.inputs["speeds"].array()[..., 1]).all()
        and np.isnan(masked.outputs["probabilities"].array()[:, 1]).all()
    )


def test_a_tenant_may_rename_labels(service_of: Callable[[str], Service]) -> None:
    service = service_of("detect")
    served = service.served.overlaid(Overlay(labels={"s2": "bridge"}))
    body = json.loads(served.writer.body({"probabilities": service.answer}, is_list=False, prediction_id=""))
    assert body["labels"] == ["s1", "bridge", "s3"] and body["alarms"] == ["bridge", "s3"]


@pytest.mark.parametrize("task", ["detect", "control", "regress"])
def test_an_ensemble_is_the_mean_of_what_is_said(service_of: Callable[[str], Service], task: str) -> None:
    predictor = service_of(task).served.predictor
    assert isinstance(predictor, Predictor)
    mean = MeanPredictor.of("mean", [predictor, predictor], (1, 2))
    (said,) = tensors.outputs(mean.manifest, mean.predict(service_of(task).inputs)).values()
    np.testing.assert_allclose(said, service_of(task).answer, rtol=1e-5)


def _listed(array: NDArray[Any]) -> list[Any]:
    return [None if value != value else value for value in array.ravel().tolist()]


def _parquet(frame: pl.DataFrame) -> bytes:
    from io import BytesIO

    stream = BytesIO()
    frame.write_parquet(stream)
    return stream.getvalue()
