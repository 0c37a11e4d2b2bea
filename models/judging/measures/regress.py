"""Measures regression: errors of every known target, and which targets are the hard ones."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.judging.bootstrap import Errors
from models.judging.findings import Findings
from models.judging.metrics import ErrorSums, error_sums
from models.judging.record import Metric, Slice

PER_SAMPLE = "per-sample"
NUM_PARTS = 4


def measure(answers: NDArray[np.float32], samples: ExampleSamples, manifest: Manifest) -> Findings:
    """MAE decides; beside it RMSE, WAPE, R² and the MAE of each quarter of the targets, and of each value of a fact.

    answers: (S, K) in the target's unit
    """
    target, known = samples.all_targets()
    sums = error_sums(answers, target, known, axis=1)  # (S,)
    groups = samples.groups
    unit = manifest.output.unit if manifest.output else ""
    total = sums.over()
    figures = {"mae": (total.mae()[0], unit), "rmse": (total.rmse()[0], unit), "wape": (total.wape()[0], "")}
    figures["r2"] = (_explained(answers, target, known), "")
    metrics = [
        Metric(name=name, value=float(value), convention=PER_SAMPLE, unit=its_unit)
        for name, (value, its_unit) in figures.items()
        if np.isfinite(value)
    ]
    slices = _quarters(sums, target, known)
    for name, values in samples.examples.facts.items():
        slices += _facts(sums, name, values[samples.rows])
    return Findings(Errors(sums.absolute, sums.count, groups, "blocks"), "MAE", PER_SAMPLE, unit, metrics, slices)


def _explained(answers: NDArray[np.float32], target: NDArray[np.float32], known: NDArray[np.float32]) -> float:
    """R²: one less the squared error over that of the mean of these targets; NaN where they never vary."""
    actual, error = target[known > 0].astype(np.float64), (answers - target)[known > 0].astype(np.float64)
    spread = float(np.square(actual - actual.mean()).sum())
    return float(1 - np.square(error).sum() / spread) if spread > 0 else float("nan")


def _quarters(sums: ErrorSums, target: NDArray[np.float32], known: NDArray[np.float32]) -> list[Slice]:
    """By the size of the target: the mean of what is known of a sample."""
    size = (target * known).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
    seen = known.sum(axis=1) > 0
    edges = np.unique(np.quantile(size[seen], np.arange(1, NUM_PARTS) / NUM_PARTS))
    part = np.digitize(size, edges)
    names = [
        f"below {edges[0]:.4g}",
        *(f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)),
    ]
    names.append(f"{edges[-1]:.4g} and more")
    return _slices(sums.grouped(part, len(names)), names, "target")


def _facts(sums: ErrorSums, kind: str, values: NDArray[np.generic]) -> list[Slice]:
    """By each value of a fact that has few of them."""
    names, place = np.unique(values, return_inverse=True)
    return _slices(sums.grouped(place, len(names)), [f"{name:g}" for name in names], kind) if len(names) <= 24 else []


def _slices(sums: ErrorSums, names: list[str], kind: str) -> list[Slice]:
    mae = sums.mae()
    return [
        Slice(kind=kind, name=name, error=float(mae[i]), num_values=int(sums.count[i]))
        for i, name in enumerate(names)
        if sums.count[i] > 0
    ]
