"""One key pair, made once and private; seals that a rewritten ledger, or a rewritten seal, does not pass."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.crypto import seal_key
from infra.keys import KeyFileError
from infra.ledger import Ledger, LedgerError
from infra.seals import SEALS, seal_ledger, verify_seals
from infra.signing import rotate_signing_key, sign_folder, signing_key, trusted_public_keys, verify


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home with three entries in its ledger."""
    ledger = Ledger(tmp_path / "ledger" / "ledger.jsonl")
    for number in range(3):
        ledger.append("promote", "freeway", version=number)
    return tmp_path


def sealed(home: Path) -> list[str]:
    """The reasons against each ledger of this home."""
    return [check.reason for check in verify_seals(home, trusted_public_keys(home))]


def rewrite(home: Path, num_kept: int) -> None:
    """Log and head made anew from some entry on: the chain holds, only the past is another."""
    path = home / "ledger" / "ledger.jsonl"
    kept = Ledger(path).entries()[:num_kept]
    path.unlink()
    path.with_suffix(".head").unlink()
    for entry in kept:
        Ledger(path, clock=lambda entry=entry: entry.moment).append(entry.action, entry.product, **entry.details)
    for number in range(3 - num_kept):
        Ledger(path).append("promote", "freeway", version=100 + number)
    assert Ledger(path).verify() == 3


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = {key.id for key in pool.map(lambda _: signing_key(tmp_path), range(16))}
    assert len(keys) == 1
    assert (tmp_path / "keys" / "signing.key").stat().st_mode & 0o777 == 0o600
    assert (
        "PRIVATE" not in repr(signing_key(tmp_path)) and b"PUBLIC" in (tmp_path / "keys" / "signing.pub").read_bytes()
    )
    (tmp_path / "keys" / "signing.key").chmod(0o640)
    with pytest.raises(KeyFileError, match="expected mode 600, got 640"):
        signing_key(tmp_path)


def test_a_passphrase_is_needed_and_signs(tmp_path: Path) -> None:
    key = signing_key(tmp_path, b"correct horse")
    assert b"ENCRYPTED" in key.file.read_bytes() and "correct" not in repr(key)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x")
    assert sign_folder(tmp_path / "folder", tmp_path / "folder.sig", key).exists()
    for wrong in (None, b"battery staple"):
        with pytest.raises(KeyFileError, match="expected a key as PEM that the passphrase opens"):
            signing_key(tmp_path, wrong)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "folder.sig", "keys"]


def test_a_signature_is_of_its_type_and_bytes(tmp_path: Path) -> None:
    key, other = signing_key(tmp_path / "a"), signing_key(tmp_path / "b")
    signature = key.sign("text/plain", b"hello")
    assert verify(key.public, "text/plain", b"hello", signature)
    assert not verify(key.public, "text/html", b"hello", signature)
    assert not verify(key.public, "text/plain", b"hello!", signature)
    assert not verify(other.public, "text/plain", b"hello", signature)
    assert not verify(key.public, "text/plain", b"hello", b"no DER")


def test_an_old_key_stays_trusted(home: Path) -> None:
    old = signing_key(home)
    seal_ledger(home, home / "ledger" / "ledger.jsonl", old)
    new = rotate_signing_key(home)
    assert new.id != old.id
    assert set(trusted_public_keys(home)) == {old.public, new.public}
    assert sealed(home) == [""]


def test_a_ledger_is_sealed_where_it_stands_and_only_once(home: Path) -> None:
    key, path = signing_key(home), home / "ledger" / "ledger.jsonl"
    first = seal_ledger(home, path, key)
    assert first and (first.ledger, first.seq) == ("ledger/ledger.jsonl", 3)
    assert seal_ledger(home, path, key) is None, "nothing new"
    Ledger(path).append("rollback", "freeway")
    second = seal_ledger(home, path, key)
    assert second and second.seq == 4
    (check,) = verify_seals(home, [key.public])
    assert (check.num_entries, check.num_seals, check.sealed_until, check.reason) == (4, 2, 4, "")


def test_log_and_head_rewritten_together_are_found(home: Path) -> None:
    key, path = signing_key(home), home / "ledger" / "ledger.jsonl"
    seal_ledger(home, path, key)
    rewrite(home, num_kept=1)
    assert "ledger/ledger.jsonl: line 3: expected entry" in sealed(home)[0] and "rewritten" in sealed(home)[0]
    with pytest.raises(LedgerError, match="the ledger was rewritten"):
        seal_ledger(home, path, key)
    for file in (path, path.with_suffix(".head")):
        file.unlink()
    assert "got nothing" in sealed(home)[0]


def test_seals_that_were_changed_are_refused(home: Path) -> None:
    key, path, seals = signing_key(home), home / "ledger" / "ledger.jsonl", home / SEALS
    for _ in range(2):
        seal_ledger(home, path, key)
        Ledger(path).append("rollback", "freeway")
    sound = seals.read_bytes()
    record = json.loads(sound.splitlines()[1])
    compact = {"sort_keys": True, "separators": (",", ":")}
    for changed, message in (
        (sound[:-30], "expected a seal"),
        (sound.replace(b'"seq":3', b'"seq":2'), "the signature does not hold"),
        (b"\n".join(sound.splitlines()[1:]) + b"\n", "expected a seal after 000000000000"),
        (sound.replace(b'"seq":4', b'"seq": 4'), "canonical spelling"),
        (
            sound.splitlines()[0] + b"\n" + json.dumps({**record, "signature": "xyz"}, **compact).encode(),
            "expected a seal",
        ),
    ):
        seals.write_bytes(changed)
        with pytest.raises(LedgerError, match=message):
            sealed(home)
    seals.write_bytes(sound)
    with pytest.raises(LedgerError, match="is not among the 0 trusted"):
        verify_seals(home, [])
    assert sealed(home) == [""]


def test_seal_key_from_a_file_or_a_command(tmp_path: Path) -> None:
    file = tmp_path / "seal.key"
    file.write_text("ab" * 32 + "\n")
    file.chmod(0o440)
    assert seal_key(None, "") is None
    assert seal_key(file, "") == seal_key(None, f"cat {file}") == bytes([0xAB] * 32)
    with pytest.raises(KeyFileError, match="got both"):
        seal_key(file, "cat")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("no-such-program --x", "no-such-program could not be run: FileNotFoundError"),
        ("sh -c 'echo denied >&2; exit 3'", "sh ended with status 3: denied"),
        ("echo not a key", "the output of echo: expected a key of 32 bytes in hex"),
    ],
)
def test_a_command_that_gives_no_key_is_refused(command: str, message: str) -> None:
    with pytest.raises(KeyFileError, match=message) as caught:
        seal_key(None, command)
    assert "not a key" not in str(caught.value), "what was printed may be most of a key"


def test_a_key_file_that_others_may_read_or_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="expected a file at"):
        seal_key(tmp_path / "none", "")
    (tmp_path / "open.key").write_text("ab" * 32)
    (tmp_path / "open.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="others may not read, got mode 644"):
        seal_key(tmp_path / "open.key", "")
