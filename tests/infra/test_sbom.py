"""The bill of materials: valid CycloneDX, the same for the same image, with the model's card."""

import json
from dataclasses import replace

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from infra.sbom import ModelFacts, bill

MODEL = ModelFacts(
    name="tiny", version="3", digest="ab" * 32, task="forecast", family="spatio-temporal forecasting",
    architecture="linear, 72 parameters", data_set="counts of a junction", inputs="float32 [B, 4, 3, 1]",
    outputs="float32 [B, 2, 3]", description="tiny: linear", metrics={"mae_at_horizon": "3.5"},
    uses=("forecasts",), limits=("three sensors",), facts={"data_hash": "d1"},
)  # fmt: skip
PYTHON, DEBIAN = {"numpy": "2.4.6", "onnxruntime": "1.31.1"}, {"libc6": "2.36-9+deb12u14"}


def test_it_names_packages_and_the_model_with_its_card() -> None:
    record = json.loads(bill(MODEL, PYTHON, DEBIAN, 0))
    components = {one["bom-ref"]: one for one in record["components"]}
    assert {"pkg:pypi/numpy@2.4.6", "pkg:deb/debian/libc6@2.36-9%2Bdeb12u14", "model"} == set(components) - {
        "pkg:pypi/onnxruntime@1.31.1"
    }
    model = components["model"]
    assert model["type"] == "machine-learning-model" and model["hashes"][0]["content"] == "ab" * 32
    card = model["modelCard"]
    assert card["modelParameters"]["datasets"] == [{"type": "dataset", "name": "counts of a junction"}]
    assert card["quantitativeAnalysis"]["performanceMetrics"] == [{"type": "mae_at_horizon", "value": "3.5"}]
    assert card["considerations"]["technicalLimitations"] == ["three sensors"]
    assert record["metadata"]["component"]["type"] == "container"


def test_it_is_valid_and_holds_no_chance() -> None:
    text = bill(MODEL, PYTHON, DEBIAN, 0)
    assert text == bill(MODEL, dict(reversed(PYTHON.items())), DEBIAN, 0)
    assert text != bill(replace(MODEL, version="4"), PYTHON, DEBIAN, 0)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.decode()) is None
