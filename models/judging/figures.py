"""Draws the pictures that people look at before they let a model go on the road.

They are PNG, made without any global plotting state.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import dates, ticker
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from models.judging.record import CandidateReport, ahead_text
from models.judging.select import bytes_text

BASELINE, OTHER, CHOSEN, ACTUAL, GRID = "#9aa5b1", "#3b7dd8", "#e4572e", "#1f2933", "#e4e7eb"
PALETTE = ("#3b7dd8", "#17a398", "#8e6bbf", "#d9a404", "#5c7c3a", "#c2577f", "#4a5a8a", "#a0643c")
BASELINES = frozenset({"last_value", "profile", "linear", "logistic", "boosted_trees"})
_DPI = 110


def forecast_figure(
    target: Path,
    time: NDArray[np.datetime64],
    actual: NDArray[np.float32],
    forecast: NDArray[np.float32],
    nodes: Sequence[str],
    report: CandidateReport,
    band: NDArray[np.float32] | None = None,
) -> Path:
    """Forecast against actual over one day, one panel for each node, with its 90 % band.

    time: (S,) of the target; actual, forecast: (S, n) at the judged step, NaN where missing
    band: (2, S, n) calibrated outer quantiles; None: the band that holds 90 % of the errors seen
    """
    seen = np.stack([forecast - report.residual_high, forecast - report.residual_low])
    low, high = seen if band is None else band
    figure, panels = _panels(len(nodes), height=1.9)
    for index, (panel, node) in enumerate(zip(panels, nodes, strict=True)):
        ahead = forecast[:, index]
        panel.fill_between(time, low[:, index], high[:, index], color=CHOSEN, alpha=0.16, linewidth=0)
        panel.plot(time, actual[:, index], color=ACTUAL, linewidth=1.1, label="actual")
        panel.plot(time, ahead, color=CHOSEN, linewidth=1.3, label=f"{report.name}, {report.judged_min:g} min ahead")
        panel.set_title(node, loc="left", fontsize=9)
        panel.set_ylabel(report.unit)
    _clock_axis(panels[-1])
    panels[0].legend(loc="upper right", ncols=2, fontsize=8, frameon=False, bbox_to_anchor=(1, 1.28))
    kind = "90 % of errors" if band is None else "90 %, calibrated on validation"
    day = np.datetime64(time[len(time) // 2], "D")
    figure.suptitle(f"Forecast against actual, {day}, protocol {report.protocol}; band: {kind}", x=0.01, ha="left")
    return _saved(figure, target)


def horizon_figure(target: Path, reports: Sequence[CandidateReport], chosen: str) -> Path:
    """Error by step of the horizon, a line for each candidate; the judged step is marked."""
    figure, (panel,) = _panels(1, height=4.2)
    colours = _colours([report.name for report in reports], chosen)
    for report in sorted(reports, key=lambda report: report.name == chosen):
        minutes = [step.minutes for step in report.per_horizon]
        errors = [step.mae for step in report.per_horizon]
        width = 2.6 if report.name == chosen else 1.3
        style = "--" if report.name in BASELINES else "-"
        panel.plot(minutes, errors, style, marker="o", markersize=3.5, color=colours[report.name], linewidth=width)
    panel.axvline(reports[0].judged_min, color=BASELINE, linewidth=1, linestyle=":")
    steps = [step.minutes for step in reports[0].per_horizon]
    panel.set_xticks(steps[:: max(len(steps) // 12, 1)])
    panel.set_xlabel("minutes ahead (dotted: the step that decides)")
    panel.set_ylabel(f"MAE, {reports[0].unit}")
    panel.set_ylim(bottom=0)
    _legend(panel, reports, colours, chosen)
    figure.suptitle("Error by horizon", x=0.01, ha="left")
    return _saved(figure, target)


def hour_figure(target: Path, reports: Sequence[CandidateReport], chosen: str) -> Path:
    """The judged error by the hour of the day of the target."""
    figure, (panel,) = _panels(1, height=4.2)
    colours = _colours([report.name for report in reports], chosen)
    for report in sorted(reports, key=lambda report: report.name == chosen):
        hours = [item for item in report.slices if item.kind == "hour"]
        width = 2.6 if report.name == chosen else 1.2
        style = "--" if report.name in BASELINES else "-"
        errors = [item.error for item in hours]
        panel.plot([int(item.name[:2]) for item in hours], errors, style, color=colours[report.name], linewidth=width)
    panel.set_xticks(range(0, 24, 3), [f"{hour:02d}:00" for hour in range(0, 24, 3)])
    panel.set_xlim(0, 23)
    panel.set_ylim(bottom=0)
    panel.set_xlabel("hour of the day")
    panel.set_ylabel(f"MAE {ahead_text(reports[0])}, {reports[0].unit}")
    _legend(panel, reports, colours, chosen)
    figure.suptitle("Error by hour of the day", x=0.01, ha="left")
    return _saved(figure, target)


def confusion_figure(target: Path, report: CandidateReport) -> Path:
    """Counts of actual against named classes; the shade is the share of the actual class."""
    counts = np.array(report.confusion)
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = min(max(4.5, 0.5 * len(counts) + 1.6), 12)
    figure = _figure(side + 0.6, side)
    panel = figure.add_subplot()
    panel.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if len(counts) <= 30:
        for (row, column), count in np.ndenumerate(counts):
            colour = "white" if share[row, column] > 0.5 else ACTUAL
            weight = "bold" if row != column and count else "normal"
            if count:
                panel.text(
                    column, row, str(count), ha="center", va="center", color=colour, fontsize=8, fontweight=weight
                )
    panel.set_xticks(range(len(counts)), report.classes, rotation=0 if max(map(len, report.classes)) < 4 else 60)
    panel.set_yticks(range(len(counts)), report.classes)
    panel.set_xlabel("named by the model")
    panel.set_ylabel("actual class")
    panel.tick_params(length=0)
    panel.spines[:].set_visible(False)
    right = f"{report.value('accuracy'):.2%} of {report.num_samples} images right"
    figure.suptitle(f"{report.name}: {right}", x=0.01, ha="left")
    return _saved(figure, target)


def tradeoff_figure(target: Path, reports: Sequence[CandidateReport], chosen: str) -> Path:
    """Size against error, the bubble's area is the p99 latency; the chosen candidate is marked."""
    figure, (panel,) = _panels(1, height=4.8)
    slowest_ms = max(report.cost.latency_p99_ms for report in reports)
    area_of = {report.name: 40 + 760 * report.cost.latency_p99_ms / slowest_ms for report in reports}
    is_rate = reports[0].judged_name == "error rate"
    errors = {report.name: 100 * report.judged.value if is_rate else report.judged.value for report in reports}
    for report in reports:
        cost, is_chosen = report.cost, report.name == chosen
        colour = CHOSEN if is_chosen else BASELINE if report.name in BASELINES else OTHER
        panel.scatter(
            cost.num_bytes, errors[report.name], s=area_of[report.name], color=colour, alpha=0.55, linewidth=0
        )
        panel.scatter(cost.num_bytes, errors[report.name], s=10, color=ACTUAL, linewidth=0)
    panel.set_xscale("log")
    panel.margins(x=0.2, y=0.16)
    panel.minorticks_off()
    _label_points(panel, reports, errors, area_of, chosen)
    panel.xaxis.set_major_formatter(lambda value, _: bytes_text(round(value)))
    panel.set_xlabel("size of model.onnx; area of a bubble: p99 latency of one request")
    unit = "%" if is_rate else reports[0].unit
    ahead = f" {ahead_text(reports[0])}" if reports[0].judged_min else ""
    panel.set_ylabel(f"{reports[0].judged_name}{ahead}, {unit}")
    figure.suptitle(f"Size, error and latency; orange: {chosen}", x=0.01, ha="left")
    return _saved(figure, target)


