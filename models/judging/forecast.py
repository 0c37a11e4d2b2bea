"""What a report says of a forecast, and what its band is worth.

Errors by step, hour, class of node and level of service. A band is worth what it holds: the share of the actual values
between its outer quantiles, and how wide it is for that; the pinball loss (Koenker and Bassett, Econometrica 46, 1978)
weighs both.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact.intervals import LEVELS, level_of_service, quantiles
from models.artifact.manifest import Manifest
from models.data.batches import Batch
from models.data.windows import Windows
from models.judging.bootstrap import Errors, time_blocks
from models.judging.metrics import AT_HORIZON, POOLED, BandSums, ErrorSums, band_sums, error_sums
from models.judging.record import Band, Metric, Slice, StepMetrics

POOLED_PROTOCOLS = frozenset({"tgcn"})
STEP, LEVEL = "step", "level_of_service"

Answered = Iterable[tuple[Batch, NDArray[np.float32]]]


def judge_windows(
    manifest: Manifest, windows: Windows, answered: Answered, node_class: Mapping[str, str]
) -> tuple[Errors, dict[str, Any]]:
    """The error of each window that decides, and what the report says.

    It is the error at the judged step; under the protocol `tgcn` that of all steps up to it, pooled.
    """
    is_pooled = manifest.protocol in POOLED_PROTOCOLS
    judged = slice(0 if is_pooled else manifest.judged_step - 1, manifest.judged_step)
    by_step, by_node, by_level, residuals = [], [], [], []
    bands: dict[str, list[BandSums]] = {STEP: [], LEVEL: []}
    for batch, forecast in answered:
        by_step.append(error_sums(forecast, batch.target, batch.target_mask, axis=2))  # [B, H]
        at_judged = forecast[:, judged], batch.target[:, judged], batch.target_mask[:, judged]  # [B, J, N] each
        by_node.append(error_sums(*at_judged, axis=1))  # [B, N]
        residuals.append((at_judged[0] - at_judged[1])[at_judged[2] > 0])
        by_level += _level_errors(manifest, *at_judged)  # [levels]
        for kind, sums in _band(manifest, forecast, batch, judged).items():
            bands[kind].append(sums)
    steps, nodes = ErrorSums.joined(by_step), ErrorSums.joined(by_node).over(0)  # [W, H], [N]
    per_window = steps.at((slice(None), judged)).over(1)  # [W]
    judged_min = manifest.judged_step * manifest.cadence_min
    time = windows.times(np.arange(len(windows))) + np.timedelta64(round(60 * judged_min), "s")
    low, high = np.quantile(np.concatenate(residuals), [0.05, 0.95])
    unit, convention = manifest.units[0], POOLED if is_pooled else AT_HORIZON
    metrics = {POOLED: _metrics(steps.over(), POOLED, unit), convention: _metrics(per_window.over(), convention, unit)}
    found = {kind: BandSums.total(sums) for kind, sums in bands.items() if sums}
    slices = _hours(per_window, time) + _node_classes(nodes, manifest.nodes, node_class)
    findings = {
        "judged_name": "MAE",
        "convention": convention,
        "unit": unit,
        "judged_step": manifest.judged_step,
        "judged_min": judged_min,
        "metrics": metrics[convention] + (metrics[POOLED] if not is_pooled else []) + _band_metrics(manifest, found),
        "per_horizon": _per_horizon(steps.over(0), manifest.cadence_min),
        "bands": _bands(manifest, found),
        "slices": slices + (_slices(_added(by_level), list(LEVELS), LEVEL) if by_level else []),
        "residual_low": float(low),
        "residual_high": float(high),
    }
    blocks = time_blocks(time, manifest.horizon_steps)
    return Errors(per_window.absolute, per_window.count, blocks, "blocks"), findings


def _added(parts: list[ErrorSums]) -> ErrorSums:
    """Cells of the same groups, added up."""
    return ErrorSums.joined([part.at(None) for part in parts]).over(0)


def _level_errors(
    manifest: Manifest, forecast: NDArray[Any], actual: NDArray[Any], mask: NDArray[Any]
) -> list[ErrorSums]:
    """Error sums by the level of service that came true: [levels]; none where the target is no speed."""
    if manifest.levels is None:
        return []
    level = level_of_service(manifest, actual).astype(np.int64).ravel()
    each = error_sums(forecast.reshape(-1, 1), actual.reshape(-1, 1), mask.reshape(-1, 1), axis=1)  # a cell a value
    return [each.grouped(level, len(LEVELS))]


def _band(manifest: Manifest, forecast: NDArray[np.float32], batch: Batch, judged: slice) -> dict[str, BandSums]:
    """What the band held: by step [H], and at the judged steps by the level of service that was forecast."""
    if manifest.intervals is None:
        return {}
    ahead, shares = np.moveaxis(quantiles(manifest, forecast), 1, -1), manifest.intervals.quantiles  # [B, H, N, Q]
    seen = batch.target_mask > 0
    step = np.broadcast_to(np.arange(seen.shape[1])[:, None], seen.shape)[seen]
    found = {STEP: band_sums(ahead[seen], shares, batch.target[seen], step, seen.shape[1])}
    if manifest.levels is not None:
        seen_there, there = seen[:, judged], ahead[:, judged]
        level = level_of_service(manifest, forecast[:, judged]).astype(np.int64)[seen_there]
        found[LEVEL] = band_sums(there[seen_there], shares, batch.target[:, judged][seen_there], level, len(LEVELS))
    return found


def _bands(manifest: Manifest, found: Mapping[str, BandSums]) -> list[Band]:
    """One entry for each step, and for each level of service, at which anything was observed."""
    if manifest.intervals is None:
        return []
    shares, cells = manifest.intervals.quantiles, []
    for kind, sums in found.items():
        names = (
            LEVELS
            if kind == LEVEL
            else tuple(f"{(h + 1) * manifest.cadence_min:g} min" for h in range(len(sums.count)))
        )
        columns = zip(names, *sums.means(), sums.count, strict=True)
        cells += [(kind, shares[-1] - shares[0], *column) for column in columns if column[-1] > 0]
    names = ("kind", "promised", "name", "coverage", "width", "pinball", "num_values")
    return [Band.model_validate(dict(zip(names, cell, strict=True))) for cell in cells]


def _band_metrics(manifest: Manifest, found: Mapping[str, BandSums]) -> list[Metric]:
    """The band over all steps of the horizon, pooled."""
    if manifest.intervals is None or STEP not in found:
        return []
    total, unit = found[STEP].over(), manifest.units[0]
    promised = round(100 * (manifest.intervals.quantiles[-1] - manifest.intervals.quantiles[0]))
    named = zip((f"coverage_{promised}", f"width_{promised}", "pinball"), total.means(), ("", unit, unit), strict=True)
    return [Metric(name=name, value=float(value[0]), convention=POOLED, unit=its) for name, value, its in named]


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
