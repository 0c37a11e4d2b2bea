"""Keys are known by their hash alone, a revocation acts on the next call, and a broken file opens nothing."""

import asyncio
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.api_keys import ApiKeyError, KeyFile, issue
from infra.key_ring import BusyError, KeyRing

NOW = datetime(2026, 5, 31, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    return KeyFile(tmp_path / "keys" / "api_keys.json")


def test_a_key_is_found_and_only_its_hash_is_stored(file: KeyFile) -> None:
    record, key = issue("signals", ["predict"], NOW, models=["freeway"], tenant="city")
    file.add(record)
    stored = file.path.read_text()
    assert "$argon2id$" in stored and key not in stored and key.split("_", 2)[2] not in stored
    assert file.path.stat().st_mode & 0o777 == 0o600 and "hash" not in record.public()
    ring = KeyRing(file.path)
    assert ring.known(key) is None  # never verified yet
    grant = asyncio.run(ring.find(key))
    assert grant is not None and grant is ring.known(key)
    assert (grant.id, grant.name, grant.tenant) == (record.id, "signals", "city")
    assert grant.allows("predict", "freeway") and grant.allows("predict", "")
    assert not grant.allows("predict", "digits") and not grant.allows("explain", "freeway")


def test_a_wrong_key_is_not_found(file: KeyFile) -> None:
    record, key = issue("a", ["predict"], NOW)
    file.add(record)
    ring = KeyRing(file.path)
    wrong_secret = f"rw_{record.id}_{'A' * 32}"
    unknown_id = f"rw_{'0' * 8}_{key.split('_', 2)[2]}"
    shapes = ["", "rw_", "x" * 100_000, key + "A", key[:-1], f" {key}", "rw_\ud800", f"{key}\n", key.upper()]
    for raw_key in (wrong_secret, unknown_id, *shapes):
        assert asyncio.run(ring.find(raw_key)) is None and ring.known(raw_key) is None


def test_revocation_acts_on_the_next_call_and_is_kept(file: KeyFile) -> None:
    (kept, kept_key), (gone, gone_key) = issue("a", ["predict"], NOW), issue("b", ["predict"], NOW)
    file.add(kept)
    file.add(gone)
    ring = KeyRing(file.path)
    assert asyncio.run(ring.find(gone_key)) and asyncio.run(ring.find(kept_key))
    file.revoke(gone.id, NOW)
    found = ring.known(gone_key)
    assert found is not None and found.revoked
    still = ring.known(kept_key)
    assert still is not None and not still.revoked  # and without argon2
    assert file.revoke(gone.id, NOW + timedelta(days=1)).revoked == NOW


def test_revoked_by_many_at_once_no_change_is_lost(file: KeyFile) -> None:
    made = [issue(f"k{number}", ["predict"], NOW)[0] for number in range(8)]
    threads = [threading.Thread(target=file.add, args=(record,)) for record in made]
    threads += [threading.Thread(target=_revoke_when_there, args=(file, record.id)) for record in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {record.id for record in file.records()} == {record.id for record in made}
    assert all(record.revoked for record in file.records())


def _revoke_when_there(file: KeyFile, key_id: str) -> None:
    while key_id not in {record.id for record in file.records()}:
        pass
    file.revoke(key_id, NOW)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"format":2,"keys":[]}', b'{"keys":[{"id":"x"}]}', b"\xff\x00"]
)
def test_a_broken_file_opens_nothing_and_shows_nothing(
    file: KeyFile, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    record, key = issue("a", ["predict"], NOW)
    file.add(record)
    ring = KeyRing(file.path)
    assert asyncio.run(ring.find(key))
    file.path.write_bytes(content)
    assert ring.known(key) is None and asyncio.run(ring.find(key)) is None
    with pytest.raises(ApiKeyError, match="restore it"):
        file.records()
    assert "argon2id" not in caplog.text and key not in caplog.text


def test_without_the_file_no_key_and_with_it_again_all(file: KeyFile) -> None:
    record, key = issue("a", ["predict"], NOW)
    file.add(record)
    ring = KeyRing(file.path)
    file.path.rename(file.path.with_suffix(".aside"))
    assert asyncio.run(ring.find(key)) is None and file.records() == ()
    file.path.with_suffix(".aside").rename(file.path)
    assert asyncio.run(ring.find(key)) is not None


def test_an_id_of_another_secret_is_checked_again(file: KeyFile) -> None:
    record, key = issue("a", ["predict"], NOW)
    file.add(record)
    ring = KeyRing(file.path)
    assert asyncio.run(ring.find(key))
    other, _ = issue("a", ["predict"], NOW)
    file.path.unlink()
    file.add(other.model_copy(update={"id": record.id}))
    assert ring.known(key) is None and asyncio.run(ring.find(key)) is None


def test_many_with_one_new_key_are_one_check_and_guessers_are_sent_away(file: KeyFile) -> None:
    record, key = issue("a", ["predict"], NOW)
    file.add(record)
    ring = KeyRing(file.path)

    async def crowd() -> list[object]:
        guesses = [f"rw_{number:08x}_{'A' * 32}" for number in range(40)]
        calls = [ring.find(key) for _ in range(64)] + [ring.find(guess) for guess in guesses]
        return await asyncio.gather(*calls, return_exceptions=True)

    answers = asyncio.run(crowd())
    assert all(answers[:64])
    assert {type(answer) for answer in answers[64:]} == {type(None), BusyError}
    assert asyncio.run(ring.find(f"rw_00000000_{'B' * 32}")) is None  # nobody waits for ever


def test_what_a_key_may_be_called_is_bounded(tmp_path: Path) -> None:
    for wrong in ({"name": "a\nb"}, {"name": ""}, {"name": "a", "tenant": "../x"}, {"name": "a", "verbs": []}):
        fields = {"verbs": ["predict"], **wrong}
        with pytest.raises(ApiKeyError, match="key "):
            issue(created=NOW, **fields)  # type: ignore[arg-type]


def test_unknown_ids_are_answered_with_those_known(file: KeyFile) -> None:
    record, _ = issue("a", ["predict"], NOW)
    file.add(record)
    with pytest.raises(ApiKeyError, match=record.id):
        file.revoke("ffffffff", NOW)
    with pytest.raises(ApiKeyError, match="new id"):
        file.add(record)
    assert os.listdir(file.path.parent).count("api_keys.json") == 1
