"""Keys are made once, kept private, and never shown."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from infra.keys import KeyFileError, key_from_file, masking_key
from infra.settings import Settings


def test_made_once_and_private(tmp_path: Path) -> None:
    config = Settings(home=tmp_path, masking_key=None)
    first = masking_key(config)
    path = tmp_path / "keys" / "masking.key"
    assert len(first) == 32
    assert first == masking_key(config)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["masking.key"]


def test_many_at_once_get_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        keys = set(pool.map(lambda _: key_from_file(tmp_path / "new.key"), range(64)))
    assert len(keys) == 1


def test_the_setting_wins(tmp_path: Path) -> None:
    assert masking_key(Settings(home=tmp_path, masking_key="a long enough secret")) == b"a long enough secret"
    assert not (tmp_path / "keys").exists()


def test_a_short_setting_is_refused_without_being_shown(tmp_path: Path) -> None:
    with pytest.raises(KeyFileError, match="at least 16 bytes, got 5") as caught:
        masking_key(Settings(home=tmp_path, masking_key="hunch"))
    assert "hunch" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "not hex", "ab" * 31, "\xff"])
def test_a_damaged_key_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "some.key"
    path.write_bytes(content.encode("latin-1"))
    path.chmod(0o600)
    with pytest.raises(KeyFileError, match="32 bytes in hex") as caught:
        key_from_file(path)
    assert caught.value.__cause__ is None


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    key_from_file(tmp_path / "some.key")
    (tmp_path / "some.key").chmod(0o644)
    with pytest.raises(KeyFileError, match="expected mode 600, got 644"):
        key_from_file(tmp_path / "some.key")
