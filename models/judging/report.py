"""A report on an exported parcel, judged through the predictor that will serve it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.predictor import Predictor
from models.data.batches import Batch, Samples
from models.data.examples import ExampleSamples
from models.data.windows import Windows
from models.judging.bootstrap import Errors, interval, time_blocks
from models.judging.findings import measure_of
from models.judging.measure import Cost
from models.judging.metrics import (
    AT_HORIZON,
    PER_IMAGE,
    POOLED,
    ErrorSums,
    accuracy,
    confusion_matrix,
    error_sums,
    f1_by_class,
)
from models.judging.record import CandidateReport, Judged, Metric, Slice, StepMetrics

__all__ = ["CandidateReport", "Judged", "Metric", "Slice", "StepMetrics", "answered", "judge"]

BATCH_SIZE = 256


def judge(
    predictor: Predictor,
    samples: Samples,
    cost: Cost,
    *,
    split: str,
    data_digest: str,
    confidence: float = 0.95,
    num_resamples: int = 500,
    node_class: Mapping[str, str] | None = None,
) -> Judged:
    """Judge an opened parcel on every sample of `split` of the snapshot `data_digest`.

    node_class: node -> class, for the slices of a forecast's report. The per-sample errors come beside the report.
    """
    manifest = predictor.manifest
    if isinstance(samples, ExampleSamples):
        errors, findings = _examples(predictor, samples)
    elif manifest.task == "classify":
        errors, findings = _images(predictor, samples)
    elif isinstance(samples, Windows):
        errors, findings = _windows(predictor, samples, node_class or {})
    else:
        raise TypeError(f"a forecast is judged on windows, got {type(samples).__name__}")
    facts = {
        "name": manifest.variant,
        "task": manifest.task,
        "split": split,
        "parcel_digest": manifest.digest(),
        "trained_on": manifest.data_digest,
        "judged_on": data_digest,
        "num_samples": len(errors.sums),
        "judged": interval(errors, confidence, num_resamples),
        "cost": cost,
        "golden_difference": predictor.golden_difference,
        "golden_tolerance": predictor.golden_tolerance,
        "protocol": manifest.protocol,
    }
    return Judged(CandidateReport.model_validate({**facts, **findings}), errors)


def answered(predictor: Predictor, samples: Samples) -> Iterator[tuple[Batch, NDArray[np.float32]]]:
    """Every batch of the samples, in order, with what the parcel answers."""
    for start in range(0, len(samples), BATCH_SIZE):
        batch = samples.take(np.arange(start, min(start + BATCH_SIZE, len(samples))))
        yield batch, predictor.predict(batch.inputs)


def _windows(predictor: Predictor, windows: Windows, node_class: Mapping[str, str]) -> tuple[Errors, dict[str, Any]]:
    """Errors at the judged step, and what the report says of a forecast."""
    manifest = predictor.manifest
    judged = slice(manifest.judged_step - 1, manifest.judged_step)
    by_step, by_node, residuals = [], [], []
    for batch, forecast in answered(predictor, windows):
        by_step.append(error_sums(forecast, batch.target, batch.target_mask, axis=2))  # [B, H]
        at_judged = forecast[:, judged], batch.target[:, judged], batch.target_mask[:, judged]
        by_node.append(error_sums(*at_judged, axis=1))  # [B, N]
        residuals.append((at_judged[0] - at_judged[1])[at_judged[2] > 0])
    steps, nodes = ErrorSums.joined(by_step), ErrorSums.joined(by_node).over(0)  # [W, H], [N]
    per_window = steps.at((slice(None), manifest.judged_step - 1))  # [W]
    judged_min = manifest.judged_step * manifest.cadence_min
    time = windows.times(np.arange(len(windows))) + np.timedelta64(round(60 * judged_min), "s")
    low, high = np.quantile(np.concatenate(residuals), [0.05, 0.95])
    unit = manifest.units[0]
    findings = {
        "judged_name": "MAE",
        "convention": AT_HORIZON,
        "unit": unit,
        "judged_step": manifest.judged_step,
        "judged_min": judged_min,
        "metrics": _metrics(per_window.over(), AT_HORIZON, unit) + _metrics(steps.over(), POOLED, unit),
        "per_horizon": _per_horizon(steps.over(0), manifest.cadence_min),
        "slices": _hours(per_window, time) + _node_classes(nodes, manifest.nodes, node_class),
        "residual_low": float(low),
        "residual_high": float(high),
    }
    blocks = time_blocks(time, manifest.horizon_steps)
    return Errors(per_window.absolute, per_window.count, blocks, "blocks"), findings


def _images(predictor: Predictor, samples: Samples) -> tuple[Errors, dict[str, Any]]:
    """Wrong or right for each labelled image, and what the report says of a classifier."""
    classes = predictor.manifest.classes
    labels, named = [], []
    for batch, logits in answered(predictor, samples):
        is_labelled = batch.target_mask > 0
        labels.append(batch.target[is_labelled])
        named.append(logits.argmax(axis=1)[is_labelled])
    actual, predicted = np.concatenate(labels).astype(np.int64), np.concatenate(named)
    confusion = confusion_matrix(actual, predicted, len(classes))
    f1 = f1_by_class(confusion)
    per_class = confusion.sum(axis=1)
    figures = {"accuracy": accuracy(confusion), "error_rate": 1 - accuracy(confusion), "f1_macro": float(f1.mean())}
    slices = [
        Slice(kind="class", name=name, error=1 - confusion[k, k] / per_class[k], num_values=per_class[k], f1=f1[k])
        for k, name in enumerate(classes)
        if per_class[k]
    ]
    findings = {
        "judged_name": "error rate",
        "convention": PER_IMAGE,
        "metrics": [Metric(name=name, value=value, convention=PER_IMAGE) for name, value in figures.items()],
        "slices": slices,
        "classes": classes,
        "confusion": confusion.tolist(),
    }
    wrong = (actual != predicted).astype(np.float64)
    return Errors(wrong, np.ones_like(wrong), actual, "strata"), findings


def _examples(predictor: Predictor, samples: ExampleSamples) -> tuple[Errors, dict[str, Any]]:
    """What the task's own measure finds in the answers to every sample."""
    answers = np.concatenate([answer for _, answer in answered(predictor, samples)])
    found = measure_of(predictor.manifest.task)(answers, samples, predictor.manifest)
    findings = {
        "judged_name": found.judged_name,
        "convention": found.convention,
        "unit": found.unit,
        "metrics": found.metrics,
        "slices": found.slices,
    }
    return found.errors, findings


