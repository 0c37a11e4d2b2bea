"""Measures positioning: how far off a car is put, while fixes come in and in outages."""

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.judging.bootstrap import Errors
from models.judging.findings import Findings
from models.judging.record import Metric, Slice

PER_SAMPLE = "per-sample"
OUTAGE_EDGES_S = (6.0, 12.0, 20.0)
Mask = NDArray[np.bool_]


def measure(answers: NDArray[np.float32], samples: ExampleSamples, manifest: Manifest) -> Findings:
    """The mean distance decides, paired by drive; beside it RMSE and 95th percentile, over all, seen and in outages.

    answers: (S, 2) in metres. The RMSE is that of the distance: the root of the mean of x² + y².
    """
    target, known = samples.all_targets()
    where: Mask = np.asarray(known.all(axis=1))
    unit = manifest.output.unit if manifest.output else "m"
    distance = np.asarray(np.linalg.norm(answers.astype(np.float64) - target, axis=1) * where)
    metrics = _figures(distance[where], "", unit)
    slices: list[Slice] = []
    if "outage_s" in samples.examples.facts:
        outage_s = samples.fact("outage_s")
        for name, part in (("_outage", outage_s > 0), ("_seen", outage_s == 0)):
            metrics += _figures(distance[where & part], name, unit)
        slices += _outages(distance, where, outage_s)
    if "town" in samples.examples.facts:
        town = samples.fact("town")
        slices += [_slice("town", str(number), distance, where & (town == number)) for number in np.unique(town)]
    errors = Errors(distance, where.astype(np.float64), samples.groups, "blocks")
    return Findings(errors, "mean distance", PER_SAMPLE, unit, metrics, [one for one in slices if one.num_values])


def _figures(distance: NDArray[np.float64], suffix: str, unit: str) -> list[Metric]:
    if not len(distance):
        return []
    figures = {
        "rmse": float(np.sqrt(np.square(distance).mean())),
        "mean_distance": float(distance.mean()),
        "p95": float(np.quantile(distance, 0.95)),
    }
    return [
        Metric(name=f"{name}{suffix}", value=value, convention=PER_SAMPLE, unit=unit) for name, value in figures.items()
    ]


def _outages(distance: NDArray[np.float64], where: Mask, outage_s: NDArray[np.float32]) -> list[Slice]:
    """By the seconds since the last fix."""
    part = np.digitize(outage_s, OUTAGE_EDGES_S, right=True)
    names = ["up to 6 s", "6 to 12 s", "12 to 20 s", "over 20 s"]
    slices = [_slice("outage", "none", distance, where & (outage_s == 0))]
    return slices + [
        _slice("outage", name, distance, where & (outage_s > 0) & (part == number)) for number, name in enumerate(names)
    ]


def _slice(kind: str, name: str, distance: NDArray[np.float64], where: Mask) -> Slice:
    error = float(distance[where].mean()) if where.any() else 0.0
    return Slice(kind=kind, name=name, error=error, num_values=int(where.sum()))
