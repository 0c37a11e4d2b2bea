"""Promotion, rollback, deletion and the audit over a real MLflow registry."""

import subprocess
import sys
from pathlib import Path

import pytest

from infra.promotion import Evidence, PromotionRefused
from infra.refs import ModelRef
from infra.registry import Registry, RegistryError, check_product
from infra.tracking import Tracking

ROOT = Path(__file__).parents[2]


def register(registry: Registry, number: int, passed: bool = True) -> ModelRef:
    evidence = Evidence(f"evidence{number}", passed, () if passed else ("loses to last_value",), {"mae": 3.5})
    address = {"digest": f"parcel{number}", "source": f"runs:/{number:032x}/parcel", "run_id": f"{number:032x}"}
    return registry.register("oregon", **address, evidence=evidence, description="# Yes")


def promote(registry: Registry, *numbers: int) -> list[ModelRef]:
    return [registry.promote(register(registry, number), f"evidence{number}") for number in numbers]


def aliases(registry: Registry) -> dict[str, int]:
    return {alias: int(version) for alias, version in registry.client.get_registered_model("oregon").aliases.items()}


def actions(registry: Registry) -> list[str]:
    return [entry.action for entry in registry.history("oregon") if entry.action != "register"]


@pytest.mark.parametrize("name", ["", "-a", "Oregon", "a/b", "a b", "a'"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(RegistryError, match="product"):
        check_product(name)


def test_the_ledger_answers_without_mlflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from infra.ledger import Ledger; from infra.registry import Registry;"
        "from infra.settings import Settings; home = Path(sys.argv[1]);"
        "registry = Registry(Settings(home=home), Ledger(home / 'ledger.jsonl'));"
        "assert registry.live('oregon') is None and registry.history('oregon') == [];"
        "assert not {'mlflow', 'torch', 'pandas'} & set(sys.modules), 'imported'"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=True)


def test_the_same_parcel_and_evidence_register_once(registry: Registry) -> None:
    first, again, other = register(registry, 1), register(registry, 1), register(registry, 2)
    assert first == again == ModelRef(product="oregon", version=1, digest="parcel1")
    assert other.version == 2
    page = registry.client.get_model_version("oregon", "1")
    assert page.description == "# Yes"
    assert page.tags["roadworthy.verdict"] == "passed" and page.tags["metric.mae"] == "3.5"
    assert [entry.action for entry in registry.history("oregon")] == ["register", "register"]


def test_a_logged_model_is_registered(
    registry: Registry, tracking: Tracking, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow would leave a store of its own
    run = tracking.lifecycle_run("parcels", "key1", {})
    model = tracking.client.create_logged_model(run.experiment_id, "linear", source_run_id=run.run_id)
    ref = registry.register(
        "oregon", digest="parcel", source=f"models:/{model.model_id}", run_id=run.run_id, evidence=Evidence("e", True)
    )
    page = registry.client.get_model_version("oregon", str(ref.version))
    assert (page.source, page.run_id) == (f"models:/{model.model_id}", run.run_id)
    assert not (tmp_path / "mlflow.db").exists()


def test_promotion_moves_the_aliases_and_once(registry: Registry) -> None:
    first, second = promote(registry, 1, 2)
    registry.promote(second, "evidence2")
    assert registry.live("oregon") == second
    assert aliases(registry) == {"champion": second.version, "challenger": first.version}
    assert actions(registry) == ["promote", "promote"]
    tags = [registry.client.get_model_version("oregon", str(v)).tags["roadworthy.status"] for v in (1, 2)]
    assert tags == ["previous", "live"]


def test_no_promotion_without_passed_evidence(registry: Registry) -> None:
    failed = register(registry, 1, passed=False)
    registry.client.set_model_version_tag("oregon", "1", "roadworthy.verdict", "passed")  # tags convince nobody
    with pytest.raises(PromotionRefused, match="loses to last_value"):
        registry.promote(failed, "evidence1")
    with pytest.raises(PromotionRefused, match="expected evidence"):
        registry.promote(register(registry, 2), "made up")
    with pytest.raises(PromotionRefused, match="registered"):
        registry.promote(ModelRef(product="oregon", version=2, digest="other"), "evidence2")
    assert registry.live("oregon") is None and aliases(registry) == {}


def test_rollback_returns_to_the_version_before(registry: Registry) -> None:
    first, second = promote(registry, 1, 2)
    assert registry.rollback("oregon") == first
    assert aliases(registry) == {"champion": first.version, "challenger": second.version}
    with pytest.raises(PromotionRefused, match="nothing to roll back to"):
        registry.rollback("oregon")
    assert actions(registry) == ["promote", "promote", "rollback"]


def test_only_versions_off_the_road_are_deleted(registry: Registry) -> None:
    promote(registry, 1, 2, 3, 4)
    unused = register(registry, 5)
    for version in (2, 3, 4):
        with pytest.raises(PromotionRefused, match="kept for a rollback"):
            registry.delete("oregon", version)
    for version in (1, unused.version):
        registry.delete("oregon", version)
    assert {int(page.version) for page in registry.client.search_model_versions("name = 'oregon'")} == {2, 3, 4}
    with pytest.raises(RegistryError, match="known"):
        registry.delete("oregon", 1)
    assert actions(registry)[-2:] == ["delete", "delete"] and registry.audit() == []


def test_a_moved_alias_is_found_undone_and_recorded(registry: Registry) -> None:
    promote(registry, 1, 2)
    register(registry, 3, passed=False)
    registry.client.set_registered_model_alias("oregon", "champion", "3")
    registry.client.delete_registered_model_alias("oregon", "challenger")
    for fix in (False, True):
        found = registry.audit(fix=fix)
        assert [(one.kind, one.expected, one.got, one.fixed) for one in found] == [
            ("alias_moved", "version 2", "version 3", fix),
            ("alias_moved", "version 1", "no such alias", fix),
        ]
    assert registry.audit() == [] and aliases(registry) == {"champion": 2, "challenger": 1}
    details = [entry.details for entry in registry.history("oregon") if entry.action == "alias_restored"]
    assert details[0] == {"alias": "champion", "found": 3, "expected": 2} and len(details) == 2


def test_a_champion_that_was_never_promoted_is_removed(registry: Registry) -> None:
    register(registry, 1)
    registry.client.set_registered_model_alias("oregon", "champion", "1")
    (found,) = registry.audit(fix=True)
    assert (found.kind, found.expected, found.fixed) == ("alias_moved", "no such alias", True)
    assert aliases(registry) == {} and actions(registry) == ["alias_restored"]


def test_models_of_others_are_left_alone(registry: Registry) -> None:
    registry.client.create_registered_model("theirs")
    version = registry.client.create_model_version("theirs", "runs:/x/y").version
    registry.client.set_registered_model_alias("theirs", "champion", version)
    assert registry.audit(fix=True) == []
    assert registry.client.get_registered_model("theirs").aliases == {"champion": version}


def test_a_lost_live_version_and_parcel_are_reported_and_survived(registry: Registry) -> None:
    promote(registry, 1, 2)
    registry.client.set_model_version_tag("oregon", "1", "roadworthy.parcel", "forged")
    registry.client.delete_model_version("oregon", "2")
    found = registry.audit(fix=True, parcel_exists=lambda digest: digest != "parcel1")
    assert {one.kind for one in found} == {"version_missing", "parcel_changed", "parcel_missing"}
    assert [one.fixed for one in found if one.kind == "parcel_changed"] == [True]
    assert registry.rollback("oregon").version == 1 and aliases(registry) == {"champion": 1}


def test_with_a_broken_ledger_nothing_is_fixed(registry: Registry) -> None:
    promote(registry, 1, 2)
    registry.client.set_registered_model_alias("oregon", "champion", "1")
    path = registry.ledger.path
    path.write_text(path.read_text().replace("evidence1", "evidence9"))
    assert [one.kind for one in registry.audit(fix=True)] == ["ledger_broken"]
    assert aliases(registry)["champion"] == 1
