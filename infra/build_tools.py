"""Hands the installer into the build of an image: uv, its settings, certificates, cache.

BentoML's build fetches uv with pip, which Debian's Python refuses, and its uv would know neither this machine's package
index nor its certificates. A mount leaves nothing in the image.
"""

import shutil
import ssl
import subprocess
from pathlib import Path

from infra.atomic import write_atomic

CERTIFICATES = "ca-certificates.crt"
# Where the build's own user, root inside its container, keeps and looks for these; nothing of this machine.
UV_BINARY, UV_SETTINGS, UV_CACHE, CERTIFICATE_FOLDER = "/usr/local/sbin", "/etc/uv", "/root/.cache/uv", "/etc/ssl/certs"
INDEX_NAMES = (":env:.index-url", "global.index-url", "user.index-url")


def build_volumes(cache: Path) -> list[str]:
    """`source:target:option` of each folder to mount; the sources lie under `cache`. Raises FileNotFoundError."""
    tools, settings, certificates = cache / "bin", cache / "settings", cache / "certificates"
    for folder in (tools, settings, certificates, cache / "wheels"):
        folder.mkdir(parents=True, exist_ok=True)
    _copied(_uv(), tools / "uv")
    write_atomic(settings / "uv.toml", _settings(_index()).encode())
    if bundle := ssl.get_default_verify_paths().cafile:
        _copied(Path(bundle), certificates / CERTIFICATES)
    volumes = [f"{tools}:{UV_BINARY}:ro", f"{settings}:{UV_SETTINGS}:ro", f"{cache / 'wheels'}:{UV_CACHE}:rw"]
    return [*volumes, f"{certificates}:{CERTIFICATE_FOLDER}:ro"] if bundle else volumes


def _uv() -> Path:
    from uv import find_uv_bin

    return Path(find_uv_bin())


def _settings(index: str) -> str:
    lines = ['python-downloads = "never"', 'link-mode = "copy"', "native-tls = true"]
    if index:
        lines.append(f'index-url = "{index}"')
    return "\n".join(lines) + "\n"


def _index() -> str:
    """The package index that pip uses on this machine, "" for PyPI or where there is no pip."""
    pip = shutil.which("pip3") or shutil.which("pip")
    for name in INDEX_NAMES if pip else ():
        done = subprocess.run([str(pip), "config", "get", name], capture_output=True, text=True, timeout=60)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return ""


def _copied(source: Path, target: Path) -> None:
    if not target.exists() or target.stat().st_size != source.stat().st_size:
        shutil.copy(source, target)
