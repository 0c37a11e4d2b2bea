"""Two flows small enough for a test of the worker: one that ends, one that is killed."""

import os
import time
from pathlib import Path

from prefect import flow


@flow(name="fixture")
def fixture(note: str, seconds: float = 0.0) -> str:
    """Write this process's id to the file `note`, and stay for `seconds`."""
    Path(note).write_text(str(os.getpid()))
    time.sleep(seconds)
    return note
