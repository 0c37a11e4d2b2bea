"""The audit trail: bounded whatever comes, whole at the end, and nothing in it that must not be."""

import threading
from pathlib import Path

import pytest

from infra.ledger import Entry, Ledger
from services.answers import ANYBODY, Caller
from services.audit import LOST, MAX_ENTRIES, MERGED, Audit

SIGNALS = Caller("signals", "city", "0a1b2c3d")


def entries(path: Path) -> list[Entry]:
    Ledger(path).verify()
    return Ledger(path).entries()


def test_equal_notes_are_one_entry(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    for _ in range(1000):
        audit.note("call.refused", SIGNALS, "/predict", "expired", verb="predict", model="m", status=401, address="a")
    audit.note("call.refused", ANYBODY, "/predict", "unknown", status=401)
    assert audit.flush()
    first, second = entries(audit.ledger.path)
    assert first.product == "m" and first.details["count"] == 1000 and first.details["key"] == "0a1b2c3d"
    assert first.details["first"] <= first.details["last"] and first.details["status"] == 401
    assert second.details["count"] == 1 and "key" not in second.details


def test_a_flood_is_a_few_entries_and_callers_are_still_seen(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    for number in range(5000):
        audit.note("call.refused", ANYBODY, "/predict", "unknown", status=401, address=f"10.0.{number % 256}.{number}")
    audit.note("call.refused", SIGNALS, "/predict", "revoked", status=401)
    assert audit.flush()
    found = entries(audit.ledger.path)
    assert len(found) == MAX_ENTRIES + 2 and found[-1].action == MERGED
    assert sum(entry.details["count"] for entry in found) == 5001
    assert any(entry.details.get("key") == SIGNALS.key_id for entry in found)


def test_nothing_is_lost_between_many_threads_and_the_end(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    audit.start()
    threads = [
        threading.Thread(target=lambda: [audit.note("x", SIGNALS, "/r", "w") for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    audit.stop()
    assert sum(entry.details["count"] for entry in entries(audit.ledger.path)) == 2000


def test_what_could_not_be_written_is_counted_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "folder" / "audit.jsonl"
    path.parent.mkdir()
    audit = Audit(path)
    audit.note("call.refused", SIGNALS, "/r", "first")
    assert audit.flush()
    head, line = path.with_suffix(".head").read_text(), path.read_bytes()
    path.with_suffix(".head").write_text("7 " + "0" * 64)  # as after an attack: the chain does not fit
    for _ in range(3):
        audit.note("call.refused", SIGNALS, "/r", "second")
    assert not audit.flush() and "cannot be written" in caplog.text
    assert not audit.record("call.privileged", SIGNALS, "/admin/swap", "admitted", verb="operate", model="", address="")
    assert path.read_bytes() == line
    path.with_suffix(".head").write_text(head)
    audit.note("call.refused", SIGNALS, "/r", "third")
    assert audit.flush()
    found = entries(path)
    assert [(entry.action, entry.details["count"]) for entry in found[1:]] == [(LOST, 3), ("call.refused", 1)]


def test_strange_words_are_bounded_and_spelled(tmp_path: Path) -> None:
    audit = Audit(tmp_path / "audit.jsonl")
    for word in ("\ud800", "a\nb", "x" * 10_000, "\x00", '"}{'):
        audit.note("call.refused", Caller(word, word, word), word, word, model=word, verb=word, address=word)
    assert audit.flush()
    found = entries(audit.ledger.path)
    assert len(found) == 5 and all(len(str(entry.details)) < 3000 for entry in found)
    assert all(len(line) < 4000 for line in audit.ledger.path.read_bytes().splitlines())