def learning_figure(target: Path, histories: Mapping[str, Sequence[Any]]) -> Path:
    """Validation and train loss by epoch; `histories` holds the `Epoch` records of each training run by name."""
    figure, (panel,) = _panels(1, height=4.2)
    shown = {name: epochs for name, epochs in histories.items() if len(epochs) > 1}
    for index, (name, epochs) in enumerate(shown.items()):
        colour = PALETTE[index % len(PALETTE)]
        numbers = [epoch.number for epoch in epochs]
        panel.plot(numbers, [epoch.val_loss for epoch in epochs], color=colour, linewidth=1.8, label=name)
        panel.plot(numbers, [epoch.train_loss for epoch in epochs], color=colour, linewidth=0.9, linestyle=":")
        best = min(epochs, key=lambda epoch: epoch.val_loss)
        panel.plot(best.number, best.val_loss, "o", color=colour, markersize=5)
    panel.xaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    panel.set_xlabel("epoch")
    panel.set_ylabel("loss (line: validation, dotted: train)")
    if shown:
        panel.legend(fontsize=8, frameon=False)
    figure.suptitle("Learning curves; the dot is the checkpoint that was kept", x=0.01, ha="left")
    return _saved(figure, target)


def _figure(width: float, height: float) -> Figure:
    figure = Figure(figsize=(width, height), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _panels(num_panels: int, height: float) -> tuple[Figure, list[Any]]:
    """A figure with panels one above the other, sharing their x axis."""
    figure = _figure(8.6, height * num_panels + 0.5)
    panels = list(figure.subplots(num_panels, 1, sharex=True, squeeze=False)[:, 0])
    for panel in panels:
        panel.grid(color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8)
    return figure, panels


def _clock_axis(panel: Any) -> None:
    locator = dates.AutoDateLocator(maxticks=9)  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_locator(locator)
    panel.xaxis.set_major_formatter(dates.DateFormatter("%H:%M"))  # type: ignore[no-untyped-call]


def _colours(names: Sequence[str], chosen: str) -> dict[str, str]:
    """The chosen one orange, baselines greys, the others by their order."""
    greys = iter(("#7b8794", "#9aa5b1", "#b8c0c8", "#52606d"))
    blues = iter(PALETTE * (1 + len(names) // len(PALETTE)))
    return {name: CHOSEN if name == chosen else next(greys if name in BASELINES else blues) for name in names}


def _legend(panel: Any, reports: Sequence[CandidateReport], colours: Mapping[str, str], chosen: str) -> None:
    """Beside the panel, the best first, so no line is hidden."""
    ordered = sorted(reports, key=lambda report: report.judged.value)
    lines = [Line2D([], [], color=colours[r.name], linewidth=2.6 if r.name == chosen else 1.4) for r in ordered]
    labels = [f"{report.name}  {report.judged.value:.2f}" for report in ordered]
    title = f"MAE {ahead_text(reports[0])}"
    legend = panel.legend(lines, labels, loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8, frameon=False)
    legend.set_title(title, prop={"size": 8})
    legend.set_alignment("left")


def _label_points(
    panel: Any,
    reports: Sequence[CandidateReport],
    errors: Mapping[str, float],
    area_of: Mapping[str, float],
    chosen: str,
) -> None:
    """Name and latency beside each bubble; a label that would lie on another is moved up, with a line to its bubble."""
    taken: list[tuple[float, float]] = []
    span = max(errors.values()) - min(errors.values()) or 1.0
    for report in sorted(reports, key=lambda report: errors[report.name]):
        x, y = report.cost.num_bytes, errors[report.name]
        place = y
        while any(abs(place - other) < 0.045 * span and abs(np.log10(x / near)) < 1 for near, other in taken):
            place += 0.015 * span
        taken.append((x, place))
        is_chosen = report.name == chosen
        panel.annotate(
            f"{report.name}  {report.cost.latency_p99_ms:.2g} ms",
            (x, y),
            ((area_of[report.name] / np.pi) ** 0.5 + 4, 280 * (place - y) / span),
            textcoords="offset points",
            fontsize=8,
            va="center",
            arrowprops={"arrowstyle": "-", "color": BASELINE, "linewidth": 0.6, "relpos": (0, 0.5)}
            if place > y
            else None,
            color=CHOSEN if is_chosen else ACTUAL,
            fontweight="bold" if is_chosen else "normal",
        )


def _saved(figure: Figure, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Software": None})
    return target