def _metrics(sums: ErrorSums, convention: str, unit: str) -> list[Metric]:
    figures = {"mae": (sums.mae(), unit), "rmse": (sums.rmse(), unit), "wape": (sums.wape(), "")}
    return [
        Metric(name=name, value=float(value[0]), convention=convention, unit=its_unit)
        for name, (value, its_unit) in figures.items()
        if np.isfinite(value[0])
    ]


def _per_horizon(steps: ErrorSums, cadence_min: float) -> list[StepMetrics]:
    """One entry for each step at which anything was observed."""
    mae, rmse, wape = steps.mae(), steps.rmse(), np.nan_to_num(steps.wape())
    return [
        StepMetrics(step=h + 1, minutes=(h + 1) * cadence_min, mae=mae[h], rmse=rmse[h], wape=wape[h])
        for h in range(len(mae))
        if steps.count[h] > 0
    ]


def _hours(per_window: ErrorSums, time: NDArray[np.datetime64]) -> list[Slice]:
    """By the hour of the day of the target."""
    hours = time.astype("datetime64[h]").astype(np.int64) % 24
    sums = per_window.grouped(hours, 24)
    return _slices(sums, [f"{hour:02d}:00" for hour in range(24)], "hour")


def _node_classes(nodes: ErrorSums, names: tuple[str, ...], node_class: Mapping[str, str]) -> list[Slice]:
    """By the class of the node; nodes without one are "other", and without any class there is no such slice."""
    if not node_class:
        return []
    classes = sorted({node_class.get(name, "other") for name in names})
    groups = np.array([classes.index(node_class.get(name, "other")) for name in names], np.int64)
    return _slices(nodes.grouped(groups, len(classes)), classes, "node_class")


def _slices(sums: ErrorSums, names: list[str], kind: str) -> list[Slice]:
    mae = sums.mae()
    return [
        Slice.model_validate({"kind": kind, "name": name, "error": mae[i], "num_values": int(sums.count[i])})
        for i, name in enumerate(names)
        if sums.count[i] > 0
    ]
