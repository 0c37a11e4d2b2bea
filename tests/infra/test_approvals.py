"""Approvals, evidence against one champion, and what a version's page says, over a real MLflow registry."""

import pytest

from infra import version_page
from infra.promotion import ApprovalMissing, ChampionChanged, Evidence, PromotionRefused, is_unsettled
from infra.refs import ModelRef
from infra.registry import Registry


def register(registry: Registry, number: int, evidence: Evidence) -> ModelRef:
    address = {"digest": f"parcel{number}", "source": f"runs:/{number:032x}/parcel", "run_id": f"{number:032x}"}
    return registry.register("oregon", **address, evidence=evidence, description="# The card")


def page(registry: Registry, version: int) -> tuple[dict[str, str], str]:
    found = registry.client.get_model_version("oregon", str(version))
    return found.tags, found.description


def champion(registry: Registry) -> int:
    return int(registry.client.get_registered_model("oregon").aliases["champion"])


def test_so_many_people_approve_this_parcel_with_this_evidence(registry: Registry) -> None:
    ref = register(registry, 1, Evidence("e1", True, num_approvals=2, against=""))
    with pytest.raises(ApprovalMissing, match=r"2 of 2 approvals are missing \(approved by: nobody\)"):
        registry.promote(ref, "e1")
    registry.client.set_model_version_tag("oregon", "1", version_page.APPROVALS, "2 of 2: me, myself")
    assert registry.approve(ref, "e1", "alice") is not None
    assert registry.approve(ref, "e1", "alice") is None  # the same person counts once
    registry.judged_again(ref, Evidence("e1b", True, num_approvals=2, against=""))
    registry.approve(ref, "e1b", "bob")
    for evidence in ("e1", "e1b"):
        with pytest.raises(ApprovalMissing, match="1 of 2 approvals are missing"):
            registry.promote(ref, evidence)
    registry.approve(ref, "e1b", "alice", note="seen")
    assert registry.promote(ref, "e1b", "approved") == registry.live("oregon")
    assert registry.history("oregon")[-1].details["asked"] == "approved"
    assert page(registry, 1)[0][version_page.APPROVALS] == "2 of 2: bob, alice"


def test_nobody_approves_what_failed_or_is_not_there(registry: Registry) -> None:
    ref = register(registry, 1, Evidence("e1", False, ("too slow",), num_approvals=1))
    with pytest.raises(PromotionRefused, match="failed its gates: too slow"):
        registry.approve(ref, "e1", "alice")
    with pytest.raises(PromotionRefused, match="expected evidence e1"):
        registry.approve(ref, "e2", "alice")


def test_evidence_against_another_champion_is_none(registry: Registry) -> None:
    first = register(registry, 1, Evidence("e1", True, against=""))
    second = register(registry, 2, Evidence("e2", True, against=""))
    registry.promote(first, "e1")
    with pytest.raises(ChampionChanged, match="judged against nothing, live is parcel1"):
        registry.promote(second, "e2")
    registry.judged_again(second, Evidence("e2b", True, against="parcel1"))
    registry.promote(second, "e2b")
    assert registry.promote(second, "e2b") == registry.live("oregon")  # again changes nothing


def test_a_wish_is_adopted_and_a_refusal_is_said_on_the_page(registry: Registry) -> None:
    first, second = (register(registry, number, Evidence(f"e{number}", True)) for number in (1, 2))
    registry.promote(first, "e1")
    registry.client.set_registered_model_alias("oregon", "champion", "2")
    (moved,) = registry.moved("oregon")
    assert (moved.alias, moved.expected, moved.found) == ("champion", 1, 2)
    registry.reconcile("oregon", {"champion": "it is\ntoo slow"})
    assert champion(registry) == 1 and registry.moved("oregon") == []
    tags, text = page(registry, 2)
    assert tags[version_page.REFUSED] == "it is too slow"
    assert text.startswith("> **Not promoted** (") and text.endswith(") it is too slow\n\n# The card")
    registry.refuse("oregon", 2, "its roll-out went back")
    assert page(registry, 2)[1].count("Not promoted") == 1
    assert [e.action for e in registry.history("oregon")][-2:] == ["alias_restored", "refuse"]

    registry.client.set_registered_model_alias("oregon", "champion", "2")
    registry.promote(second, "e2", "alias")
    assert registry.history("oregon")[-1].action == "promote"  # no word of an alias that was put back
    assert champion(registry) == 2 and page(registry, 2)[1] == "# The card"
    assert version_page.REFUSED not in page(registry, 2)[0]


def test_a_wish_that_another_command_put_back_is_not_forgotten(registry: Registry) -> None:
    first, _ = (register(registry, number, Evidence(f"e{number}", True)) for number in (1, 2))
    registry.promote(first, "e1")
    registry.client.set_registered_model_alias("oregon", "champion", "2")
    registry.audit(fix=True)
    assert is_unsettled(registry.history("oregon"), 2) and not is_unsettled(registry.history("oregon"), 1)
    registry.refuse("oregon", 2, "too slow")
    assert not is_unsettled(registry.history("oregon"), 2)
