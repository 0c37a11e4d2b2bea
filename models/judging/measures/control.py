"""Measures how often a signal policy would have chosen another phase than its teacher.

It says how well the teacher was imitated, not how well traffic flows: that is for the closed loop to say.
"""

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.data.examples import ExampleSamples
from models.judging.bootstrap import Errors
from models.judging.findings import Findings
from models.judging.record import Metric, Slice

PER_SAMPLE = "per-sample"


def measure(answers: NDArray[np.float32], samples: ExampleSamples, manifest: Manifest) -> Findings:
    """The error rate decides; beside it the accuracy where the teacher changed the phase, and errors by phase.

    answers: (S, K) logits
    """
    target, known = samples.all_targets()
    actual, chosen = target.astype(np.int64), answers.argmax(axis=1)
    wrong = ((actual != chosen) & (known > 0)).astype(np.float64)
    phases = manifest.output.labels if manifest.output else tuple(map(str, range(answers.shape[1])))
    shown = _shown(samples, phases)
    changed = (shown != actual) & (known > 0)
    figures = {"error_rate": _mean(wrong, known > 0), "error_rate_at_changes": _mean(wrong, changed)}
    figures["changes_share"] = _mean(changed.astype(np.float64), known > 0)
    metrics = [Metric(name=name, value=value, convention=PER_SAMPLE) for name, value in figures.items()]
    slices = [_slice("phase", name, wrong, (actual == i) & (known > 0)) for i, name in enumerate(phases)]
    if "is_busy" in samples.examples.facts:
        busy = samples.fact("is_busy") > 0
        slices += [_slice("demand", "busy", wrong, busy), _slice("demand", "moderate", wrong, ~busy)]
    errors = Errors(wrong, known.astype(np.float64), samples.groups, "blocks")
    return Findings(errors, "error rate", PER_SAMPLE, "", metrics, [one for one in slices if one.num_values])


def _shown(samples: ExampleSamples, phases: tuple[str, ...]) -> NDArray[np.int64]:
    """(S,) the phase shown when it was asked; -1 where the observation does not say."""
    spec = next(spec for spec in samples.examples.specs if spec.name == "observation")
    names = [f"shows_{phase}" for phase in phases]
    if not set(names) <= set(spec.labels):
        return np.full(len(samples), -1)
    columns = [spec.labels.index(name) for name in names]
    return np.asarray(samples.examples.inputs["observation"][samples.rows][:, columns].argmax(axis=1))


def _mean(values: NDArray[np.float64], where: NDArray[np.bool_]) -> float:
    return float(values[where].mean()) if where.any() else 0.0


def _slice(kind: str, name: str, wrong: NDArray[np.float64], where: NDArray[np.bool_]) -> Slice:
    return Slice(kind=kind, name=name, error=_mean(wrong, where), num_values=int(where.sum()))
