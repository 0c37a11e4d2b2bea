"""Flows small enough for a test of the worker: one that ends or is killed, one that an automation starts."""

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


@flow(name="retrain")
def retrain(note: str, product: str, reason: str = "") -> None:
    """Write what it was asked for."""
    Path(note).write_text(f"{product}: {reason}")
