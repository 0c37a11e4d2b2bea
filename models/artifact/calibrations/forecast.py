"""Measures the band around a forecast, and from which speed on a road is dense or jammed.

Bands are split-conformal (Vovk, Gammerman, Shafer: Algorithmic Learning in a Random World, 2005; Lei et al., JASA
113, 2018): order statistics of actual - forecast on the validation split, for each horizon step and, as a jam is far
harder to forecast than free flow, each range of the forecast itself (Mondrian categories; Vovk 2012). Neighbouring
windows are alike, and later days may differ from the validation days, so the promised share is not exact: the report
says which share the test split found.

Levels of service: the Highway Capacity Manual (6th edition, 2016) calls a speed of 25 % below free flow a breakdown,
and on urban streets puts level D below half of the free-flow speed. Free flow is each sensor's 85th percentile of the
train split. For counts, flows and occupancies there is no such level.
"""

import numpy as np
from numpy.typing import NDArray

from models.artifact.manifest import Intervals, Levels, Manifest
from models.data.batches import Samples, batches
from models.data.snapshot import Snapshot

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEVEL_SHARES = (0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97)  # of the forecasts, where one range ends
MIN_VALUES = 200  # in each range; with fewer in all, one range holds them
SPEED_UNITS = ("km/h", "mph", "m/s")
FREE_FLOW_SHARE = 0.85
DENSE_SHARE, JAMMED_SHARE = 0.75, 0.5

Values = NDArray[np.float32]


def calibrate(manifest: Manifest, answers: Values, samples: Samples, snapshot: Snapshot) -> Manifest:
    """The manifest with intervals and, for speeds, levels; answers: [S, H, N] on the validation split."""
    taken = list(batches(samples, 1024))
    target = np.concatenate([batch.target for batch in taken])  # [S, H, N]
    is_seen = np.concatenate([batch.target_mask for batch in taken]) > 0
    found = {"intervals": intervals(answers, target, is_seen), "levels": levels(snapshot)}
    return manifest.model_copy(update=found)


def intervals(answers: Values, target: Values, is_seen: NDArray[np.bool_]) -> Intervals | None:
    """Offsets by step and range of the forecast; None where a step has too few values for its outer quantiles."""
    edges, offsets = [], []
    for step in range(answers.shape[1]):
        forecast = answers[:, step][is_seen[:, step]]
        residuals = target[:, step][is_seen[:, step]] - forecast
        if len(residuals) < 1 / QUANTILES[0]:
            return None
        borders = _edges(forecast)
        place = np.searchsorted(borders, forecast, side="right")
        by_range = (np.sort(residuals[place == number]) for number in range(len(borders) + 1))
        edges.append(tuple(map(float, borders)))
        offsets.append(tuple(_offsets(ordered) for ordered in by_range))
    return Intervals(quantiles=QUANTILES, edges=tuple(edges), offsets=tuple(offsets))


def levels(snapshot: Snapshot) -> Levels | None:
    """Limits of each node by its own free-flow speed; None where the target is no speed."""
    series = snapshot.series
    if series.units[0] not in SPEED_UNITS:
        return None
    train = series.values[slice(*snapshot.manifest.splits["train"]), :, 0].astype(np.float64)  # [S, N]
    everywhere = np.nanquantile(train, FREE_FLOW_SHARE)
    free_flow = [
        float(np.quantile(speeds, FREE_FLOW_SHARE)) if (speeds := column[~np.isnan(column)]).size else everywhere
        for column in train.T
    ]
    dense, jammed = (tuple(round(share * speed, 2) for speed in free_flow) for share in (DENSE_SHARE, JAMMED_SHARE))
    return Levels(dense_below=dense, jammed_below=jammed)


def _edges(forecast: Values) -> Values:
    """Rising borders with at least `MIN_VALUES` forecasts between two of them."""
    ordered = np.sort(forecast)
    kept: list[np.float32] = []
    last = 0
    for share in LEVEL_SHARES:
        border = ordered[min(round(share * len(ordered)), len(ordered) - 1)]
        below = int(np.searchsorted(ordered, border))
        if below - last >= MIN_VALUES and len(ordered) - below >= MIN_VALUES:
            kept.append(border)
            last = below
    return np.array(kept, np.float32)


def _offsets(ordered: Values) -> tuple[float, ...]:
    """Order statistics with the correction for a finite sample: outward by one of n + 1."""
    count = len(ordered)
    ranks = [
        np.ceil((count + 1) * share) if share > 0.5 else np.floor((count + 1) * share) if share < 0.5 else count / 2
        for share in QUANTILES
    ]
    return tuple(round(float(ordered[int(min(max(rank, 1), count)) - 1]), 4) for rank in ranks)
