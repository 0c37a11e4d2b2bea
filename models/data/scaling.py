"""Z-score per channel, from observed train values only, so no later day leaks into it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation in physical units: of each channel of a series, or of each entry of a target.

    inputs: of a tensor task, the scaler of each input of floats, by name
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    inputs: Mapping[str, "Scaler"] = field(default_factory=dict)


def fit_scaler(train: NDArray[np.float32]) -> Scaler:
    """Fit on train values (S, N, C), NaN = missing. A channel that never varies, or is never seen, gets std 1."""
    means, stds = [], []
    for channel in range(train.shape[-1]):
        values = train[..., channel]
        observed = values[~np.isnan(values)].astype(np.float64)
        means.append(float(observed.mean()) if observed.size else 0.0)
        std = float(observed.std()) if observed.size else 0.0
        stds.append(std if std > 1e-6 else 1.0)
    return Scaler(tuple(means), tuple(stds))


def fit_tensor_scaler(inputs: Mapping[str, NDArray[Any]], target: NDArray[np.float32]) -> Scaler:
    """Fit on train samples (S, *shape), NaN = missing: one mean and deviation per entry of the last axis."""
    own = fit_scaler(_by_entry(target))
    return Scaler(own.mean, own.std, {name: fit_scaler(_by_entry(array)) for name, array in inputs.items()})


def _by_entry(array: NDArray[Any]) -> NDArray[np.float32]:
    width = array.shape[-1] if array.ndim > 1 else 1
    return array.astype(np.float32).reshape(-1, 1, width)
