"""What a product serves beside its live model, and within which limits.

Further versions and products, ensembles of them, and tenants' overlays are a file that people write; a batch window and
a deadline that it leaves open are measured when the product is packed, once for each parcel. The services get both as
one signed `service.json`.
"""

import json
import time
from pathlib import Path
from statistics import median

from pydantic import ValidationError

from flows.live import parcel_folder
from flows.options import UsageError
from flows.registered import registered_version
from flows.workshop import Workshop
from infra.atomic import write_atomic
from infra.refs import ModelRef
from models.artifact import wire
from models.artifact.manifest import GOLDEN_FILE
from models.artifact.predictor import Predictor
from services.schemas import LoadLimits, ServicePlan

PLANS = "plans"
NUM_CALLS = 50
WORTH_WAITING_S = 0.001  # a graph that answers a row sooner than this is not worth a wait for company
CALLERS = 64  # so many may ask at once before somebody is told to come back
LEAST_DEADLINE_MS = 250.0  # a busy machine stalls for tens of milliseconds now and then


class ProductPlan(ServicePlan):
    """What people write: a service's plan, and the registered versions that it takes along."""

    also: tuple[str, ...] = ()


def plan_of(shop: Workshop, product: str) -> ProductPlan:
    """The product's plan; an empty one where nobody has written any."""
    path = _path(shop, product)
    return ProductPlan.model_validate_json(path.read_bytes()) if path.exists() else ProductPlan()


def set_plan(shop: Workshop, product: str, file: Path) -> ProductPlan:
    """Take the plan in `file` for the product, from its next packing on. Raises UsageError, PromotionRefused."""
    if not file.is_file():
        raise UsageError(f"--file {file}: expected a JSON file with also, ensembles, tenants or limits, got none")
    try:
        plan = ProductPlan.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "text"
        raise UsageError(f"{file}, {place}: {first['msg']}; known: {', '.join(ProductPlan.model_fields)}") from error
    _registered(shop, plan)
    shop.ledger.append("plan.set", product, plan=plan.model_dump(mode="json"))
    write_atomic(_path(shop, product), plan.model_dump_json(indent=2).encode())
    return plan


def clear_plan(shop: Workshop, product: str) -> None:
    """Serve the live model alone again."""
    shop.ledger.append("plan.set", product, plan=ProductPlan().model_dump(mode="json"))
    _path(shop, product).unlink(missing_ok=True)


def taken_along(shop: Workshop, product: str) -> list[ModelRef]:
    """The further versions, each registered and past its gates. Raises UsageError, PromotionRefused."""
    return _registered(shop, plan_of(shop, product))


def service_plan(shop: Workshop, version: ModelRef) -> ServicePlan:
    """What the service of this version is told: the product's plan, its open limits filled with measured ones."""
    plan = plan_of(shop, version.product)
    given = plan.limits.model_dump(exclude_none=True)
    return ServicePlan(
        ensembles=plan.ensembles, tenants=plan.tenants, limits=LoadLimits(**{**calibrated(shop, version), **given})
    )


def calibrated(shop: Workshop, live: ModelRef) -> dict[str, float]:
    """Limits for this parcel as measured on this machine: milliseconds by the name of the limit.

    deadline: a full batch and a row of each of CALLERS, five times over, at least LEAST_DEADLINE_MS
    window: half of what a row takes, where that is worth a wait and a batch is cheaper
    Measured once, so that packing again gives the same bytes.
    """
    path = shop.home / PLANS / "measured" / f"{live.digest}.json"
    if path.exists():
        return dict(json.loads(path.read_text()))
    folder = parcel_folder(shop, live.digest)
    predictor = Predictor.open(folder)
    most = predictor.manifest.max_batch
    alone_s, full_s = _seconds(predictor, folder, 1), _seconds(predictor, folder, most)
    is_cheaper = full_s / most < alone_s / 2
    window_ms = round(500 * alone_s, 1) if alone_s > WORTH_WAITING_S and is_cheaper else 0.0
    deadline_ms = max(LEAST_DEADLINE_MS, round(5000 * (full_s + CALLERS * alone_s), -1))
    write_atomic(path, json.dumps({"batch_window_ms": window_ms, "deadline_ms": deadline_ms}).encode())
    return {"batch_window_ms": window_ms, "deadline_ms": deadline_ms}


def _seconds(predictor: Predictor, folder: Path, num_rows: int) -> float:
    """Median seconds of one call with so many copies of the golden request."""
    golden = json.loads((folder / GOLDEN_FILE).read_text())["request"]
    request = wire.parse_request(predictor.manifest, json.dumps(golden).encode())
    inputs = {name: array.repeat(num_rows, axis=0) for name, array in request.inputs.items()}
    spent = []
    for _ in range(NUM_CALLS if num_rows == 1 else 5):
        began = time.perf_counter()
        predictor.predict(inputs)
        spent.append(time.perf_counter() - began)
    return median(spent)


def _registered(shop: Workshop, plan: ProductPlan) -> list[ModelRef]:
    return [registered_version(shop, *_named(name)) for name in plan.also]


def _named(name: str) -> tuple[str, int | None]:
    product, _, version = name.partition("/")
    if version and not version.isdigit():
        raise UsageError(f"also: expected PRODUCT or PRODUCT/VERSION, got '{name}'")
    return product, int(version) if version else None


def _path(shop: Workshop, product: str) -> Path:
    return shop.home / PLANS / f"{product}.json"
