"""Z-score per channel, from observed train values only, so no later day leaks into it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Scaler:
    """Mean and standard deviation of each channel, in physical units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


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
