"""What a driver was promised: one JSON line for everything that was acknowledged, outside of what is being broken.

A driver that is killed between being told and writing it down has been told nothing: the check can only miss a loss of
that one thing, never invent one.
"""

import json
import os
import time
from pathlib import Path
from typing import Any


class Journal:
    """Appends lines to one file; each is in the kernel when `add` returns, so a killed driver's lines stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def add(self, kind: str, **facts: Any) -> None:
        """Write one line: its kind, the machine's monotonic time (which no skew touches), its facts."""
        line = json.dumps({"kind": kind, "at": time.monotonic(), **facts}) + "\n"
        os.write(self._descriptor, line.encode())


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Every whole line; none where there is no file."""
    data = path.read_bytes() if path.exists() else b""
    return [json.loads(line) for line in data[: data.rfind(b"\n") + 1].splitlines()]


def acknowledged(path: Path, since: float = 0.0) -> list[dict[str, Any]]:
    """The lines that promise something, from a monotonic moment on; `trouble` and `begun` promise nothing."""
    return [line for line in read_lines(path) if line["at"] >= since and line["kind"] not in ("trouble", "begun")]
