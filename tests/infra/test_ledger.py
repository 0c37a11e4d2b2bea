"""The ledger keeps what it acknowledged, and finds every change."""

import errno
import hashlib
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.ledger import GENESIS, TORN, Entry, Ledger, LedgerError, canonical

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
REPOSITORY = Path(__file__).parents[2]
APPENDER = """
import sys
from pathlib import Path
from infra.ledger import Ledger
ledger = Ledger(Path(sys.argv[1]))
while True:
    print(ledger.append("promote", "oregon", text="x" * 3000).seq, flush=True)
"""


def ticking() -> Callable[[], datetime]:
    moments = (NOON + timedelta(minutes=number) for number in range(10_000))
    return lambda: next(moments)


def filled(folder: Path, num_entries: int = 5) -> Ledger:
    ledger = Ledger(folder / "ledger.jsonl", clock=ticking())
    for number in range(num_entries):
        ledger.append("promote", "oregon" if number % 2 else "freeway", version=number, why="näher ☂")
    return ledger


def test_entries_are_chained_and_read_back(tmp_path: Path) -> None:
    ledger = filled(tmp_path / "new" / "folder")
    entries = ledger.entries()
    assert ledger.verify() == 5
    assert [entry.seq for entry in entries] == [1, 2, 3, 4, 5]
    assert [entry.previous for entry in entries] == [GENESIS, *(entry.digest for entry in entries[:-1])]
    assert [entry.details["version"] for entry in ledger.entries("oregon")] == [1, 3]
    assert entries[2].moment == NOON + timedelta(minutes=2)
    assert entries == Ledger(ledger.path).entries()


def test_empty(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "none" / "ledger.jsonl")
    assert (ledger.verify(), ledger.entries()) == (0, [])
    assert not ledger.path.parent.exists()


def test_the_entry_returned_is_the_entry_read(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl", clock=lambda: NOON.astimezone(timezone(timedelta(hours=5))))
    entry = ledger.append("note", "p", pair=(1, 2), nested={"a": None}, big=2**80, small=1e-300)
    assert ledger.entries() == [entry]
    assert entry.details["pair"] == [1, 2]
    assert entry.time == "2026-03-01T12:00:00.000000+00:00"


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"bytes", "\ud800"])
def test_what_is_not_json_is_refused_and_leaves_no_trace(tmp_path: Path, value: object) -> None:
    ledger = filled(tmp_path)
    with pytest.raises((TypeError, ValueError)):
        ledger.append("note", "p", value=value)
    assert ledger.verify() == 5


def test_a_clock_without_a_zone_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="aware"):
        Ledger(tmp_path / "ledger.jsonl", clock=lambda: datetime(2026, 3, 1)).append("note", "p")


def test_writers_at_once_make_one_chain(tmp_path: Path) -> None:
    shared = Ledger(tmp_path / "ledger.jsonl")
    with ThreadPoolExecutor(8) as pool:
        for number in range(40):
            pool.submit((shared if number % 2 else Ledger(shared.path)).append, "note", "p", number=number)
    assert shared.verify() == 40
    assert sorted(entry.details["number"] for entry in shared.entries()) == list(range(40))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.integers(0, 10**9), byte=st.integers(0, 255))
def test_any_changed_byte_is_found(tmp_path: Path, where: int, byte: int) -> None:
    ledger = filled(tmp_path) if not (tmp_path / "ledger.jsonl").exists() else Ledger(tmp_path / "ledger.jsonl")
    good = ledger.path.read_bytes()
    changed = bytearray(good)
    position = where % len(good)
    changed[position] = byte if byte != good[position] else byte ^ 1
    ledger.path.write_bytes(changed)
    try:
        with pytest.raises(LedgerError, match="line"):
            ledger.verify()
    finally:
        ledger.path.write_bytes(good)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_lines_removed_repeated_or_moved_are_found(tmp_path: Path, data: st.DataObject) -> None:
    ledger = filled(tmp_path) if not (tmp_path / "ledger.jsonl").exists() else Ledger(tmp_path / "ledger.jsonl")
    good = ledger.path.read_bytes()
    lines = good.splitlines(keepends=True)
    other = data.draw(st.lists(st.sampled_from(lines), max_size=7).filter(lambda drawn: drawn != lines))
    ledger.path.write_bytes(b"".join(other))
    try:
        with pytest.raises(LedgerError, match="line"):
            ledger.verify()
    finally:
        ledger.path.write_bytes(good)


