"""The document says what is served: its schemas take what is taken, and hold for what is answered."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from models.artifact import tensors, wire
from models.artifact.decode import content_types, decode
from models.artifact.predictor import Predictor
from services.answers import Refusal
from services.explain import PARAMETERS, explain
from services.openapi import REFUSALS, openapi
from services.schemas import Release

Document = dict[str, Any]
TASKS = ("forecast", "classify")


class Served:
    """A parcel, what is said of it, and its answers."""

    def __init__(self, folder: Path) -> None:
        self.predictor = Predictor.open(folder / "parcel")
        self.manifest, self.model_version = self.predictor.manifest, "tiny/3"
        release = Release.model_validate_json((folder / "release.json").read_bytes())
        golden = json.loads((folder / "parcel" / "golden.json").read_bytes())
        self.example = golden["request"]
        self.document = openapi(self.manifest, release, self.example, {"tiny": ["2", "3"], "other": ["1"]})

    async def infer(self, inputs: Any) -> Any:
        return tensors.outputs(self.manifest, self.predictor.predict(inputs))

    def validate(self, name: str, instance: Any) -> None:
        components = self.document["components"]
        schema = {"$ref": f"#/components/schemas/{name}", "components": components}
        jsonschema.Draft202012Validator(schema).validate(instance)


@pytest.fixture(params=TASKS)
def served(request: pytest.FixtureRequest, served_folder: Callable[[str], Path]) -> Served:
    return Served(served_folder(request.param))


def resolved(document: Document, item: Any) -> Any:
    """What a reference points to."""
    while "$ref" in item:
        place: Any = document
        for word in item["$ref"].removeprefix("#/").split("/"):
            place = place[word]
        item = place
    return item


def references(item: Any) -> list[str]:
    if isinstance(item, dict):
        found = [item["$ref"]] if isinstance(item.get("$ref"), str) else []
        return found + [one for value in item.values() for one in references(value)]
    return [one for value in item for one in references(value)] if isinstance(item, list) else []


def operations(document: Document) -> list[tuple[str, Document]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def test_every_route_is_there_once_and_every_reference_leads_somewhere(served: Served) -> None:
    document = served.document
    assert document["openapi"] == "3.1.0"
    paths = set(document["paths"])
    heads = ("", "/models/{model}", "/models/{model}/versions/{version}")
    assert {f"{head}/{verb}" for head in heads for verb in ("predict", "explain")} < paths
    assert {f"/v2{head}/infer" for head in heads[1:]} | {"/v2", "/v2/health/ready"} < paths
    assert {"/", "/livez", "/readyz", "/metrics", "/docs.json", "/model/predict"} < paths
    names = [operation["operationId"] for _, operation in operations(document)]
    assert len(set(names)) == len(names)
    for reference in references(document):
        resolved(document, {"$ref": reference})


def test_the_example_fits_its_schema_in_every_form_and_is_answered_alike(served: Served) -> None:
    served.validate("Request", served.example)
    content = served.document["paths"]["/predict"]["post"]["requestBody"]["content"]
    assert tuple(content) == content_types(served.manifest)
    expected = wire.parse_request(served.manifest, json.dumps(served.example).encode())
    for kind in ("application/json", "text/csv"):
        if kind in content and "examples" in content[kind]:
            text = resolved(served.document, content[kind]["examples"]["golden"])["value"]
            request = decode(served.manifest, text.encode(), kind)
            assert all((request.inputs[name] == array).all() for name, array in expected.inputs.items())


def test_an_explanation_fits_its_schema_and_its_query_is_documented(served: Served) -> None:
    request = wire.parse_request(served.manifest, json.dumps(served.example).encode())
    served.validate("Explanation", json.loads(asyncio.run(explain(served, request, {}))[1]))
    operation = served.document["paths"]["/models/{model}/explain"]["post"]
    documented = {item["name"] for item in operation["parameters"] if item["in"] == "query"}
    assert documented == set(PARAMETERS[served.manifest.task])


def test_refusals_fit_their_schema_and_name_when_to_come_back(served: Served) -> None:
    served.validate("Problem", json.loads(Refusal(422, "what", "where", "expected", "got").body))
    served.validate("V2Problem", {"error": "where: what"})
    for path, operation in operations(served.document):
        answers = {code: resolved(served.document, answer) for code, answer in operation["responses"].items()}
        shape = "V2Problem" if path.startswith("/v2") else "Problem"
        for code in set(answers) & set(REFUSALS) - ({"400"} if path.endswith("ready") else set()):
            schema = answers[code]["content"]["application/json"]["schema"]
            assert schema == {"$ref": f"#/components/schemas/{shape}"}, (path, code)
            assert ("Retry-After" in answers[code].get("headers", {})) == (code in ("429", "503"))


def test_what_breaks_the_contract_breaks_the_schema(served: Served) -> None:
    for body in ({}, {"data": None}, {"data": []}, {**served.example, "speed": 1}):
        with pytest.raises(jsonschema.ValidationError):
            served.validate("Request", body)


def test_paths_name_the_models_that_are_served(served: Served) -> None:
    for path in ("/models/{model}/versions/{version}/predict", "/v2/models/{model}/versions/{version}/infer"):
        named = {item["name"]: item["schema"]["enum"] for item in served.document["paths"][path]["post"]["parameters"]}
        assert named == {"model": ["tiny", "other"], "version": ["1", "2", "3"]}


def test_probes_ask_for_no_key_and_the_rest_may(served: Served) -> None:
    document = served.document
    assert document["security"] == [{"bearer": []}, {"key": []}, {}]
    open_paths = {path for path, operation in operations(document) if operation.get("security") == [{}]}
    assert open_paths == {"/livez", "/readyz", "/v2/health/live", "/v2/health/ready"}


def test_tensors_of_the_contract_fit_the_protocols_schema(served: Served) -> None:
    shape = [2, *(served.manifest.image_shape or (4, 3, 1))]
    size = 1
    for each in shape:
        size *= each
    inputs = [{"name": "x", "datatype": "FP32", "shape": shape, "data": [0.5] * size}]
    if served.manifest.task == "forecast":
        inputs.append({"name": "time", "datatype": "BYTES", "shape": [2], "data": ["2024-05-31T17:45:00"] * 2})
    served.validate("V2Request", {"inputs": inputs, "id": "a", "outputs": []})
    with pytest.raises(jsonschema.ValidationError):
        served.validate("V2Request", {"inputs": [{**inputs[0], "shape": [2, 1]}]})
