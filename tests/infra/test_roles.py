"""Roles: each includes the one before, keys carry one, tokens name theirs."""

from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest

from infra import roles
from infra.api_keys import VERBS, ApiKeyError, KeyFile, issue

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def test_each_role_includes_the_ones_before_and_no_other() -> None:
    for place, role in enumerate(roles.ROLES):
        assert [other for other in roles.ROLES if roles.includes(role, other)] == list(roles.ROLES[: place + 1])
    assert not any(roles.includes(stranger, "viewer") for stranger in ("", "root", "Operator"))
    assert not roles.includes("operator", "root")


def test_who_may_more_asks_models_for_no_less() -> None:
    verbs = [set(roles.VERBS_OF[role]) for role in roles.ROLES]
    assert all(less <= more for less, more in pairwise(verbs)) and verbs[-1] == set(VERBS)


@pytest.mark.parametrize(
    ("claim", "role"),
    [
        (["roadworthy:viewer", "roadworthy:promoter", "admin"], "promoter"),
        ("openid roadworthy:trainer", "trainer"),
        (["operator", "roadworthy:root", "roadworthy:", 7, None, ["roadworthy:operator"]], ""),
        ({"roadworthy:operator": 1}, ""),
        (7, ""),
        (None, ""),
    ],
)
def test_a_token_names_its_role_as_ours(claim: object, role: str) -> None:
    assert roles.of_claim(claim) == role


def test_a_key_carries_its_role_and_one_without_is_stored_as_before(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    plain, _ = issue("signals", ["predict"], NOW)
    file.add(plain)
    assert "role" not in file.path.read_text() and "role" not in plain.public()  # images of before read this file too
    ann, _ = issue("ann", ["read"], NOW, role="promoter")
    file.add(ann)
    assert [record.grant().role for record in file.records()] == ["", "promoter"]
    assert ann.public()["role"] == "promoter"


def test_a_key_is_given_a_role_once_it_is_known(tmp_path: Path) -> None:
    file = KeyFile(tmp_path / "keys.json")
    record, _ = issue("local", VERBS, NOW)
    file.add(record)
    assert file.give_role(record.id, "operator").grant().role == file.one(record.id).role == "operator"
    with pytest.raises(ApiKeyError, match="expected the id of a key"):
        file.give_role("00000000", "viewer")
