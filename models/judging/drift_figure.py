"""Draws a monitoring: how far every place is from what is usual, and the last hours' errors."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.judging.drift import Check, DriftReport
from models.judging.drift_seasonal import WINDOW_HOURS
from models.judging.drift_verdict import Live, Reference
from models.judging.figures import ACTUAL, BASELINE, CHOSEN, GRID, OTHER

_DPI = 90


def drift_figure(
    target: Path, report: DriftReport, reference: Reference | None = None, live: Live | None = None
) -> Path:
    """One panel for each check, its largest scores beside the threshold; and, where known, live beside usual hours."""
    followed = [] if reference is None or live is None else [("inputs", reference.inputs, live.inputs)]
    if reference is not None and live is not None and live.error is not None:
        followed.append(("error", reference.error, live.error))
    num_panels = len(report.checks) + len(followed)
    figure = Figure(figsize=(8.2, 2.3 * max(num_panels, 1) + 0.5), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(max(num_panels, 1), 1, squeeze=False)[:, 0])
    for panel in panels:
        panel.grid(color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    for panel, check in zip(panels, report.checks, strict=False):
        _bars(panel, check)
    for panel, (name, seasonal, hours) in zip(panels[len(report.checks) :], followed, strict=True):
        _hours(panel, name, seasonal, hours, report)
    figure.suptitle(report.status, x=0.01, ha="left")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Software": None})
    return target


def _bars(panel: Any, check: Check) -> None:
    shown = check.shifts[:8][::-1]
    names = [" ".join(part for part in (one.what, one.channel, one.place) if part) for one in shown]
    colours = [CHOSEN if abs(one.score) > check.threshold else OTHER for one in shown]
    panel.barh(range(len(shown)), [abs(one.score) for one in shown], color=colours, height=0.6)
    panel.set_yticks(range(len(shown)), names)
    if np.isfinite(check.threshold):
        panel.axvline(check.threshold, color=ACTUAL, linewidth=1.2, linestyle="--")
    panel.set_title(f"{check.name}: score; dashed: the threshold", loc="left", fontsize=9)


def _hours(panel: Any, name: str, seasonal: Any, hours: Any, report: DriftReport) -> None:
    """The feature that is farthest off, hour by hour, beside its usual mean."""
    check = next((one for one in report.checks if one.name == name), None)
    worst = check.shifts[0] if check and check.shifts else None
    columns = [i for i, one in enumerate(hours.features)
               if worst and (one.what, one.place, one.channel) == (worst.what, worst.place, worst.channel)]  # fmt: skip
    column = columns[0] if columns else 0
    window = hours.between(hours.first + len(hours) - 2 * WINDOW_HOURS, hours.first + len(hours))
    usual, _ = seasonal.usual(window.hour)
    time = window.hour.astype("datetime64[h]")
    panel.plot(time, usual[:, column], color=BASELINE, linewidth=1.6, label="usual")
    panel.plot(time, window.values[:, column], color=CHOSEN, linewidth=1.4, marker="o", markersize=2.5, label="live")
    feature = hours.features[column]
    title = " ".join(part for part in (feature.what, feature.channel, feature.place) if part)
    panel.set_title(f"{title}, by hour", loc="left", fontsize=9)
    panel.legend(fontsize=8, frameon=False, ncols=2, loc="upper right", bbox_to_anchor=(1, 1.22))
