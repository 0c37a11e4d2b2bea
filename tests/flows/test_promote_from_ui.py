"""Aliases set by hand, and people's approvals, on a home with versions of a tiny product; keys are real ones."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from flows.access import create_key, revoke_key
from flows.approve import approve, waiting
from flows.local_key import local_key
from flows.options import UsageError
from flows.promote_from_ui import settle, settle_aliases
from flows.workshop import Workshop
from infra import version_page
from infra.api_keys import ApiKeyError
from infra.promotion import Evidence, standing
from tests.flows.tiny_home import FAILED, LIKE, tiny_home

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    """Version 1 of `tiny` is live; 2 and 3 passed and wait for two people, 4 failed."""
    shop = tiny_home(tmp_path_factory.mktemp("home"), LIKE, LIKE._replace(factor=1.03), FAILED)
    for version in (2, 3):
        renew(shop, version, f"two{version}")
    return shop


def renew(shop: Workshop, version: int, evidence: str) -> None:
    """Evidence of today, against what is live, that asks for two people."""
    from flows.promote import registered

    live = standing(shop.ledger.entries("tiny")).live
    against = live.digest if live else ""
    shop.registry.judged_again(
        registered(shop, "tiny", version), Evidence(evidence, True, num_approvals=2, against=against)
    )


@pytest.fixture
def shop(home: Workshop) -> Iterator[Workshop]:
    yield home
    assert settle_aliases(home) == [] and home.registry.audit() == []


def alias(shop: Workshop, name: str, version: int | None) -> None:
    """As MLflow's UI does it."""
    if version is None:
        shop.registry.client.delete_registered_model_alias("tiny", name)
    else:
        shop.registry.client.set_registered_model_alias("tiny", name, str(version))


def aliases(shop: Workshop) -> dict[str, int]:
    return {name: int(v) for name, v in shop.registry.client.get_registered_model("tiny").aliases.items()}


def tags(shop: Workshop, version: int) -> dict[str, str]:
    found: dict[str, str] = shop.registry.client.get_model_version("tiny", str(version)).tags
    return found


def last(shop: Workshop) -> dict[str, Any]:
    return shop.ledger.entries("tiny")[-1].details


def test_an_alias_without_approvals_is_put_back_and_the_page_says_why(shop: Workshop) -> None:
    alias(shop, "champion", 2)
    record = settle(shop, "tiny", 2)
    assert (record["verdict"], record["version"]) == ("awaiting approval", 2)
    assert aliases(shop) == {"champion": 1}
    assert "2 of 2 approvals are missing" in tags(shop, 2)[version_page.REFUSED]
    assert "approvals are missing" in last(shop)["reason"]
    assert settle(shop, "tiny", 2)["verdict"] == "nothing"  # the same event, again


def test_a_version_that_others_made_is_no_candidate(shop: Workshop) -> None:
    made = shop.registry.client.create_model_version("tiny", "runs:/x/model")
    alias(shop, "champion", int(made.version))
    (record,) = settle_aliases(shop)
    assert record["verdict"] == "refused" and "not registered; known versions: 1, 2, 3, 4" in record["reasons"][0]
    assert aliases(shop) == {"champion": 1}
    assert "not registered" in tags(shop, int(made.version))[version_page.REFUSED]


def test_other_moves_are_undone_and_other_aliases_are_left_alone(shop: Workshop) -> None:
    alias(shop, "best", 4)
    assert settle(shop, "tiny", 4)["verdict"] == "nothing"
    alias(shop, "champion", None)
    alias(shop, "challenger", 4)
    record = settle(shop, "tiny")
    assert record["verdict"] == "put back" and aliases(shop) == {"champion": 1, "best": 4}
    assert "roadworthy rollback" in tags(shop, 1)[version_page.RESTORED]
    assert "set champion to ask" in tags(shop, 4)[version_page.RESTORED]
    alias(shop, "best", None)


