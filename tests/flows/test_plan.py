"""What a product takes along: only inspected versions; and limits that are measured once."""

import json
from pathlib import Path

import pytest

from flows.live import live_model
from flows.options import UsageError
from flows.package import package_live
from flows.plan import ProductPlan, clear_plan, plan_of, service_plan, set_plan
from flows.workshop import Workshop
from infra.promotion import PromotionRefused
from services.schemas import Release
from tests.flows.tiny_home import FAILED, LIKE, tiny_home

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Version 1 is live, 2 passed its gates, 3 failed them."""
    return tiny_home(tmp_path_factory.mktemp("home"), LIKE, FAILED)


def written(folder: Path, **plan: object) -> Path:
    path = folder / "plan.json"
    path.write_text(json.dumps(plan))
    return path


@pytest.mark.parametrize(
    ("also", "error", "words"),
    [
        (["tiny/9"], UsageError, "known versions: 1, 2, 3"),
        (["tiny/3"], PromotionRefused, "too slow"),
        (["tiny/x"], UsageError, "PRODUCT/VERSION"),
    ],
)
def test_only_inspected_versions_are_taken(
    shop: Workshop, tmp_path: Path, also: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        set_plan(shop, "tiny", written(tmp_path, also=also))
    assert plan_of(shop, "tiny") == ProductPlan()


def test_an_unknown_field_is_named(shop: Workshop, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="ensemble"):
        set_plan(shop, "tiny", written(tmp_path, ensemble={}))


def test_the_plan_is_packed_signed_and_bound_to_its_release(shop: Workshop, tmp_path: Path) -> None:
    set_plan(shop, "tiny", written(tmp_path, also=["tiny/2"], limits={"deadline_ms": 321}))
    source = Path(package_live(shop, "tiny").path) / "src"
    assert json.loads((source / "service.json").read_text())["limits"]["deadline_ms"] == 321
    assert {"service.sig", "release.sig", "parcel.sig", "models"} <= {path.name for path in source.iterdir()}
    assert (source / "models" / "tiny" / "2" / "parcel.sig").exists()
    assert Release.model_validate_json((source / "release.json").read_bytes()).plan_digest
    clear_plan(shop, "tiny")
    assert not (Path(package_live(shop, "tiny").path) / "src" / "models" / "tiny").exists()
    assert [entry.action for entry in shop.ledger.entries("tiny")].count("plan.set") == 2


def test_limits_are_measured_once(shop: Workshop) -> None:
    first = service_plan(shop, live_model(shop, "tiny")).limits
    assert first.deadline_ms is not None and first.deadline_ms >= 250 and first.batch_window_ms == 0
    assert service_plan(shop, live_model(shop, "tiny")).limits == first
