"""Pieces, their seals, and the signed statement of a backup: on a real store, damaged by hand."""

from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path

import pytest

from infra import backup_blobs
from infra.backup import Answer, BackupError, BackupPlace, Item, Manifest, new_id
from infra.backup_blobs import Blobs, Cipher, open_cipher
from infra.keys import KeyFileError
from infra.objects import IntegrityError, Store
from infra.settings import Settings
from infra.signing import SigningKey, signing_key
from infra.storage import FolderStore, open_store

START = datetime(2026, 11, 22, 3, tzinfo=UTC)
SECRET = b"a passphrase of some length"


@pytest.fixture
def store(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "backups")


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return signing_key(tmp_path_factory.mktemp("home"))


def manifest(backup_id: str, made: datetime, pieces: tuple[str, ...]) -> Manifest:
    live = Answer(version=1, digest="d", shape=(1,), values=(0.5,), tolerance=0.02)
    return Manifest(
        id=backup_id, made=made.isoformat(), home="/old", profile="embedded", databases={}, lacks=(), num_entries=0,
        files={"data/file": Item(size=1, pieces=pieces)}, objects={}, live={"ring": live}, last_entry="",
    )  # fmt: skip


def take(store: Store, key: SigningKey, made: datetime, *contents: bytes, cipher: Cipher | None = None) -> str:
    blobs = Blobs(store, cipher)
    pieces = tuple(blobs.put(data) for data in contents)
    return BackupPlace(store).write(manifest(new_id(made, ""), made, pieces), blobs, key).id


@pytest.mark.parametrize("secret", [b"", SECRET])
def test_what_was_put_comes_back_and_is_kept_once(store_settings: Settings, secret: bytes) -> None:
    store = open_store(store_settings)
    data = b"speed" * 100_000 + bytes(range(256))
    blobs = Blobs(store, cipher := open_cipher(store, secret) if secret else None)
    pieces = blobs.put_all(BytesIO(data))
    assert blobs.put_all(BytesIO(data)) == pieces
    assert blobs.num_new == 1
    again = Blobs(store, cipher)
    assert again.put_all(BytesIO(data)) == pieces
    assert again.num_new == 0
    assert b"".join(again.get(piece) for piece in pieces) == data


def test_large_files_are_cut(store: FolderStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup_blobs, "PIECE_BYTES", 10)
    blobs = Blobs(store)
    pieces = blobs.put_all(BytesIO(b"0123456789" * 3 + b"end"))
    assert (len(pieces), blobs.num_new) == (4, 2)


def test_a_sealed_store_shows_neither_content_nor_hash_and_opens_with_its_secret_only(store: FolderStore) -> None:
    piece = Blobs(store, open_cipher(store, SECRET)).put(b"the plate of a car")
    kept = [(found.key, store.get_bytes(found.key)) for found in store.list()]
    assert all(piece not in name and b"plate" not in content for name, content in kept)
    assert all(SECRET not in content for _, content in kept)
    with pytest.raises(KeyFileError, match="not the one"):
        open_cipher(store, b"another passphrase, as long")
    with pytest.raises(KeyFileError, match="at least 16"):
        open_cipher(store, b"short")


def test_a_damaged_piece_is_named_and_nothing_of_it_is_believed(store: FolderStore, key: SigningKey) -> None:
    for secret in (b"", SECRET):
        place, cipher = BackupPlace(store), open_cipher(store, secret) if secret else None
        backup_id = take(store, key, START, b"first", b"second " + secret, cipher=cipher)
        blobs, found = Blobs(store, cipher), place.manifest(place.statement(backup_id), cipher)
        assert place.check(found, blobs) == 2
        damaged = blobs.key(found.pieces[0])
        store.put_bytes(damaged, b"\0" + b"x" * 40)  # with its own hash on record: the store itself sees nothing
        with pytest.raises(BackupError, match="1 of 2 pieces damaged"):
            place.check(found, Blobs(store, cipher))
        store.delete(damaged)
        with pytest.raises(BackupError, match="1 of 2 pieces damaged or missing"):
            place.check(found, Blobs(store, cipher))


def test_a_changed_statement_or_manifest_is_refused(store: FolderStore, key: SigningKey) -> None:
    place, backup_id = BackupPlace(store), take(store, key, START, b"first")
    whole = store.get_bytes(f"backups/{backup_id}.json")
    store.put_bytes(f"backups/{backup_id}.json", whole.replace(b'"sig": "ME', b'"sig": "MF'))
    with pytest.raises(BackupError, match=r"signature does not hold|signed statement"):
        place.statement(backup_id)
    store.put_bytes(f"backups/{backup_id}.json", whole)
    other = manifest(backup_id, START, ()).model_dump_json().encode()
    store.put_bytes(f"backups/{backup_id}.manifest", b"\0" + other)
    with pytest.raises(IntegrityError, match="damaged"):
        place.manifest(place.statement(backup_id), None)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "data/../../outside"])
def test_a_manifest_names_no_file_outside_home(name: str) -> None:
    good = manifest("20261122T030000000Z-000000", START, ())
    with pytest.raises(ValueError, match="below HOME"):
        Manifest.model_validate({**good.model_dump(), "files": {name: good.files["data/file"]}})


def test_unknown_backups_are_refused_with_those_there_are(store: FolderStore, key: SigningKey) -> None:
    with pytest.raises(BackupError, match="name another place"):
        BackupPlace(store).newest()
    backup_id = take(store, key, START, b"first")
    with pytest.raises(BackupError, match=backup_id):
        BackupPlace(store).statement("20200101T000000000Z-000000")


@pytest.mark.parametrize("secret", [b"", SECRET])
def test_old_backups_go_and_take_only_their_own_pieces_along(
    store: FolderStore, key: SigningKey, secret: bytes
) -> None:
    days = [START + timedelta(days=day) for day in range(5)]
    cipher = open_cipher(store, secret) if secret else None
    ids = [take(store, key, at, b"always", b"day %d" % at.day, cipher=cipher) for at in days]
    place = BackupPlace(store)
    assert place.thin_out(num_kept=5, days=0, now=days[-1]) == []
    assert place.thin_out(num_kept=1, days=30, now=days[-1]) == []
    assert place.thin_out(num_kept=2, days=1, now=days[-1]) == ids[:3]
    assert [one.id for one in place.statements()] == ids[3:]
    assert len(list(store.list("blobs"))) == 3
    for statement in place.statements():
        assert place.check(place.manifest(statement, cipher), Blobs(store, cipher)) == 2


def test_pieces_without_a_statement_are_no_backup_and_are_used_by_the_next(store: FolderStore, key: SigningKey) -> None:
    killed = Blobs(store)
    killed.put(b"first")
    assert BackupPlace(store).statements() == []
    blobs = Blobs(store)
    blobs.put(b"first")
    assert blobs.num_new == 0
