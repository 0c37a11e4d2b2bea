"""`/route`: ways over the travel times that the model foresees, and refusals in words."""

from pathlib import Path
from typing import Any

import jsonschema
import pytest

from services.guard import target
from services.openapi import openapi
from tests.services.tensor_parcels import NETWORK, TASKS, make_tensor_folder
from tests.services.test_tensor_tasks import Service

DATA = TASKS["route"]["request"]
ASKED = {"data": DATA, "from": "A", "to": "C"}


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return Service(make_tensor_folder(tmp_path_factory.mktemp("route") / "release", "route"))


def test_the_quickest_way_and_its_alternative(service: Service) -> None:
    response = service.ask("/route", json={**ASKED, "alternatives": 2})
    assert response.status_code == 200, response.text
    answer = response.json()
    times_s = dict(zip(NETWORK.edges, service.answer[0, 0].tolist(), strict=True))
    assert answer["edges"] == ["ac"] and answer["nodes"] == ["A", "C"] and answer["length_m"] == 2000
    assert answer["travel_time_s"] == pytest.approx(times_s["ac"], rel=0.2) and answer["depart_s"] == 0
    assert answer["model_version"] == "tiny/3" and answer["prediction_id"] == response.headers["x-prediction-id"]
    assert all(set(way) == {"edges", "nodes", "travel_time_s", "length_m"} for way in answer["alternatives"])
    document = openapi(service.served.manifest, service.served.release, service.request)
    for name, instance in (("WayRequest", {**ASKED, "alternatives": 2}), ("Way", answer)):
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(instance)
    assert "/route" in document["paths"]
    assert service.capture.offers[-1][5]["travel_time"].tobytes() == service.answer.tobytes()
    for path in ("/models/tiny/route", "/models/tiny/versions/3/route"):
        assert service.ask(path, json={**ASKED, "from": "ca"}).json()["edges"] == ["ac"]


@pytest.mark.parametrize(("depart", "depart_s"), [
    ("08:05", 0), ("08:07:30", 150), ("2024-06-03T08:10:00", 300), (None, 0),
])  # fmt: skip
def test_a_departure_is_a_time_of_the_day_that_was_sent(service: Service, depart: str | None, depart_s: float) -> None:
    assert service.ask("/route", json={**ASKED, "depart": depart}).json()["depart_s"] == depart_s


BAD: dict[str, dict[str, Any]] = {
    "unknown place": {"from": "Z"}, "no way": {"to": "A", "from": "A"}, "too many ways": {"alternatives": 6},
    "not a time": {"depart": "2024-99-03T08:00"}, "another day": {"depart": "2024-06-04T08:10:00"},
    "not a question for a way": {"speed": 1}, "too many rows": {"data": [DATA, DATA]},
    "wrong shape": {"data": {**DATA, "recent": [[1.0]]}},
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_question_without_an_answer_is_refused(service: Service, what: str) -> None:
    error = service.refused("/route", json={**ASKED, **BAD[what]})
    assert error["what"] == what
    if what == "unknown place":
        assert "A, B, C" in error["expected"] and error["where"] == "from"


@pytest.mark.parametrize("depart", ["09:00", "25:00", "soon"])
def test_a_time_that_is_not_foreseen_is_refused(service: Service, depart: str) -> None:
    assert service.refused("/route", json={**ASKED, "depart": depart})["where"] == "depart"


def test_only_a_model_with_a_network_plans_ways(tmp_path: Path) -> None:
    other = Service(make_tensor_folder(tmp_path / "release", "control"))
    assert "task route" in other.refused("/route", json=ASKED)["expected"]
    assert other.ask("/route", content=b"x", headers={"content-type": "text/csv"}).status_code == 415


def test_the_guard_takes_it_for_a_prediction_and_no_models_name_for_a_verb() -> None:
    assert target("/route")[:2] == ("predict", "") and target("/models/a/versions/1/route")[:2] == ("predict", "a")
    assert target("/v2/models/route")[:2] == ("read", "route")
