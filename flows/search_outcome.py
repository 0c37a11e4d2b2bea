"""Says how a search ended: one JSON object, and how it looks in a terminal."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from flows import console
from flows.search_front import Decision
from flows.search_trials import Trials
from models.judging import pareto
from models.judging.pareto import Budget
from models.judging.select import bytes_text, error_text


class SearchOutcome(BaseModel):
    """What was tried, the front, the best point inside the budget and the verdict on it.

    `trials` holds every point, `front` the names of those that nothing dominates, by bytes. `error` is judged on
    validation and decides, `test_error` is there for the front and for the best and decides nothing. `loss` is against
    the teacher's validation error. Latencies are milliseconds of one request through the served predictor, `batch_*`
    those of 64 rows; points with `measured` were timed side by side with the teacher after the trials.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    recipe: str
    data: str
    data_digest: str
    judged: str
    unit: str
    budget: dict[str, float | None]
    teacher: dict[str, Any]
    num_tried: int
    num_failed: int
    num_reused: int
    trials: list[dict[str, Any]]
    front: list[str]
    best: dict[str, Any] | None
    nearest: dict[str, Any] | None
    missed: list[str]
    verdict: Literal["promoted", "refused", "judged", "awaiting approval", "nothing_fits"]
    sentence: str
    reasons: list[str] = []
    gates: list[dict[str, Any]] = []
    model_version: int | None = None
    model_digest: str | None = None
    run_id: str | None = None
    seconds: dict[str, float] = {}


def show_search(outcome: SearchOutcome) -> None:
    """The front, the gates, the sentence."""
    rows = [outcome.teacher, *(row for row in outcome.trials if row["name"] in outcome.front)]
    chosen = outcome.best["name"] if outcome.best else ""
    columns = ["point", outcome.judged, "loss %", "test", "kB", "p50 ms", "p99 ms", "rows/s"]
    cells = [
        [
            f"→ {row['name']}" if row["name"] == chosen else row["name"],
            error_text(row["error"], outcome.judged, outcome.unit),
            round(100 * row["loss"], 2),
            error_text(row["test_error"], outcome.judged, outcome.unit) if row["test_error"] is not None else None,
            row["bytes"] / 1000,
            row["latency_p50_ms"],
            row["latency_p99_ms"],
            round(row["rows_per_second"]),
        ]
        for row in rows
    ]
    title = f"{outcome.product}: front of {outcome.num_tried} points, {outcome.recipe} on {outcome.data}, validation"
    console.table(title, columns, cells)
    for row in rows:
        console.out.print(f"{row['name']}: {row['what']}", highlight=False, soft_wrap=True)
    if outcome.gates:
        gates = [[gate["gate"], gate["passed"], gate["reason"]] for gate in outcome.gates]
        console.table("Gates", ["gate", "passed", "reason"], gates)
    console.out.print(outcome.sentence, highlight=False)
    version = f", version {outcome.model_version}" if outcome.model_version else ""
    console.out.print(f"[bold]{outcome.verdict}[/]: {outcome.product}{version}", highlight=False)


def markdown(outcome: SearchOutcome) -> str:
    """The front as a page: in Prefect an artifact, in MLflow the run's description."""
    heads = ["point", "what", f"{outcome.judged}, validation", "loss", "test", "bytes", "p50 ms", "p99 ms", "rows/s"]
    lines = [heads, ["---", "---"] + ["---:"] * (len(heads) - 2)]
    for row in [outcome.teacher, *(row for row in outcome.trials if row["name"] in outcome.front)]:
        mark = "**" if outcome.best and row["name"] == outcome.best["name"] else ""
        test = error_text(row["test_error"], outcome.judged, outcome.unit) if row["test_error"] is not None else "–"
        cells = [
            row["name"], row["what"], error_text(row["error"], outcome.judged, outcome.unit),
            f"{100 * row['loss']:+.2f} %", test, bytes_text(row["bytes"]), f"{row['latency_p50_ms']:.3f}",
            f"{row['latency_p99_ms']:.3f}", f"{row['rows_per_second']:,.0f}",
        ]  # fmt: skip
        lines.append([f"{mark}{cell}{mark}" for cell in cells])
    bounds = ", ".join(f"{name} {value:g}" for name, value in outcome.budget.items() if value is not None)
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    reasons = "\n".join(f"- {reason}" for reason in outcome.reasons)
    return (
        f"# Compression search: {outcome.product}\n\n**{outcome.verdict}.** {outcome.sentence}\n\n{reasons}\n\n"
        f"Budget: {bounds}. {outcome.num_tried} points tried, {outcome.num_failed} could not be.\n\n{table}\n"
    )


def nothing_fits(decision: Decision, trials: Trials, budget: Budget) -> str:
    """Which point came nearest, and what it missed by how much."""
    point = decision.points[decision.nearest]
    words = next(one.point.words() for one in trials.tried if one.name == point.name)
    over = pareto.excess(point, budget, decision.losses[point.name])
    got = {
        "latency_ms": f"p50 {point.latency_p50_ms:.3g} ms, allowed {budget.latency_ms} ms",
        "latency_p99_ms": f"p99 {point.latency_p99_ms:.3g} ms, allowed {budget.latency_p99_ms} ms",
        "bytes": f"{bytes_text(point.num_bytes)}, allowed {bytes_text(budget.bytes or 0)}",
        "rows_per_second": f"{point.rows_per_second:,.0f} rows/s, wanted {budget.rows_per_second or 0:,.0f}",
        "max_loss": f"loss {decision.losses[point.name]:.2%}, allowed {budget.max_loss:.2%}",
    }
    missed = "; ".join(f"{name}: {got[name]}" for name in decision.missed)
    worst = max(over.values())
    return (
        f"Nothing of {len(trials.tried)} points fits the budget. {point.name} ({words}) comes nearest, "
        f"{worst:.1%} over at its worst bound. It misses {missed}. Try more --trials, a wider budget or a larger "
        "--max-loss."
    )
