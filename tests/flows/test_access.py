"""Keys and audit trails from the command line: what is in the ledger, what is shown, and what a change breaks."""

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows import access
from flows.cli_access import audit_app, key_app
from flows.local_key import operator_key
from flows.options import UsageError
from flows.workshop import Workshop, now
from infra.api_keys import ApiKeyError, KeyFile
from infra.ledger import Ledger
from infra.settings import Settings

Run = Callable[..., Any]


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    shop = Workshop(Settings(home=tmp_path / "home"))
    shop.home.mkdir()
    monkeypatch.setattr("flows.cli_access.open_workshop", lambda: shop)
    return shop


def ask(app: Any, *words: str, code: int = 0) -> Any:
    """The JSON that a command prints."""
    done = CliRunner().invoke(app, [*words, "--json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_a_key_is_in_the_ledger_and_shown_once(shop: Workshop) -> None:
    made = ask(key_app, "create", "signals", "--models", "freeway", "--verbs", "predict,explain", "--expires", "30d")
    key_id, secret = made["key"].split("_", 2)[1:]
    entry = shop.ledger.entries()[-1]
    assert entry.action == "key.created" and entry.details["id"] == key_id == made["id"]
    assert entry.details["models"] == ["freeway"] and entry.details["verbs"] == ["predict", "explain"]
    listed = ask(key_app, "list")
    assert [item["state"] for item in listed] == ["valid"] and "hash" not in listed[0]
    revoked = ask(key_app, "revoke", key_id)
    assert revoked["state"] == "revoked" and shop.ledger.entries()[-1].action == "key.revoked"
    ask(key_app, "revoke", key_id)
    assert len(shop.ledger.entries()) == 2  # once is enough
    told = shop.ledger.path.read_text() + json.dumps(listed) + json.dumps(revoked)
    assert secret not in told and "argon2" not in told
    assert all(secret not in path.read_text() for path in shop.home.rglob("*") if path.is_file())


def test_a_key_with_a_role_has_its_verbs_and_the_ledger_says_so(shop: Workshop) -> None:
    made = ask(key_app, "create", "ann", "--role", "promoter")
    assert made["role"] == "promoter" and made["verbs"] == ["read", "predict", "explain"]
    assert shop.ledger.entries()[-1].details["role"] == "promoter"
    assert "role" not in ask(key_app, "create", "signals")
    with pytest.raises(UsageError, match="viewer, trainer, promoter, operator"):
        access.create_key(shop, "ann", role="root")


def test_this_homes_own_key_acts_as_operator_also_where_it_is_older_than_roles(shop: Workshop) -> None:
    old = access.create_key(shop, "local", verbs="predict,explain,read,operate", expires="never")
    path = shop.home / "keys" / "local.key"
    path.write_text(old["key"])
    assert operator_key(shop) == operator_key(shop) == old["key"]
    assert access.list_keys(shop)[0]["role"] == "operator"
    assert [entry.action for entry in shop.ledger.entries()] == ["key.created", "key.role"]


def test_people_get_the_key_alone_on_stdout(shop: Workshop) -> None:
    done = CliRunner().invoke(key_app, ["create", "signals"])
    assert done.exit_code == 0 and done.stdout.splitlines()[0].startswith("rw_")
    assert "signals" in CliRunner().invoke(key_app, ["list"]).stdout


def test_wrong_words_make_no_key(shop: Workshop) -> None:
    for expires in ("30", "d", "0d", "-1d", "1y", "99999d", "30d ", "٣d"):
        with pytest.raises(UsageError, match="--expires"):
            access.create_key(shop, "a", expires=expires)
    with pytest.raises(UsageError, match="predict, explain, read, operate"):
        access.create_key(shop, "a", verbs="predict,all")
    for wrong in (
        {"name": "a\nb"},
        {"name": "a", "verbs": ""},
        {"name": "a", "models": ","},
        {"name": "", "tenant": "/"},
    ):
        with pytest.raises(ApiKeyError):
            access.create_key(shop, **wrong)
    with pytest.raises(ApiKeyError, match="expected the id of a key"):
        access.revoke_key(shop, "00000000")
    assert shop.ledger.entries() == [] and access.list_keys(shop) == []
    assert access.ends("never", now()) is None and access.ends("12h", now() - timedelta(hours=12))


def test_a_broken_file_of_keys_is_said_before_anything_is_written(shop: Workshop) -> None:
    access.create_key(shop, "a")
    access.keys_file(shop.home).write_text("{")
    with pytest.raises(ApiKeyError, match="restore it"):
        access.create_key(shop, "b")
    assert len(shop.ledger.entries()) == 1


def test_expired_keys_are_listed_as_such(shop: Workshop) -> None:
    made = access.create_key(shop, "a", expires="15m")
    file = KeyFile(access.keys_file(shop.home))
    late = file.one(made["id"]).model_copy(update={"expires": now() - timedelta(seconds=1)})
    file._write([late])
    assert access.list_keys(shop)[0]["state"] == "expired"


def test_verify_names_every_ledger_and_the_line_that_breaks(shop: Workshop) -> None:
    access.create_key(shop, "a")
    trail = Ledger(shop.home / "audit" / "freeway.jsonl")
    for number in range(3):
        trail.append("call.refused", "freeway", why="unknown", status=401, count=number)
    record = ask(audit_app, "verify")
    assert record["ok"] and [(row["ledger"], row["entries"]) for row in record["ledgers"]] == [
        ("ledger/ledger.jsonl", 1), ("audit/freeway.jsonl", 3),
    ]  # fmt: skip
    assert [item["action"] for item in ask(audit_app, "show", "--last", "2")] == ["call.refused"] * 2
    lines = trail.path.read_bytes().splitlines(keepends=True)
    trail.path.write_bytes(lines[0] + lines[1].replace(b"unknown", b"expired") + lines[2])
    record = ask(audit_app, "verify", code=1)
    assert not record["ok"] and record["ledgers"][0]["ok"] and "line 2" in record["ledgers"][1]["error"]
    trail.path.write_bytes(lines[0] + lines[2])
    assert "line 2" in ask(audit_app, "verify", code=1)["ledgers"][1]["error"]
    trail.path.unlink()
    assert "freeway" in ask(audit_app, "verify", code=1)["ledgers"][1]["ledger"]


def test_a_ledger_rewritten_whole_is_found_by_its_seal(shop: Workshop) -> None:
    access.create_key(shop, "a")
    assert [seal["seq"] for seal in ask(audit_app, "seal")] == [1] and ask(audit_app, "seal") == []
    assert ask(audit_app, "verify")["ledgers"][0]["sealed_until"] == 1
    for file in (shop.ledger.path, shop.ledger.head_path):
        file.unlink()
    shop.ledger.append("key.created", "", id="another")
    record = ask(audit_app, "verify", code=1)
    assert "rewritten" in record["ledgers"][0]["error"]
    shop.ledger.path.unlink()
    shop.ledger.head_path.unlink()
    assert not ask(audit_app, "verify", code=1)["ok"]
