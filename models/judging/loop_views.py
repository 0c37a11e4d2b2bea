"""A closed loop as a table and as a picture: who drove which traffic how well."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from models.judging.closed_loop import ClosedLoop

CHOSEN, BASELINE, BETTER = "#e4572e", "#9aa5b1", "#17a398"


def loop_table(record: ClosedLoop) -> str:
    """Markdown: a row for each scenario and seed, a column for each controller, the best of a row in bold."""
    names = sorted((record.candidate, *record.references), key=record.means.__getitem__)
    values = {(row.scenario, row.seed, row.controller): row.value for row in record.scenarios}
    lines = [["scenario", "seed", *names], ["---", "---:", *["---:"] * len(names)]]
    for scenario, seed in sorted({(scenario, seed) for scenario, seed, _ in values}):
        cells = [values[scenario, seed, name] for name in names]
        best = min(cells)
        lines.append([scenario, str(seed), *(f"**{cell:.2f}**" if cell == best else f"{cell:.2f}" for cell in cells)])
    lines.append(["mean", "", *(f"{record.means[name]:.2f}" for name in names)])
    body = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    versus = [
        f"{record.candidate} minus {name}: {one.value:+.3g} [{one.low:+.3g}, {one.high:+.3g}] {record.unit}"
        for name, one in sorted(record.differences.items())
    ]
    heading = f"{record.judged.capitalize()} in {record.unit}, lower is better. {record.convention}".rstrip()
    return "\n\n".join([heading, body, "\n".join(f"- {line}" for line in versus)])


def loop_figure(target: Path, record: ClosedLoop) -> Path:
    """The means of all, and by scenario and seed the difference between the candidate and the best reference."""
    names = sorted((record.candidate, *record.references), key=record.means.__getitem__, reverse=True)
    values = {(row.scenario, row.seed, row.controller): row.value for row in record.scenarios}
    pairs = sorted({(scenario, seed) for scenario, seed, _ in values})
    gaps = [values[(*pair, record.candidate)] - values[(*pair, record.best_reference)] for pair in pairs]
    figure = Figure(figsize=(10.5, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    colours = [CHOSEN if name == record.candidate else BASELINE for name in names]
    left.barh(names, [record.means[name] for name in names], color=colours)
    left.set_xlabel(f"{record.judged}, {record.unit}")
    right.bar(range(len(gaps)), gaps, color=[BETTER if gap < 0 else CHOSEN for gap in gaps])
    right.axhline(0, color="black", linewidth=0.8)
    ticks = [f"{scenario} {seed}" for scenario, seed in pairs]
    right.set_xticks(range(len(pairs)), ticks, rotation=60, fontsize=7, ha="right")
    right.set_ylabel(f"{record.candidate} minus {record.best_reference}, {record.unit}")
    figure.suptitle(f"Closed loop on {record.num_seeds} unseen seeds", x=0.01, ha="left")
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110, metadata={"Software": None})
    return target
