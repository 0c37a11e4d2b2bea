"""From what the steps of a lifecycle handed on to its outcome."""

from typing import Literal

from flows.evaluate import Evaluation
from flows.outcome import Outcome
from flows.promote import Promotion
from flows.session import Session
from infra.refs import BentoRef
from models.judging.record import CandidateReport


def outcome_of(
    session: Session, evaluation: Evaluation, promotion: Promotion | None, bento: BentoRef | None, total: float
) -> Outcome:
    """The outcome of a lifecycle from what its steps handed on."""
    verdict, choice, reports = evaluation.verdict, evaluation.choice, evaluation.test
    first = evaluation.chosen
    if promotion is None:
        word: Literal["promoted", "refused", "judged", "awaiting approval"] = "judged"
    else:
        word = promotion.verdict
    return Outcome(
        product=session.recipe.product,
        recipe=session.recipe.name,
        data=session.recipe.data.name,
        data_digest=session.prepared.ref.digest,
        verdict=word,
        promoted=word == "promoted",
        candidate=choice.name,
        sentence=choice.sentence,
        reasons=[*([promotion.waiting] if promotion and promotion.waiting else []), *verdict.reasons],
        gates=[gate.model_dump(mode="json") for gate in verdict.results],
        convention=_convention(first),
        metrics={name: _metrics(report) for name, report in reports.items()},
        bytes={name: report.cost.num_bytes for name, report in reports.items()},
        latency_ms={
            name: {"p50": report.cost.latency_p50_ms, "p99": report.cost.latency_p99_ms}
            for name, report in reports.items()
        },
        rows_per_second={name: report.cost.rows_per_second for name, report in reports.items()},
        model_version=promotion.ref.version if promotion else None,
        model_digest=promotion.ref.digest if promotion else None,
        run_id=session.parent.run_id,
        bento=bento.tag if bento else None,
        bento_path=bento.path if bento else None,
        judged_against=evaluation.judged_against,
        protocol=session.recipe.evaluate.protocol,
        closed_loop=evaluation.record.get("closed_loop"),
        seconds={**session.seconds(), "total": total},
    )


def _convention(report: CandidateReport) -> str:
    if report.task == "forecast":
        named = f"protocol {report.protocol}, in {report.unit}"
        if report.convention == "pooled":
            return f"pooled over steps 1 to {report.judged_step}, up to {report.judged_min:g} min ahead, {named}"
        return f"at horizon step {report.judged_step}, {report.judged_min:g} min ahead, {named}"
    return report.convention if report.task != "classify" else "per image"


def _metrics(report: CandidateReport) -> dict[str, float]:
    if report.task != "forecast":
        return {item.name: item.value for item in report.metrics}
    at_horizon = {name: report.value(name) for name in ("mae", "rmse")}
    return at_horizon | {f"{name}_pooled": report.value(name, "pooled") for name in ("mae", "rmse")}
