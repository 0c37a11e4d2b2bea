"""Writes what podman reads: containers.conf and storage.conf of one HOME.

Debian's defaults need systemd and a cgroup delegation that servers in containers, CI machines and plain shells lack.
"""

import hashlib
import json
import os
import resource
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from infra.atomic import write_atomic

LIMIT = 8192


def write_configuration(home: Path, build_volumes: Sequence[str] = ()) -> dict[str, str]:
    """Write both files under HOME/run and return the variables that name them."""
    folder = home / "run" / ("containers-build" if build_volumes else "containers")
    volatile = volatile_folder(home)
    settings, storage = folder / "containers.conf", folder / "storage.conf"
    _write(settings, settings_text(volatile, build_volumes))
    _write(storage, storage_text(home / "containers", volatile / "storage"))
    return {"CONTAINERS_CONF": str(settings), "CONTAINERS_STORAGE_CONF": str(storage)}


def volatile_folder(home: Path) -> Path:
    """Where podman keeps what must not outlive a reboot; short, for it holds sockets."""
    user = Path(f"/run/user/{os.geteuid()}")
    parent = Path("/run") if os.geteuid() == 0 else user if user.is_dir() else Path(tempfile.gettempdir())
    return parent / f"roadworthy-{hashlib.sha256(str(home).encode()).hexdigest()[:12]}"


def settings_text(volatile: Path, build_volumes: Sequence[str]) -> str:
    """containers.conf; the locks are files of our own: podman's default is one table for all podmans of a user."""
    engine = {
        "events_logger": "file",
        "lock_type": "file",
        "tmp_dir": str(volatile / "libpod"),
        **({"cgroup_manager": "cgroupfs", "runtime": "runc"} if os.geteuid() == 0 else {}),
    }
    limits = [_limit("nofile", resource.RLIMIT_NOFILE), _limit("nproc", resource.RLIMIT_NPROC)]
    containers: dict[str, object] = {"default_ulimits": limits, "log_driver": "k8s-file"}
    if build_volumes:
        containers["volumes"] = list(build_volumes)
    sections: dict[str, Mapping[str, object]] = {
        "containers": containers,
        "engine": engine,
        "network": {"network_backend": "netavark"},
    }
    return "\n".join(f"[{name}]\n{_lines(values)}" for name, values in sections.items())


def storage_text(images: Path, volatile: Path) -> str:
    """storage.conf."""
    return f"[storage]\n{_lines({'driver': 'overlay', 'graphroot': str(images), 'runroot': str(volatile)})}"


def _limit(name: str, kind: int) -> str:
    """Half of what the caller may have: podman's own default is more than a caller without privileges can set."""
    hard = resource.getrlimit(kind)[1]
    value = LIMIT if hard == resource.RLIM_INFINITY else min(LIMIT, hard // 2)
    return f"{name}={value}:{value}"


def _lines(values: Mapping[str, object]) -> str:
    """TOML of strings and lists of strings, whose JSON is the same."""
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in values.items())


def _write(path: Path, text: str) -> None:
    """Only when it differs: several processes use one configuration at once, and durable writes are slow."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        write_atomic(path, text.encode())
