"""Finds or makes the image that ours stand on: Python 3.11, and nothing to build with.

The ordinary one comes from a registry. Where none can be reached, root on Debian makes one out of Debian's packages;
it keeps what runs Python, and its archive is byte for byte the same for the same packages.
"""

import hashlib
import io
import shutil
import tarfile
import time
from collections.abc import Callable
from fnmatch import fnmatch
from pathlib import Path

from filelock import FileLock

from infra.containers import Engine, EngineError, finish

DEFAULT = "docker.io/library/python:3.11-slim"
LOCAL = "localhost/roadworthy-python"
SUITE = "bookworm"  # its Python is 3.11
PACKAGES = ("ca-certificates", "libstdc++6", "passwd", "python3", "usr-is-merged")
INSTALL = "apt-get install mmdebstrap"
# perl and debconf serve to install packages, gconv to convert character sets in C, the rest to read and to learn.
DROPPED = (
    "usr/share/doc/*", "usr/share/man/*", "usr/share/info/*", "usr/share/locale/*", "usr/share/lintian/*",
    "usr/share/perl*", "usr/bin/perl*", "usr/lib/*/perl*", "usr/lib/*/libperl*", "usr/lib/*/gconv/*",
    "usr/share/zoneinfo/right/*", "usr/lib/python3.11/test/*", "usr/lib/python3.11/pydoc_data/*",
    "var/cache/*", "var/lib/apt/*", "var/log/*",
)  # fmt: skip
# The packages of which only the record would be left.
GONE = ("perl*", "lib*perl*", "usrmerge")
Say = Callable[[str], None]


def base_image(engine: Engine, wanted: str, cache: Path, say: Say) -> str:
    """The name of an image that is here: `wanted`, or where that is DEFAULT and out of reach, one made of packages.

    Raises EngineError that says what is missing.
    """
    if engine.exists(wanted):
        return wanted
    try:
        engine.ask("pull", "--quiet", wanted, timeout_s=300)
    except EngineError as error:
        if wanted != DEFAULT or engine.name == "docker":
            raise EngineError(
                f"base image {wanted}: expected to find it here or in its registry, got {error}"
            ) from error
        return _made_of_packages(engine, cache, say)
    return wanted


def debian_packages(engine: Engine, image: str) -> dict[str, str]:
    """Names and versions of the Debian packages in an image."""
    listing = ["dpkg-query", "--show", "--showformat=${Package} ${Version}\\n"]
    printed = engine.ask("run", "--rm", "--network=none", "--entrypoint", listing[0], image, *listing[1:])
    return dict(line.split(" ", 1) for line in printed.splitlines() if " " in line)


def _made_of_packages(engine: Engine, cache: Path, say: Say) -> str:
    """The image of the archive that these constants describe; both are made once."""
    recipe = hashlib.sha256(repr((SUITE, PACKAGES, DROPPED, GONE)).encode()).hexdigest()[:8]
    archive, image = cache / f"{SUITE}-python3.11-{recipe}.tar", f"{LOCAL}:3.11-{SUITE}-{recipe}"
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(archive.with_suffix(".lock")):
        if not archive.exists():
            say("no registry in reach: making the base image of Debian's packages (about a minute, once)")
            _bootstrap(archive)
        if not engine.exists(image):
            changes = ["ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "CMD /usr/bin/python3"]
            engine.ask("import", "--quiet", *(f"--change={line}" for line in changes), str(archive), image)
    return image


def _bootstrap(archive: Path) -> None:
    """Install Debian's packages into an archive and thin it out; raises EngineError."""
    tool = shutil.which("mmdebstrap")
    if tool is None:
        raise EngineError(f"base image: expected a registry in reach, or mmdebstrap, got neither; on Debian: {INSTALL}")
    raw, whole = archive.with_suffix(".raw"), archive.with_suffix(".part")
    began = time.time()
    try:
        command = [tool, "--quiet", "--variant=essential", f"--include={','.join(PACKAGES)}", "--format=tar", SUITE]
        finish([*command, str(raw)], timeout_s=900)
        thin_out(raw, whole, began)
        whole.replace(archive)
    finally:
        raw.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)


def thin_out(raw: Path, target: Path, began: float) -> None:
    """Copy an archive without DROPPED; what the installation wrote after `began` gets the time of the newest package.

    A later time than a package's own would make Python's bytecode stale, and the current one differ in every archive.
    """
    with tarfile.open(raw) as source, tarfile.open(target, "w", format=tarfile.PAX_FORMAT) as result:
        kept = [one for one in source.getmembers() if not any(fnmatch(one.name[2:], drop) for drop in DROPPED)]
        newest = int(max(one.mtime for one in kept if one.mtime < int(began)))  # archives have whole seconds
        for member in kept:
            member.mtime = min(int(member.mtime), newest)
            member.pax_headers = {}
            data = source.extractfile(member) if member.isreg() else None
            if data and (rewrite := REWRITTEN.get(member.name)):
                text = rewrite(data.read())
                data, member.size = io.BytesIO(text), len(text)
            result.addfile(member, data)


def _undated(shadow: bytes) -> bytes:
    """/etc/shadow without the day of the last change of each password (there are none)."""
    rows = [line.split(b":") for line in shadow.splitlines()]
    return b"".join(b":".join([*row[:2], b"", *row[3:]]) + b"\n" for row in rows)


def _without_gone(status: bytes) -> bytes:
    """dpkg's list of what is installed, which scanners read, without GONE."""
    stanzas = status.decode().split("\n\n")
    names = [stanza.partition("\n")[0].removeprefix("Package: ") for stanza in stanzas]
    pairs = zip(names, stanzas, strict=True)
    return "\n\n".join(text for name, text in pairs if not any(fnmatch(name, gone) for gone in GONE)).encode()


REWRITTEN = {"./etc/shadow": _undated, "./etc/shadow-": _undated, "./var/lib/dpkg/status": _without_gone}