@pytest.mark.parametrize("line", [0, 2, 4])
def test_a_forged_line_with_a_fresh_digest_breaks_the_chain(tmp_path: Path, line: int) -> None:
    ledger = filled(tmp_path)
    forged = ledger.entries()[line].model_copy(update={"product": "other"})
    digest = Entry.model_validate_json(canonical(forged.model_dump())).model_dump(exclude={"digest"})
    forged = forged.model_copy(update={"digest": hashlib.sha256(canonical(digest)).hexdigest()})
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    lines[line] = canonical(forged.model_dump()) + b"\n"
    ledger.path.write_bytes(b"".join(lines))
    with pytest.raises(LedgerError, match=f"line {min(line + 2, 5)}"):
        ledger.verify()


@pytest.mark.parametrize("num_left", [0, 1, 3, 4])
def test_a_tail_cut_off_is_found_and_not_built_upon(tmp_path: Path, num_left: int) -> None:
    ledger = filled(tmp_path)
    lines = ledger.path.read_bytes().splitlines(keepends=True)
    ledger.path.write_bytes(b"".join(lines[:num_left]))
    with pytest.raises(LedgerError, match="cut off"):
        ledger.verify()
    with pytest.raises(LedgerError, match="cut off"):
        ledger.append("note", "p")


@pytest.mark.parametrize("name", ["ledger.jsonl", "ledger.head"])
def test_a_file_removed_is_found(tmp_path: Path, name: str) -> None:
    ledger = filled(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(LedgerError, match=r"ledger\.head"):
        ledger.verify()
    with pytest.raises(LedgerError, match=r"ledger\.head"):
        ledger.append("note", "p")


def test_a_kill_between_line_and_head_is_whole(tmp_path: Path) -> None:
    ledger = filled(tmp_path, 4)
    head = ledger.head_path.read_bytes()
    ledger.append("note", "p")
    ledger.head_path.write_bytes(head)
    assert ledger.verify() == 5
    assert ledger.append("note", "p").seq == 6
    assert ledger.verify() == 6


def test_a_torn_line_is_reported_then_moved_aside_and_recorded(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    with ledger.path.open("ab") as file:
        file.write(b'{"action":"prom')
    assert len(ledger.entries()) == 5
    with pytest.raises(LedgerError, match=r"line 6: .* 15 bytes"):
        ledger.verify()
    assert ledger.append("note", "p").seq == 7
    assert ledger.verify() == 7
    torn = ledger.entries()[5]
    assert torn.action == TORN
    [(name, num_bytes)] = torn.details["files"].items()
    assert (num_bytes, (tmp_path / name).read_bytes()) == (15, b'{"action":"prom')


def test_a_kill_while_the_torn_line_is_moved_is_recorded_later(tmp_path: Path) -> None:
    ledger = filled(tmp_path)
    (tmp_path / "ledger.torn-6-0123456789ab").write_bytes(b"{")
    ledger.append("note", "p")
    assert [entry.action for entry in ledger.entries()[5:]] == [TORN, "note"]


def test_killed_writers_lose_nothing_acknowledged(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for num_lines in (1, 5, 9):
        command = [sys.executable, "-c", APPENDER, str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=REPOSITORY) as writer:
            assert writer.stdout is not None
            seen = [int(writer.stdout.readline()) for _ in range(num_lines)]
            writer.send_signal(signal.SIGKILL)
            seen += [int(line) for line in writer.stdout]
        Ledger(path).append("survived", "oregon", seen=seen[-1])
        entries = Ledger(path).entries()
        assert Ledger(path).verify() == len(entries)
        assert {entry.seq for entry in entries if entry.action == "promote"} >= set(seen)
    assert json.loads(path.read_bytes().splitlines()[0])["seq"] == 1


def test_a_full_disk_never_leaves_the_head_two_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append("a", "p")

    def full(*_args: object, **_options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("infra.ledger.write_atomic", full)
        for _ in range(3):
            with pytest.raises(OSError, match="No space"):
                ledger.append("b", "p")
    ledger.append("c", "p")
    assert [one.action for one in ledger.entries()] == ["a", "b", "c"]
    assert ledger.verify() == 3
