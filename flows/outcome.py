"""What a lifecycle says at its end: one JSON object, the same for people, scripts and Prefect."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from flows.evaluate import Evaluation
from flows.promote import Promotion
from flows.session import Session
from infra.refs import BentoRef
from models.judging.record import CandidateReport


class Outcome(BaseModel):
    """The verdict on one product, with everything that it rests on.

    `metrics`, `bytes` and `latency_ms` are by candidate, judged on the test split; `seconds` is by step. `mae` and `rmse`
    are at the judged horizon step (`convention` says which), `mae_pooled` over all steps.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    product: str
    recipe: str
    data: str
    data_digest: str
    verdict: Literal["promoted", "refused", "judged"]
    promoted: bool
    candidate: str
    sentence: str
    reasons: list[str]
    gates: list[dict[str, Any]]
    convention: str
    metrics: dict[str, dict[str, float]]
    bytes: dict[str, int]
    latency_ms: dict[str, dict[str, float]]
    rows_per_second: dict[str, float]
    model_version: int | None = None
    model_digest: str | None = None
    run_id: str | None = None
    bento: str | None = None
    bento_path: str | None = None
    judged_against: str | None = None
    seconds: dict[str, float] = {}


def outcome_of(session: Session, evaluation: Evaluation, promotion: Promotion | None, bento: BentoRef | None, total: float) -> Outcome:
    """The outcome of a lifecycle from what its steps handed on."""
    verdict, choice, reports = evaluation.verdict, evaluation.choice, evaluation.test
    first = evaluation.chosen
    if promotion is None:
        word: Literal["promoted", "refused", "judged"] = "judged"
    else:
        word = "promoted" if promotion.promoted else "refused"
    return Outcome(
        product=session.recipe.product,
        recipe=session.recipe.name,
        data=session.recipe.data.name,
        data_digest=session.prepared.ref.digest,
        verdict=word,
        promoted=word == "promoted",
        candidate=choice.name,
        sentence=choice.sentence,
        reasons=list(verdict.reasons),
        gates=[gate.model_dump(mode="json") for gate in verdict.results],
        convention=_convention(first),
        metrics={name: _metrics(report) for name, report in reports.items()},
        bytes={name: report.cost.num_bytes for name, report in reports.items()},
        latency_ms={
            name: {"p50": report.cost.latency_p50_ms, "p99": report.cost.latency_p99_ms} for name, report in reports.items()
        },
        rows_per_second={name: report.cost.rows_per_second for name, report in reports.items()},
        model_version=promotion.ref.version if promotion else None,
        model_digest=promotion.ref.digest if promotion else None,
        run_id=session.parent.run_id,
        bento=bento.tag if bento else None,
        bento_path=bento.path if bento else None,
        judged_against=evaluation.judged_against,
        seconds={**session.seconds(), "total": total},
    )


def _convention(report: CandidateReport) -> str:
    if report.task == "forecast":
        return f"at horizon step {report.judged_step}, {report.judged_min:g} min ahead, in {report.unit}"
    return "per image"


def _metrics(report: CandidateReport) -> dict[str, float]:
    if report.task == "classify":
        return {item.name: item.value for item in report.metrics}
    at_horizon = {name: report.value(name) for name in ("mae", "rmse")}
    return at_horizon | {f"{name}_pooled": report.value(name, "pooled") for name in ("mae", "rmse")}
