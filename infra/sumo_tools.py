"""Where SUMO's programs lie, how one is run, and one way to simulate part after part.

Every generator (`infra/sumo_<kind>.py`) uses it: SUMO comes with the extra `sim` and is never imported at the top.
"""

from __future__ import annotations

import importlib.util
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TypeVar

Part = TypeVar("Part")
Made = TypeVar("Made")


def program(name: str) -> str:
    """The path of one of SUMO's programs, such as `sumo` or `netconvert`.

    Raises RuntimeError when the extra `sim` is not installed.
    """
    spec = importlib.util.find_spec("sumo")
    if spec is None or spec.origin is None:
        raise RuntimeError("SUMO is not installed: expected the extra `sim`, got none; pip install 'roadworthy[sim]'")
    return str(Path(spec.origin).parent / "bin" / name)


def run(name: str, *options: str) -> None:
    """Run one of SUMO's programs to its end. Raises RuntimeError with the end of its complaint when it fails."""
    done = subprocess.run([program(name), *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name} stopped with {done.returncode}: {done.stderr[-800:]}")


def in_parallel(make: Callable[[Part], Made], parts: list[Part], num_processes: int) -> Iterator[Made]:
    """`make` every part, `num_processes` at a time, in the order in which they finish; the rest is dropped on a stop.

    The threads only wait for the SUMO process that `make` starts.
    """
    pool = ThreadPoolExecutor(num_processes)
    waiting = [pool.submit(make, part) for part in parts]
    try:
        for done in as_completed(waiting):
            yield done.result()
    finally:
        pool.shutdown(cancel_futures=True)
