"""After the trials: points near the front timed side by side, and the decision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.compress import PARCEL
from flows.evaluate import judge_parcel
from flows.search_point import CODE, REPORT, Tried, found
from flows.session import Session
from flows.steps import Done, key_of, once
from models import catalog
from models.artifact.predictor import Predictor
from models.judging import pareto
from models.judging.latency import side_by_side
from models.judging.measure import BATCH_SIZE
from models.judging.pareto import Budget, Figures
from models.judging.record import CandidateReport
from models.judging.select import Choice, bytes_text, error_text

NUM_MEASURED = 24  # points timed again, so that this takes a minute at most
TEACHER = "teacher"


@dataclass(frozen=True)
class Decision:
    """What the search found.

    points: everything tried, timed again where it is near the front; front: names, by bytes
    best: inside the budget; None where nothing is, and then `nearest` missed the bounds in `missed`
    """

    teacher: Figures
    points: Mapping[str, Figures]
    losses: Mapping[str, float]
    measured: tuple[str, ...]
    front: tuple[str, ...]
    best: str | None
    nearest: str
    missed: tuple[str, ...]


def measure_front(session: Session, teacher: Done, teacher_figures: Figures, tried: Sequence[Tried]) -> Done:
    """Teacher and the points near the front, one after the other in turns on an otherwise idle pool: by name."""
    near = near_front([one.figures for one in tried])
    wanted = {one.name: one for one in tried if one.name in near}
    digests = {TEACHER: teacher.notes["digest"], **{name: one.digest for name, one in wanted.items()}}
    key = key_of(digests, session.prepared.ref.digest, catalog.code_digest(*CODE))

    def compute(_: Path) -> dict[str, Any]:
        folders = {name: found(session.shop, "parcel", one.parcel).folder / PARCEL for name, one in wanted.items()}
        predictors = {
            name: Predictor.open(path) for name, path in {TEACHER: teacher.folder / PARCEL, **folders}.items()
        }
        samples = session.snapshot.samples("val")
        session.watch("measure", 0.0, f"{len(predictors)} parcels, one request")
        one = side_by_side(predictors, samples, 1)
        session.watch("measure", 0.5, f"{len(predictors)} parcels, batches of {BATCH_SIZE}")
        many = side_by_side(predictors, samples, BATCH_SIZE, num_calls=25)
        known = {TEACHER: teacher_figures, **{name: wanted[name].figures for name in wanted}}
        return {
            name: known[name].model_copy(
                update={
                    "latency_p50_ms": one[name].p50_ms, "latency_p99_ms": one[name].p99_ms,
                    "batch_p50_ms": many[name].p50_ms, "batch_p99_ms": many[name].p99_ms,
                    "rows_per_second": many[name].rows_per_second,
                }
            ).model_dump()
            for name in predictors
        }  # fmt: skip

    done = session.note("measure", once(session.shop, "front", key, compute))
    session.watch("measure", 1.0, f"{len(done.notes)} parcels")
    return done


def near_front(points: Sequence[Figures]) -> set[str]:
    """Names of the points on the front, or within the noise of it; those of the least error where they are many."""
    near = pareto.front(points, pareto.NEAR)
    return {point.name for point in sorted(near, key=lambda point: (point.error, point.num_bytes))[:NUM_MEASURED]}


def decide(measured: Mapping[str, Any], tried: Sequence[Tried], budget: Budget, judged_name: str) -> Decision:
    """The front and the best point of those timed side by side."""
    timed = {name: Figures.model_validate(row) for name, row in measured.items()}
    teacher = timed.pop(TEACHER)
    points = {one.name: timed.get(one.name, one.figures) for one in tried}
    losses = {name: pareto.loss(point.error, teacher.error, judged_name) for name, point in points.items()}
    best = pareto.best(list(timed.values()), budget, losses)
    nearest, missed = pareto.nearest(list(timed.values()), budget, losses)
    return Decision(
        teacher=teacher, points=points, losses=losses, measured=tuple(sorted(timed)),
        front=tuple(point.name for point in pareto.front(list(timed.values()))),
        best=best.name if best else None, nearest=nearest.name, missed=tuple(missed),
    )  # fmt: skip


def choice_of(decision: Decision, tried: Sequence[Tried], report: CandidateReport) -> Choice:
    """The best point as the choice that goes to the gates. Raises ValueError where nothing fits."""
    if decision.best is None:
        raise ValueError("nothing fits the budget, so nothing was chosen")
    point = decision.points[decision.best]
    words = next(one.point.words() for one in tried if one.name == decision.best)
    error = error_text(point.error, report.judged_name, report.unit)
    lost = f"{100 * decision.losses[point.name]:+.2f} %"
    sentence = (
        f"{point.name} ({words}) has the least validation error of the points inside the budget: {report.judged_name} "
        f"{error}, {lost} against its teacher, {bytes_text(point.num_bytes)} instead of "
        f"{bytes_text(decision.teacher.num_bytes)}, p50 {point.latency_p50_ms:.3g} instead of "
        f"{decision.teacher.latency_p50_ms:.3g} ms, {point.rows_per_second / decision.teacher.rows_per_second:.1f} "
        f"times the rows per second; {len(tried)} points were tried. It goes on the road if it passes its gates."
    )
    return Choice(name=point.name, sentence=sentence, best=point.name, tied=(point.name,))


def judge_on_test(session: Session, name: str, packed: Done) -> CandidateReport:
    """The report on the test split: looked at when everything has been decided."""
    key = key_of(packed.key, session.recipe.judge.model_dump(), "test", catalog.code_digest(*CODE))

    def compute(folder: Path) -> dict[str, Any]:
        judged = judge_parcel(packed.folder / PARCEL, session.snapshot, session.recipe, "test")
        (folder / REPORT).write_text(judged.report.model_dump_json(indent=1))
        return {"error": judged.report.judged.value}

    done = session.note(f"test {name}", once(session.shop, "point_test", key, compute))
    return CandidateReport.model_validate_json((done.folder / REPORT).read_text())
