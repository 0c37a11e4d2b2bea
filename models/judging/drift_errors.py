"""The error of single answers whose truth came later.

One number each, made the same way for the reference and for live answers.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Manifest
from models.data.card import TENSOR_KINDS


def sample_errors(
    manifest: Manifest, outputs: Mapping[str, NDArray[Any]], target: NDArray[Any], mask: NDArray[Any]
) -> NDArray[np.float64]:
    """(B,) mean absolute error, 1 or 0 for a wrong or right class, distance from the truth for yes and no.

    NaN where the truth is unknown. outputs: as they are served, probabilities where there are any; target, mask:
    (B, ...) of a `Batch`
    """
    answer = next(iter(outputs.values())).astype(np.float64)
    if is_choice(manifest):
        known = mask.reshape(len(mask), -1)[:, 0] > 0
        wrong = (answer.argmax(axis=1) != target.reshape(len(target), -1)[:, 0]).astype(np.float64)
        return np.asarray(np.where(known, wrong, np.nan))
    known = mask.reshape(len(mask), -1) > 0
    missed = np.abs(answer.reshape(len(answer), -1) - target.reshape(len(target), -1))
    total = np.where(known, missed, 0.0).sum(axis=1)
    num = known.sum(axis=1)
    return np.asarray(np.where(num > 0, total / np.maximum(num, 1), np.nan))


def told_error(
    manifest: Manifest, outputs: Mapping[str, NDArray[Any]], row: int, told: Sequence[tuple[str, str]]
) -> float:
    """The error of one row of a captured answer whose truths were told as (place, truth); NaN for none that fits."""
    answer = next(iter(outputs.values()))
    if not 0 <= row < len(answer):
        return float("nan")
    one = answer[row].astype(np.float64).ravel()
    if is_choice(manifest):
        classes = manifest.classes or (manifest.output.labels if manifest.output else ())
        chosen = classes[int(one.argmax())] if classes else str(int(one.argmax()))
        return float(told[0][1] not in (chosen, str(int(one.argmax()))))
    labels = manifest.output.labels if manifest.output else ()
    missed = [abs(one[place] - float(truth)) for name, truth in told
              if (place := _place(name, labels, len(one))) is not None and _is_number(truth)]  # fmt: skip
    return float(np.mean(missed)) if missed else float("nan")


def is_choice(manifest: Manifest) -> bool:
    """Whether the answer is one of K."""
    return manifest.task == "classify" or TENSOR_KINDS.get(manifest.task) == "choice"


def _place(name: str, labels: Sequence[str], size: int) -> int | None:
    """Entry of an answer by its label, its number, or none at all where there is one entry."""
    if name in labels and len(labels) == size:
        return list(labels).index(name)
    if name.isdigit() and int(name) < size:
        return int(name)
    return 0 if not name and size == 1 else None


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).replace("-", "", 1).replace("e", "", 1).replace("+", "", 1).isdigit()
