"""Draws the front: error against bytes and latency, the teacher, the budget."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.judging.figures import ACTUAL, BASELINE, CHOSEN, GRID, OTHER
from models.judging.pareto import Budget, Figures, is_rate
from models.judging.select import bytes_text

_DPI = 110


def pareto_figure(
    target: Path,
    points: Sequence[Figures],
    teacher: Figures,
    front: Sequence[str],
    best: str | None,
    budget: Budget,
    judged_name: str,
    unit: str = "",
) -> Path:
    """Two panels; grey: tried, blue: the front, orange: chosen, star: the teacher, dashed: the budget."""
    figure = Figure(figsize=(12.4, 4.9), dpi=_DPI, layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(1, 2, sharey=True))
    scale = 100 if is_rate(judged_name) else 1
    bound = teacher.error + budget.max_loss * ((1 - teacher.error) if is_rate(judged_name) else abs(teacher.error))
    for panel, (field, limit) in zip(
        panels, (("num_bytes", budget.bytes), ("latency_p50_ms", budget.latency_ms)), strict=True
    ):
        _scatter(panel, points, teacher, front, best, field, scale)
        panel.axhline(scale * bound, color=BASELINE, linestyle="--", linewidth=1)
        if limit is not None:
            panel.axvline(limit, color=BASELINE, linestyle="--", linewidth=1)
        panel.set_xscale("log")
        panel.grid(color=GRID, linewidth=0.8)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
        panel.tick_params(labelsize=8, which="both")
    _label(panels[0], lambda value, _: bytes_text(round(value)))
    _label(panels[1], lambda value, _: f"{value:.3g}")
    panels[0].set_xlabel("size of model.onnx")
    panels[1].set_xlabel("median latency of one request, ms (dashed: budget)")
    panels[0].set_ylabel(f"{judged_name} on validation, {'%' if scale == 100 else unit}".rstrip(", "))
    _zoom(panels[0], points, teacher, front, bound, scale)
    panels[1].legend(loc="upper right", fontsize=8, frameon=False)
    figure.suptitle(f"What bytes and milliseconds buy: {len(points)} points of the search", x=0.01, ha="left")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, metadata={"Software": None})
    return target


def _label(panel: Any, text: Callable[[float, Any], str]) -> None:
    """Between the powers of ten too, where there are few of them."""
    low, high = panel.get_xlim()
    panel.xaxis.set_major_formatter(text)
    panel.xaxis.set_minor_formatter(text if high < 8 * low else lambda *_: "")


def _scatter(
    panel: Any,
    points: Sequence[Figures],
    teacher: Figures,
    front: Sequence[str],
    best: str | None,
    field: str,
    scale: int,
) -> None:
    kinds = {
        "tried": ([p for p in points if p.name not in front and p.name != best], BASELINE, 22),
        "front": ([p for p in points if p.name in front and p.name != best], OTHER, 38),
        "chosen": ([p for p in points if p.name == best], CHOSEN, 90),
    }
    for label, (shown, colour, size) in kinds.items():
        if shown:
            x, y = [getattr(p, field) for p in shown], [scale * p.error for p in shown]
            panel.scatter(x, y, s=size, color=colour, linewidth=0, label=label, zorder=3 if label != "tried" else 2)
    panel.scatter(
        getattr(teacher, field), scale * teacher.error, s=150, marker="*", color=ACTUAL, label="teacher", zorder=4
    )
    steps = sorted((getattr(p, field), scale * p.error) for p in points if p.name in front)
    lowest: list[tuple[float, float]] = []
    for step in steps:  # the staircase of this panel alone
        if not lowest or step[1] < lowest[-1][1]:
            lowest.append(step)
    panel.step(
        [cost for cost, _ in lowest], [error for _, error in lowest], where="post", color=OTHER, linewidth=1, alpha=0.6
    )


def _zoom(
    panel: Any, points: Sequence[Figures], teacher: Figures, front: Sequence[str], bound: float, scale: int
) -> None:
    """The useful part of the error axis: a point far off would press all others together."""
    errors = sorted(p.error for p in points if p.name in front) or [teacher.error]
    low, high = min(errors[0], teacher.error), max(errors[int(0.8 * (len(errors) - 1))], bound, teacher.error)
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1e-3
    panel.set_ylim(scale * (low - room), scale * (high + room))
