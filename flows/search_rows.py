"""The points of a search as rows of JSON."""

from collections.abc import Mapping
from typing import Any

from flows.search_front import TEACHER, Decision
from flows.search_trials import Trials
from models.judging import pareto
from models.judging.pareto import Budget, Figures
from models.recipe import Recipe


def teacher_row(decision: Decision, digest: str, test_error: float, recipe: Recipe) -> dict[str, Any]:
    """The teacher beside its students."""
    figures = _figures(decision.teacher)
    return {
        "name": TEACHER, "what": f"the teacher, {recipe.name}", **figures, "loss": 0.0, "test_error": test_error,
        "digest": digest,
    }  # fmt: skip


def trial_rows(
    decision: Decision, trials: Trials, budget: Budget, tests: Mapping[str, float], runs: Mapping[str, str]
) -> list[dict[str, Any]]:
    """Every point, those that could not be tried at the end."""
    rows: list[dict[str, Any]] = []
    for one in trials.tried:
        figures, lost = decision.points[one.name], decision.losses[one.name]
        rows.append({
            "name": one.name, "state": "tried", "what": one.point.words(), **one.point.model_dump(mode="json"),
            **_figures(figures), "loss": lost, "test_error": tests.get(one.name),
            "bytes_share": figures.num_bytes / decision.teacher.num_bytes,
            "speedup": figures.rows_per_second / decision.teacher.rows_per_second,
            "num_parameters": one.num_parameters, "is_inside": pareto.is_inside(pareto.excess(figures, budget, lost)),
            "is_front": one.name in decision.front, "measured": one.name in decision.measured,
            "digest": one.digest, "run_id": runs.get(one.name), "seconds": one.seconds,
        })  # fmt: skip
    for point, reason in trials.failed:
        rows.append({
            "name": point.name, "state": "failed", "what": point.words(), **point.model_dump(mode="json"),
            "reason": reason,
        })  # fmt: skip
    return rows


def _figures(figures: Figures) -> dict[str, Any]:
    row = figures.model_dump(exclude={"name", "num_bytes"})
    return {"error": row.pop("error"), "bytes": figures.num_bytes, **row}
