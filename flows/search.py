"""Searches distil × prune × quantise for the best model in a budget, and has it judged.

`roadworthy compress NAME --budget …`. The trials are in `search_trials.py`, the decision in `search_front.py`.
"""

import time
from typing import Any

from prefect import flow
from prefect.artifacts import create_markdown_artifact

from flows.compress import pack
from flows.evaluate import refuse_other_question
from flows.lifecycle import step
from flows.package import package_live
from flows.promote import promote
from flows.search_front import TEACHER, Decision, decide, judge_on_test, measure_front
from flows.search_gate import gate_session, judge_best
from flows.search_log import SearchSession, keep_front, log_failed, log_point, log_search
from flows.search_options import Wish
from flows.search_origin import Origin, find_origin
from flows.search_outcome import SearchOutcome, markdown, nothing_fits
from flows.search_point import found, judge_packed, report_at
from flows.search_rows import teacher_row, trial_rows
from flows.search_trials import Limits, Trials, run_trials
from flows.search_watch import Bar
from flows.steps import Done, key_of
from flows.train import fit, variants
from flows.workshop import open_workshop
from models import catalog
from models.compression.space import space_of
from models.judging.pareto import Budget, Figures
from models.judging.record import CandidateReport


@flow(name="compression-search", flow_run_name="search {name}")
def compression_search(
    name: str,
    data: str | None,
    settings: dict[str, Any],
    product: str,
    wish: dict[str, Any],
    limits: dict[str, Any],
    is_promoting: bool = True,
) -> dict[str, Any]:
    """The best compressed model inside a budget, through the gates.

    1. origin: a live product's recipe and snapshot, or a recipe's
    2. teacher: fitted or found, exported, judged on validation
    3. trials: students, pruned ones, int8 and half precision, each exported and judged through the served predictor
    4. measure: teacher and the points near the front timed side by side; the front; the best inside the budget
    5. gates: on the test split, as every candidate's; promoted if it passed
    6. record: all points with lineage to their teacher, the picture, the tables
    """
    began = time.perf_counter()
    shop = open_workshop()
    origin = step("origin", find_origin, shop, name, data, settings, product)
    recipe, wanted, bounds = origin.recipe, Wish(**wish), Limits(**limits)
    space = space_of(catalog.family(recipe.task, recipe.family), recipe)
    with Bar() as bar:
        session = SearchSession(shop, recipe, origin.prepared, search_key(origin, wish, bounds.seed), bar)
        refuse_other_question(session)
        packed, judged = step("teacher", _teacher, session)
        report, teacher = report_at(judged), Figures.model_validate(judged.notes)
        trials = step("trials", run_trials, session, space, wanted.budget(_needs(teacher)), bounds, report)
        measured = step("measure", measure_front, session, packed, teacher, trials.tried)
        budget = wanted.budget(_needs(Figures.model_validate(measured.notes[TEACHER])))
        decision = decide(measured.notes, trials.tried, budget, report.judged_name)
        outcome = _finish(session, decision, budget, trials, packed, report, is_promoting)
        seconds = {**session.seconds(), "trials": trials.seconds, "total": round(time.perf_counter() - began, 3)}
        outcome = outcome.model_copy(update={"seconds": seconds})
        step("record", log_search, session, outcome, decision, budget)
        session.finish()
    key = f"search-{recipe.product.replace('_', '-')}"
    create_markdown_artifact(markdown(outcome), key=key, description=outcome.verdict)
    return outcome.model_dump(mode="json")


def search_key(origin: Origin, wish: dict[str, Any], seed: int) -> str:
    """A search's key: teacher's recipe, snapshot, budget, all code that computes."""
    recipe = origin.recipe.model_dump(mode="json")
    return key_of("search", recipe, origin.prepared.done.key, wish, seed, catalog.code_digest())


def _teacher(session: SearchSession) -> tuple[Done, Done]:
    """The teacher's parcel, and what it is worth on validation."""
    variant = next(one for one in variants(session.recipe) if one.name == TEACHER)
    fit(session, variant)
    packed = pack(session, variant)
    return packed, judge_packed(session, TEACHER, packed)


def _needs(teacher: Figures) -> dict[str, float]:
    """What the teacher costs, by the names of the bounds: `x` in a budget is times this."""
    return {
        "latency_ms": teacher.latency_p50_ms, "latency_p99_ms": teacher.latency_p99_ms, "bytes": teacher.num_bytes,
        "rows_per_second": teacher.rows_per_second,
    }  # fmt: skip


def _finish(
    session: SearchSession, decision: Decision, budget: Budget, trials: Trials, packed: Done,
    report: CandidateReport, is_promoting: bool,
) -> SearchOutcome:  # fmt: skip
    """The test split, the gates, the records; then the outcome."""
    shop, recipe, digest = session.shop, session.recipe, packed.notes["digest"]
    by_name = {one.name: one for one in trials.tried}
    shown = {*decision.front, decision.best or decision.nearest}
    parcels = {TEACHER: packed, **{name: found(shop, "parcel", by_name[name].parcel) for name in sorted(shown)}}
    tests = {name: judge_on_test(session, name, done).judged.value for name, done in parcels.items()}
    runs = {one.name: log_point(session, one, digest, decision.losses[one.name]) for one in trials.tried}
    for point, reason in trials.failed:
        log_failed(session, point, reason)
    shop.store.put_folder(f"parcels/{digest}", packed.folder / "parcel")
    step("register", keep_front, session, decision, trials.tried, digest, tests)
    rows = trial_rows(decision, trials, budget, tests, runs)
    row_of = {row["name"]: row for row in rows}
    facts: dict[str, Any] = {
        "product": recipe.product, "recipe": recipe.name, "data": recipe.data.name,
        "data_digest": session.prepared.ref.digest, "judged": report.judged_name, "unit": report.unit,
        "budget": budget.model_dump(), "teacher": teacher_row(decision, digest, tests[TEACHER], recipe),
        "num_tried": len(trials.tried), "num_failed": len(trials.failed), "num_reused": trials.num_reused,
        "trials": rows, "front": list(decision.front), "best": row_of.get(decision.best or ""),
        "nearest": None if decision.best else row_of[decision.nearest], "missed": list(decision.missed),
        "run_id": session.parent.run_id,
    }  # fmt: skip
    if decision.best is None:
        return SearchOutcome(**facts, verdict="nothing_fits", sentence=nothing_fits(decision, trials, budget))
    return SearchOutcome(**facts, **_gated(session, decision, budget, trials, packed, report, is_promoting))


def _gated(
    session: SearchSession, decision: Decision, budget: Budget, trials: Trials, packed: Done,
    report: CandidateReport, is_promoting: bool,
) -> dict[str, Any]:  # fmt: skip
    """Verdict and version of the best point."""
    best = next(one for one in trials.tried if one.name == decision.best)
    gated = gate_session(session, best, budget)
    evaluation = step("evaluate", judge_best, session, gated, best, packed, decision, trials.tried, report)
    verdict = evaluation.verdict
    facts = {
        "sentence": evaluation.choice.sentence, "reasons": list(verdict.reasons),
        "gates": [gate.model_dump(mode="json") for gate in verdict.results], "model_digest": best.digest,
    }  # fmt: skip
    if not is_promoting:
        return {**facts, "verdict": "judged"}
    promotion = step("promote", promote, gated, evaluation)
    if promotion.promoted:
        step("package", package_live, session.shop, session.recipe.product)
    word = promotion.verdict
    return {**facts, "verdict": word, "model_version": promotion.ref.version, "model_digest": promotion.ref.digest}
