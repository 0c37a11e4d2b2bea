"""The best point before the gates: against baselines and what is live, on test."""

from collections.abc import Sequence

from flows.compress import pack
from flows.evaluate import Evaluation, evaluate
from flows.search_front import TEACHER, Decision, choice_of
from flows.search_point import Tried, found
from flows.session import Session
from flows.steps import Done
from flows.train import fit, variants
from models import catalog
from models.judging.pareto import Budget
from models.judging.record import CandidateReport


def gate_session(session: Session, best: Tried, budget: Budget) -> Session:
    """A session on the point's own recipe, its gates as tight as the budget, in the search's run."""
    recipe = best.point.recipe(session.recipe)
    bounds = {"max_bytes": budget.bytes, "max_latency_ms": budget.latency_p99_ms}
    tight = {name: min(bound, getattr(recipe.judge, name)) for name, bound in bounds.items() if bound is not None}
    recipe = recipe.model_copy(update={"judge": recipe.judge.model_copy(update=tight)})
    gated = Session(session.shop, recipe, session.prepared, session.key, session.watch)
    gated.parent = session.parent
    return gated


def judge_best(
    session: Session, gated: Session, best: Tried, teacher: Done, decision: Decision, tried: Sequence[Tried],
    report: CandidateReport,
) -> Evaluation:  # fmt: skip
    """Baselines, teacher and the best point judged as in a lifecycle; the choice has been made."""
    known = catalog.families(session.recipe.task)
    for variant in variants(session.recipe):
        if variant.name in known:
            fit(gated, variant)
            pack(gated, variant)
    packed = {name.partition(" ")[2]: done for name, done in gated.steps.items() if name.startswith("export ")}
    gated.note(f"fit {TEACHER}", session.steps[f"fit {TEACHER}"])
    packed[TEACHER] = gated.note(f"export {TEACHER}", teacher)
    gated.note(f"fit {best.name}", found(session.shop, "fit", best.fitted))
    packed[best.name] = gated.note(f"export {best.name}", found(session.shop, "parcel", best.parcel))
    return evaluate(gated, packed, choice_of(decision, tried, report))
