"""Sealed weights open with their key, in their own parcel, unchanged; otherwise they are refused in clear words."""

from pathlib import Path

import pytest

from models.artifact.manifest import MODEL_FILE, ParcelError, read_verified
from models.artifact.predictor import Predictor
from models.artifact.sealed import SEALED_FILE, is_sealed, read_parcel, seal, seal_key_id

KEY = bytes(range(32))


@pytest.fixture
def plain(pack_toy) -> Path:
    return pack_toy()[0]


@pytest.fixture
def sealed(plain: Path, tmp_path: Path) -> Path:
    seal(plain, tmp_path / "sealed", KEY)
    return tmp_path / "sealed"


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_opens_with_its_key_to_the_same_parcel(plain: Path, sealed: Path) -> None:
    assert is_sealed(sealed) and not is_sealed(plain)
    assert read_parcel(sealed, KEY) == read_verified(plain)
    assert read_parcel(sealed, KEY, contents_of(sealed)) == read_verified(plain)
    assert read_parcel(sealed, KEY)[0].digest() == Predictor.open(plain).manifest.digest()


def test_a_plain_parcel_needs_no_key_and_looks_at_none(plain: Path) -> None:
    assert read_parcel(plain) == read_parcel(plain, b"whatever") == read_verified(plain)
    assert read_parcel(plain, None, contents_of(plain)) == read_verified(plain)


def test_plaintext_is_nowhere_in_the_folder(plain: Path, sealed: Path) -> None:
    assert sorted(path.name for path in sealed.iterdir()) == ["card.md", "golden.json", "manifest.json", SEALED_FILE]
    model = (plain / MODEL_FILE).read_bytes()
    assert not any(model[start : start + 16] in (sealed / SEALED_FILE).read_bytes() for start in range(len(model) - 16))
    assert KEY not in (sealed / SEALED_FILE).read_bytes()
    read_parcel(sealed, KEY)
    assert not (sealed / MODEL_FILE).exists()


def test_two_sealings_differ(plain: Path, sealed: Path, tmp_path: Path) -> None:
    seal(plain, tmp_path / "again", KEY)
    assert (tmp_path / "again" / SEALED_FILE).read_bytes() != (sealed / SEALED_FILE).read_bytes()


def test_no_key_a_wrong_key_and_no_key_at_all_are_told_apart(sealed: Path) -> None:
    with pytest.raises(ParcelError, match=rf"sealed with key {seal_key_id(KEY)[:12]}, and no key was given: set ROADW"):
        read_parcel(sealed)
    with pytest.raises(
        ParcelError, match=rf"sealed with key {seal_key_id(KEY)[:12]}, got key {seal_key_id(bytes(32))[:12]}"
    ):
        read_parcel(sealed, bytes(32))
    with pytest.raises(ParcelError, match="expected a seal key of 32 bytes, got 5"):
        read_parcel(sealed, b"short")


def test_any_changed_byte_is_refused(sealed: Path) -> None:
    sound = (sealed / SEALED_FILE).read_bytes()
    for position in (*range(0, 60), len(sound) // 2, len(sound) - 1):
        changed = bytearray(sound)
        changed[position] ^= 1
        (sealed / SEALED_FILE).write_bytes(changed)
        with pytest.raises(ParcelError, match=r"was changed, or is of another parcel|expected sealed weights|got key"):
            read_parcel(sealed, KEY)
    for cut in (0, 20, 51, len(sound) - 1):
        (sealed / SEALED_FILE).write_bytes(sound[:cut])
        with pytest.raises(ParcelError):
            read_parcel(sealed, KEY)


def test_weights_of_another_parcel_are_refused(pack_toy, sealed: Path, tmp_path: Path) -> None:
    seal(pack_toy("other", bias=1.0)[0], tmp_path / "other sealed", KEY)
    (sealed / SEALED_FILE).write_bytes((tmp_path / "other sealed" / SEALED_FILE).read_bytes())
    with pytest.raises(ParcelError, match="was changed, or is of another parcel"):
        read_parcel(sealed, KEY)


def test_what_is_not_sealed_is_still_verified(sealed: Path, plain: Path) -> None:
    (sealed / "card.md").write_text("another")
    with pytest.raises(ParcelError, match=r"card\.md was changed"):
        read_parcel(sealed, KEY)
    (sealed / MODEL_FILE).write_bytes((plain / MODEL_FILE).read_bytes())
    with pytest.raises(ParcelError, match=r"model\.onnx not in the manifest"):
        read_parcel(sealed, KEY)
    with pytest.raises(ParcelError, match=r"expected model\.onnx sealed or plain, got both"):
        read_parcel(sealed, KEY, contents_of(sealed))


def test_a_parcel_that_does_not_hold_is_not_sealed(plain: Path, tmp_path: Path) -> None:
    (plain / "card.md").write_text("another")
    with pytest.raises(ParcelError, match=r"card\.md was changed"):
        seal(plain, tmp_path / "target", KEY)
    assert not (tmp_path / "target").exists()
