"""A report on an exported parcel, judged through the predictor that will serve it."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.predictor import Predictor
from models.data.batches import Batch, Samples
from models.data.examples import ExampleSamples
from models.data.windows import Windows
from models.judging.bootstrap import Errors, interval
from models.judging.findings import measure_of
from models.judging.forecast import judge_windows
from models.judging.measure import Cost
from models.judging.metrics import PER_IMAGE, accuracy, confusion_matrix, f1_by_class
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
        errors, findings = judge_windows(manifest, samples, answered(predictor, samples), node_class or {})
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
