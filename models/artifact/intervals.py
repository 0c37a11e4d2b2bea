"""What a forecast says beside its numbers: calibrated quantiles, and the level of service.

Computed from the answer and the manifest alone, so nobody who does not ask for it pays for it, and every protocol, the
report and a later check give the same. Quantiles are split-conformal (Vovk et al., Algorithmic Learning in a Random
World, 2005) by horizon step and by how high the forecast is: offsets measured on the validation split are added to it.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.artifact.checks import InputError
from models.artifact.manifest import Manifest
from models.artifact.tensors import Spec

QUANTILES, LEVEL = "quantiles", "level_of_service"
LEVELS = ("free", "dense", "jammed")  # by their number in `level_of_service`

Beside = dict[str, NDArray[np.float32] | NDArray[np.int64]]


def quantiles(manifest: Manifest, forecast: NDArray[np.float32]) -> NDArray[np.float32]:
    """Quantiles [B, Q, H, N] of forecasts [B, H, N], ascending, in the forecast's units and the channel's range."""
    intervals = manifest.intervals
    assert intervals is not None
    by_step = []
    for step, (edges, offsets) in enumerate(zip(intervals.edges, intervals.offsets, strict=True)):
        at_step = forecast[:, step]  # [B, N]
        bins = np.searchsorted(np.array(edges, np.float32), at_step, side="right")
        by_step.append(at_step[..., None] + np.array(offsets, np.float32)[bins])  # [B, N, Q]
    low, high = manifest.bounds
    found = np.clip(np.stack(by_step, axis=1), low[0], high[0])  # [B, H, N, Q]
    return np.ascontiguousarray(np.moveaxis(found, -1, 1))


def level_of_service(manifest: Manifest, forecast: NDArray[np.float32]) -> NDArray[np.int8]:
    """0 free, 1 dense, 2 jammed, [B, H, N], by the thresholds of each node."""
    levels = manifest.levels
    assert levels is not None
    limits = (np.array(limit, np.float32) for limit in (levels.dense_below, levels.jammed_below))  # (N,) each
    level: NDArray[np.int8] = sum((forecast < limit).astype(np.int8) for limit in limits)  # type: ignore[assignment]
    return level


def specs(manifest: Manifest) -> tuple[Spec, ...]:
    """What can be had beside the forecast, for who asks."""
    found: list[Spec] = []
    shape: tuple[int, ...]
    if manifest.intervals is not None:
        shape = (-1, len(manifest.intervals.quantiles), manifest.horizon_steps, len(manifest.nodes))
        shares = ", ".join(f"{share:g}" for share in manifest.intervals.quantiles)
        found.append(Spec(QUANTILES, "FP32", shape, f"quantiles {shares}; only where it is asked for"))
    if manifest.levels is not None:
        shape = (-1, manifest.horizon_steps, len(manifest.nodes))
        named = ", ".join(f"{number} {name}" for number, name in enumerate(LEVELS))
        found.append(Spec(LEVEL, "INT64", shape, f"{named}; only where it is asked for"))
    return tuple(found)


def check_wishes(manifest: Manifest, wishes: Sequence[str], where: str) -> None:
    """Refuse what this model cannot say; raises InputError."""
    known = [spec.name for spec in specs(manifest)]
    for wish in wishes:
        if wish not in known:
            none = f"nothing: this {manifest.task} model was given neither intervals nor levels"
            expected = f"one of {', '.join(known)}" if known else none
            raise InputError("not in this model's answer", where, expected, repr(wish[:60]))


def beside(manifest: Manifest, forecast: NDArray[np.float32], wishes: Sequence[str]) -> Beside:
    """The tensors that were wished for and checked, in that order."""
    found: Beside = {}
    for wish in wishes:
        if wish == QUANTILES:
            found[wish] = quantiles(manifest, forecast)
        else:
            found[wish] = level_of_service(manifest, forecast).astype(np.int64)
    return found
