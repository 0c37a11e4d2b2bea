"""Runs a parcel under the code of another commit, in a folder of its own.

`git archive` and not `git worktree`: nothing of the checkout is touched, and a killed run leaves only a folder behind.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flows.options import UsageError
from infra.settings import child_environment, settings

TIMEOUT_S = 300
CHANGED = "+changes"
_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from models.artifact.predictor import Predictor
parcel, inputs, target = map(Path, sys.argv[1:])
with np.load(inputs) as given:
    np.save(target, Predictor.open(parcel).predict(dict(given)))
"""


def predict_at(checkout: Path, commit: str, parcel: Path, inputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
    """The graph's output, [B, H, N] or [B, K], computed by the predictor of `commit`. Raises UsageError."""
    if commit.endswith(CHANGED) or commit == "unknown":
        raise UsageError(f"--at-commit: the parcel was made by {commit}: a tree that was never committed; leave it out")
    with tempfile.TemporaryDirectory(prefix="roadworthy-commit-") as name:
        folder = Path(name)
        _unpack(checkout, commit, folder / "tree")
        np.savez(folder / "inputs.npz", **inputs)  # type: ignore[arg-type] # its own keyword is none of ours
        command = [sys.executable, "-c", _SCRIPT, str(parcel), str(folder / "inputs.npz"), str(folder / "outputs.npy")]
        here = child_environment(settings(), PYTHONPATH=str(folder / "tree"))
        done = subprocess.run(command, cwd=folder / "tree", env=here, capture_output=True, text=True, timeout=TIMEOUT_S)
        if done.returncode:
            last_line = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise UsageError(f"--at-commit {commit[:12]}: its predictor does not open this parcel here: {last_line}")
        outputs: NDArray[np.float32] = np.load(folder / "outputs.npy")
        return outputs


def _unpack(checkout: Path, commit: str, folder: Path) -> None:
    done = subprocess.run(["git", "-C", str(checkout), "archive", commit], capture_output=True, timeout=TIMEOUT_S)
    if done.returncode:
        raise UsageError(
            f"--at-commit: expected commit {commit} in {checkout}, git says: {done.stderr.decode().strip()[:200]}; "
            "fetch it first"
        )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
