"""Tasks whose requests have no place in time: distributions against the training reference.

The effect is the Kolmogorov-Smirnov distance, between 0 and 1, of each feature of inputs and answers. Samples of one
drive, day or simulated run come together, so the reference's own variation is that of whole groups drawn from it, as
many samples as were captured, against the rest of it. These draws are the block maxima of the threshold.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.data.card import TensorSpec
from models.judging.drift import Check, Shift, checked, return_level

NUM_DRAWS, MAX_SAMPLES, MAX_FEATURES = 60, 1000, 64
MIN_SAMPLES = 30
MIN_DISTANCE, MIN_RATIO = 0.15, 1.1
_SEED = 20260101

Array = NDArray[np.float64]


def features_of(
    arrays: Mapping[str, NDArray[Any]], specs: Sequence[TensorSpec] = ()
) -> tuple[tuple[tuple[str, str], ...], Array]:
    """(tensor, entry) names and values (B, F): single entries of small tensors, mean and spread of large ones."""
    labels = {one.name: one.labels for one in specs}
    names: list[tuple[str, str]] = []
    columns: list[Array] = []
    for name, array in sorted(arrays.items()):
        flat = array.reshape(len(array), -1).astype(np.float64)
        if flat.shape[1] <= MAX_FEATURES:
            known = labels.get(name, ())
            fits = array.ndim == 2 and len(known) == flat.shape[1]
            names += [(name, known[i] if fits else str(i) if flat.shape[1] > 1 else "") for i in range(flat.shape[1])]
            columns += list(flat.T)
            continue
        names += [(name, "mean"), (name, "spread"), (name, "missing")]
        seen = np.isfinite(flat)
        num = np.maximum(seen.sum(axis=1), 1)
        mean = np.where(seen, flat, 0).sum(axis=1) / num
        spread = np.sqrt(np.where(seen, (flat - mean[:, None]) ** 2, 0).sum(axis=1) / num)
        columns += [mean, spread, 1 - seen.mean(axis=1)]
    return tuple(names), np.stack(columns, axis=1)


def distance(a: Array, b: Array) -> float:
    """Kolmogorov-Smirnov distance of two samples, NaN left out; 0 where one is empty."""
    a, b = np.sort(a[np.isfinite(a)]), np.sort(b[np.isfinite(b)])
    if not len(a) or not len(b):
        return 0.0
    both = np.concatenate([a, b])
    shares = [np.searchsorted(one, both, side="right") / len(one) for one in (a, b)]
    return float(np.abs(shares[0] - shares[1]).max())


def check_samples(
    name: Literal["inputs", "forecasts"], names: Sequence[tuple[str, str]], reference: Array,
    groups: NDArray[np.int64], live: Array, alarms_per_year: float,
) -> Check | None:  # fmt: skip
    """Every feature of `live` (n, F) against `reference` (R, F); None where fewer than `MIN_SAMPLES` were captured."""
    if len(live) < MIN_SAMPLES:
        return None
    live = live[-MAX_SAMPLES:]
    usual = np.array([
        [distance(reference[rows, i], reference[~rows, i]) for i in range(reference.shape[1])]
        for rows in _draws(groups, len(live))
    ])  # fmt: skip
    found = np.array([distance(reference[:, i], live[:, i]) for i in range(live.shape[1])])
    scale = np.maximum(usual.mean(axis=0), 0.02)
    threshold = return_level((usual / scale).max(axis=1), alarms_per_year)
    shifts = [
        Shift(
            what="distribution", place=entry, channel=tensor, effect=float(found[i]), score=float(found[i] / scale[i])
        )
        for i, (tensor, entry) in enumerate(names)
    ]
    return checked(name, shifts, threshold, MIN_DISTANCE)


def check_errors(
    reference: Array, groups: NDArray[np.int64], live: Array, alarms_per_year: float
) -> tuple[Check, dict[str, float]] | None:
    """Mean of live errors (n,) against that of held-out ones (R,); None where fewer than `MIN_SAMPLES` are known."""
    if len(live) < MIN_SAMPLES:
        return None
    live = live[-MAX_SAMPLES:]
    means = np.array([reference[rows].mean() for rows in _draws(groups, len(live))])
    usual, sd = float(reference.mean()), max(float(means.std()), 1e-9)
    threshold = return_level((means - usual) / sd, alarms_per_year)
    mean = float(live.mean())
    shift = Shift(what="error", place="", channel="", effect=mean / max(usual, 1e-9), score=(mean - usual) / sd)
    figures = {"error_live": mean, "error_usual": usual, "error_ratio": shift.effect}
    return checked("error", [shift], threshold, MIN_RATIO), figures


def _draws(groups: NDArray[np.int64], num_samples: int) -> list[NDArray[np.bool_]]:
    """Rows (R,) of whole groups drawn at random, about `num_samples`, at most half of all."""
    random = np.random.default_rng(_SEED)
    names, counts = np.unique(groups, return_counts=True)
    wanted = min(num_samples, len(groups) // 2)
    draws = []
    for _ in range(NUM_DRAWS):
        order = random.permutation(len(names))
        taken = order[: int(np.searchsorted(np.cumsum(counts[order]), wanted)) + 1]
        draws.append(np.isin(groups, names[taken]))
    return [one for one in draws if 0 < one.sum() < len(groups)]
