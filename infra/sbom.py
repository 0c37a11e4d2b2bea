"""Writes the bill of materials of an image: CycloneDX 1.6, with the model and its card.

The library knows packages but not yet model cards, so the card is put into its JSON, and the library's own schema
validator has the last word. Nothing in it comes from a clock or from chance: equal content, equal bytes.
"""

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

MODEL_REF = "model"
NAMESPACE = uuid.UUID("c6a1ce2c-7c1f-4d0e-9f0b-3f6a54b2d0ad")


class BillError(ValueError):
    """What was written is no CycloneDX 1.6; a defect of this module."""


@dataclass(frozen=True)
class ModelFacts:
    """What the bill says of the model.

    digest: SHA-256 of the parcel; metrics: name -> value; limits, uses: sentences; facts: lineage, name -> value
    """

    name: str
    version: str
    digest: str
    task: str
    family: str
    architecture: str
    data_set: str
    inputs: str
    outputs: str
    description: str
    metrics: Mapping[str, str] = field(default_factory=dict)
    uses: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def bill(model: ModelFacts, python: Mapping[str, str], debian: Mapping[str, str], epoch: int) -> bytes:
    """The bill of one image as JSON; `python` and `debian` are name -> version of its packages. Raises BillError."""
    bom = Bom(serial_number=uuid.uuid5(NAMESPACE, repr((model, sorted(python.items()), sorted(debian.items())))))
    bom.metadata.timestamp = datetime.fromtimestamp(epoch, UTC)
    bom.metadata.component = Component(
        name=f"roadworthy/{model.name}", version=model.version, type=ComponentType.CONTAINER, bom_ref="image"
    )
    for name, version in python.items():
        bom.components.add(_package(name, version, "pypi"))
    for name, version in debian.items():
        bom.components.add(_package(name, version, "deb", "debian"))
    bom.components.add(_model(model))
    bom.register_dependency(bom.metadata.component, bom.components)
    record = json.loads(JsonV1Dot6(bom).output_as_string())
    next(one for one in record["components"] if one["bom-ref"] == MODEL_REF)["modelCard"] = _card(model)
    text = json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False)
    if fault := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text):
        raise BillError(f"bill of materials of {model.name}: {str(fault.data)[:500]}")
    return text.encode() + b"\n"


def _package(name: str, version: str, kind: str, namespace: str | None = None) -> Component:
    address = PackageURL(type=kind, namespace=namespace, name=name, version=version)
    return Component(
        name=name, version=version, purl=address, bom_ref=address.to_string(), type=ComponentType.LIBRARY
    )  # fmt: skip


def _model(model: ModelFacts) -> Component:
    return Component(
        name=model.name,
        version=model.version,
        type=ComponentType.MACHINE_LEARNING_MODEL,
        bom_ref=MODEL_REF,
        description=model.description,
        properties=[Property(name=f"roadworthy:{name}", value=value) for name, value in model.facts.items()],
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=model.digest)],
    )


def _card(model: ModelFacts) -> dict[str, Any]:
    """`modelCard` of CycloneDX 1.6."""
    return {
        "modelParameters": {
            "task": model.task,
            "architectureFamily": model.family,
            "modelArchitecture": model.architecture,
            "datasets": [{"type": "dataset", "name": model.data_set}],
            "inputs": [{"format": model.inputs}],
            "outputs": [{"format": model.outputs}],
        },
        "quantitativeAnalysis": {
            "performanceMetrics": [{"type": name, "value": value} for name, value in sorted(model.metrics.items())]
        },
        "considerations": {"useCases": list(model.uses), "technicalLimitations": list(model.limits)},
    }
