"""What a task's own measure says of a candidate's answers."""

import importlib
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.judging.bootstrap import Errors
from models.judging.record import Metric, Slice


@dataclass(frozen=True)
class Findings:
    """The error of each sample, for paired comparison, and the figures; lower errors are better.

    judged_name: what the mean of `errors` is, e.g. "MAE"; it decides. convention: e.g. "per-sample"
    """

    errors: Errors
    judged_name: str
    convention: str
    unit: str = ""
    metrics: list[Metric] = field(default_factory=list)
    slices: list[Slice] = field(default_factory=list)


Measure = Callable[[NDArray[np.float32], ExampleSamples, Manifest], Findings]


def measure_of(task: str) -> Measure:
    """The measure of a tensor task; raises ModuleNotFoundError where there is no such file."""
    measure: Measure = importlib.import_module(f"models.judging.measures.{task}").measure
    return measure