def test_a_wish_is_judged_though_another_command_put_the_alias_back(shop: Workshop) -> None:
    alias(shop, "champion", 3)
    shop.registry.audit(fix=True)
    assert settle(shop, "tiny", 2)["verdict"] == "nothing"
    assert settle(shop, "tiny", 3)["verdict"] == "awaiting approval"
    assert "approvals are missing" in tags(shop, 3)[version_page.REFUSED]
    assert settle(shop, "tiny", 3)["verdict"] == "nothing"


def test_only_persons_with_a_role_approve(shop: Workshop) -> None:
    key = create_key(shop, "Alice", role="promoter", models="other")["key"]
    with pytest.raises(ApiKeyError, match="expected a key for tiny, got one for other"):
        approve(shop, "tiny", 2, key)
    with pytest.raises(ApiKeyError, match="expected its secret"):
        approve(shop, "tiny", 2, key[:-3] + "abc")
    with pytest.raises(ApiKeyError, match="this is the home's own"):
        approve(shop, "tiny", 2, local_key(shop))
    with pytest.raises(ApiKeyError, match="expected role promoter or above, got trainer"):
        approve(shop, "tiny", 2, create_key(shop, "Ann", role="trainer")["key"])
    gone = create_key(shop, "Bob", role="promoter")
    revoke_key(shop, gone["id"])
    with pytest.raises(ApiKeyError, match="it is revoked"):
        approve(shop, "tiny", 2, gone["key"])
    with pytest.raises(ApiKeyError, match="expected a key, rw_…"):
        approve(shop, "tiny", 2, "let me in")
    with pytest.raises(UsageError, match="it is live"):
        approve(shop, "tiny", 1, key)
    with pytest.raises(UsageError, match="nothing to approve; waiting: 2, 3"):
        approve(shop, "tiny", 9, key)
    assert [(row["version"], row["approved_by"]) for row in waiting(shop)] == [(2, []), (3, [])]


def test_two_people_put_it_on_the_road_and_one_twice_does_not(shop: Workshop) -> None:
    alice, again = (create_key(shop, name, role="promoter")["key"] for name in ("Alice", "alice"))
    first = approve(shop, "tiny", 2, alice, "seen the report")
    assert (first["verdict"], first["approved_by"]) == ("awaiting approval", ["alice"])
    assert approve(shop, "tiny", 2, again)["verdict"] == "awaiting approval"
    assert [row["approved_by"] for row in waiting(shop)] == [["alice"], []]
    assert tags(shop, 2)[version_page.APPROVALS] == "1 of 2: alice"

    done = approve(shop, "tiny", 2, create_key(shop, "Bob", role="operator")["key"])
    assert (done["verdict"], done["approved_by"], done["road"]["verdict"]) == ("promoted", ["alice", "bob"], "packaged")
    assert aliases(shop) == {"champion": 2, "challenger": 1}
    assert last(shop)["asked"] == "approved by alice, bob"
    assert version_page.REFUSED not in tags(shop, 2)
    assert [row["is_current"] for row in waiting(shop)] == [False]  # 3 was judged against 1


def test_an_alias_with_approvals_is_a_promotion(shop: Workshop) -> None:
    renew(shop, 3, "two3b")
    shop.registry.approve(standing_ref(shop, 3), "two3b", "alice")
    shop.registry.approve(standing_ref(shop, 3), "two3b", "bob")
    alias(shop, "champion", 3)
    record = settle(shop, "tiny", 3)
    assert (record["verdict"], record["road"]["verdict"]) == ("promoted", "packaged")
    assert last(shop)["asked"] == "alias champion set in MLflow"
    assert aliases(shop) == {"champion": 3, "challenger": 2} and waiting(shop) == []
    began = shop.ledger.entries("tiny")[-1].moment
    assert settle(shop, "tiny", 3)["verdict"] == "promoted"  # told again: nothing moves
    assert shop.ledger.entries("tiny")[-1].moment - began == timedelta(0)


def standing_ref(shop: Workshop, version: int) -> Any:
    from flows.promote import registered

    return registered(shop, "tiny", version)


def test_a_product_nobody_knows_is_nothing(shop: Workshop, tmp_path: Path) -> None:
    assert settle(shop, "theirs", 1)["verdict"] == "nothing"
