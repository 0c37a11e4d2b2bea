"""Measures on validation, through the very graph that is served, what a parcel must know.

Thresholds of alarms, quantiles around a forecast: they depend on how large a model's own errors are, so they are
measured for each candidate, the quantised ones too. `calibrations/<task>.py` says how, where a task has any.
"""

import importlib
from importlib.util import find_spec
from typing import Any

import numpy as np

from models.artifact.manifest import Manifest
from models.data.batches import batches
from models.data.snapshot import Snapshot

BATCH_SIZE = 256


def calibrated(manifest: Manifest, session: Any, snapshot: Snapshot) -> Manifest:
    """The manifest with what the task's calibration found; as it is where the task has none."""
    name = f"models.artifact.calibrations.{manifest.task}"
    if find_spec(name) is None:
        return manifest
    samples = snapshot.samples("val")
    names = [item.name for item in session.get_inputs()]
    answers = [
        session.run(None, {name: batch.inputs[name] for name in names})[0] for batch in batches(samples, BATCH_SIZE)
    ]
    found: Manifest = importlib.import_module(name).calibrate(manifest, np.concatenate(answers), samples, snapshot)
    return found
