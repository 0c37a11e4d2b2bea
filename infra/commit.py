"""Which code made it: the git commit of the checkout, and whether it was changed."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def code_commit(folder: Path) -> str:
    """The commit of `folder`, 40 hex digits, with `+changes` where files differ; `unknown` outside a checkout."""
    try:
        head = _git(folder, "rev-parse", "HEAD")
        changed = _git(folder, "status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}+changes" if changed else head


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=20).stdout.strip()
