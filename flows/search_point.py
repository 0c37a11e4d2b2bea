"""One point of the search: fitted, pruned, exported, packed, judged on validation.

Runs in a worker process, here or on another machine; every part is a step computed once, so what two points share, as
the same student in two precisions, is computed for the first of them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from flows.compress import PARCEL, pack, pack_int8
from flows.evaluate import judge_parcel
from flows.options import UsageError
from flows.prepare import Prepared
from flows.search_quiet import open_quiet_workshop
from flows.session import Session
from flows.steps import Done, key_of, once
from flows.train import Variant, fit, variants
from flows.workshop import Workshop
from infra.refs import DataRef
from models import catalog
from models.artifact.predictor import Predictor
from models.compression.space import Point
from models.judging.latency import Timing, side_by_side
from models.judging.measure import BATCH_SIZE
from models.judging.pareto import Figures
from models.judging.record import CandidateReport
from models.recipe import Recipe

CODE = ("data", "artifact", "judging")
REPORT = "report.json"


class Work(BaseModel):
    """What a worker is handed: everything by value or address, so that it can run anywhere."""

    model_config = ConfigDict(frozen=True)

    recipe: Recipe
    data: DataRef
    point: Point


class Tried(BaseModel):
    """A point that was tried: its parcel, its figures, and the steps that hold them."""

    model_config = ConfigDict(frozen=True)

    point: Point
    digest: str
    parcel: str
    fitted: str
    judged: str
    num_parameters: int
    figures: Figures
    seconds: float

    @property
    def name(self) -> str:
        return self.point.name


def try_point(work: str) -> str:
    """A `Work` as JSON to a `Tried` as JSON; the entry point of a worker process."""
    import torch

    torch.set_num_threads(1)
    wanted = Work.model_validate_json(work)
    shop = open_quiet_workshop()
    session = point_session(shop, wanted.recipe, wanted.data, wanted.point)
    return tried(session, wanted.point).model_dump_json()


def point_session(shop: Workshop, recipe: Recipe, data: DataRef, point: Point) -> Session:
    """A session on the point's own recipe."""
    return Session(shop, point.recipe(recipe), prepared_from(shop, data), key_of("point", recipe.digest(), point.name))


def tried(session: Session, point: Point) -> Tried:
    """Everything about one point."""
    packed = pack_point(session, point)
    judged = judge_packed(session, point.name, packed)
    return Tried(
        point=point, digest=packed.notes["digest"], parcel=packed.key, fitted=session.steps[f"fit {point.name}"].key,
        judged=judged.key, num_parameters=packed.notes["num_parameters"],
        figures=Figures.model_validate(judged.notes), seconds=_seconds(session),
    )  # fmt: skip


def _seconds(session: Session) -> float:
    """Of the steps that were computed for it; a step is known by more than one name."""
    fresh = {done.key: done.seconds for done in session.steps.values() if not done.was_cached}
    return round(sum(fresh.values()), 3)


def judge_packed(session: Session, name: str, packed: Done) -> Done:
    """A parcel's figures on validation, and its report beside them."""
    recipe = session.recipe
    key = key_of(packed.key, recipe.judge.model_dump(), catalog.code_digest(*CODE))

    def compute(folder: Path) -> dict[str, Any]:
        judged = judge_parcel(packed.folder / PARCEL, session.snapshot, recipe, "val")
        (folder / REPORT).write_text(judged.report.model_dump_json(indent=1))
        predictor = Predictor.open(packed.folder / PARCEL)
        batch = side_by_side({name: predictor}, session.snapshot.samples("val"), BATCH_SIZE, 4, 25, 0.4)
        return figures_of(name, judged.report, batch[name]).model_dump()

    return session.note(f"judge {name}", once(session.shop, "point", key, compute))


def figures_of(name: str, report: CandidateReport, batch: Timing) -> Figures:
    """What selection looks at, from a report on validation and the times of a batch."""
    cost = report.cost
    return Figures(
        name=name, error=report.judged.value, num_bytes=cost.num_bytes, latency_p50_ms=cost.latency_p50_ms,
        latency_p99_ms=cost.latency_p99_ms, batch_p50_ms=batch.p50_ms, batch_p99_ms=batch.p99_ms,
        rows_per_second=batch.rows_per_second,
    )  # fmt: skip


def pack_point(session: Session, point: Point) -> Done:
    """The point's parcel: the teacher, the student, the pruned one, in this order, each fitted once."""
    full = point.in_full()
    floats = session if full == point else replace(session, recipe=full.recipe(session.recipe))
    last = _fit_all(floats, full)
    session.note(f"fit {point.name}", floats.note(f"fit {full.name}", floats.steps[f"fit {last.name}"]))
    packed = pack(floats, replace(last, name=full.name))
    return packed if full == point else pack_int8(session, point.name, full.name, packed)


def prepared_from(shop: Workshop, ref: DataRef) -> Prepared:
    """A snapshot by its address, from here or from the store. Raises UsageError when it is in neither."""
    return Prepared(ref, found(shop, "prepare", ref.key.rpartition("/")[2]))


def found(shop: Workshop, step: str, key: str) -> Done:
    """A step that was done before, here or on another machine. Raises UsageError when it is gone."""

    def gone(_: Path) -> dict[str, Any]:
        raise UsageError(f"{step} {key[:12]}: expected it here or in the store, got nothing; it was removed")

    return once(shop, step, key, gone)


def _fit_all(session: Session, point: Point) -> Variant:
    """Fit what the point needs; the last one is what is exported."""
    known = {variant.name: variant for variant in variants(session.recipe)}
    student = {"teacher": "teacher", "hard": "student_hard", "distilled": "student_distilled"}[point.base]
    order = [known["teacher"]] + ([known[student]] if student != "teacher" else [])
    if point.prune_share:
        pruned = next(variant for variant in known.values() if variant.role == "pruned")
        order.append(replace(pruned, config=known[student].config, origins=(student,)))
    for variant in order:
        fit(session, variant)
    return order[-1]


def report_at(done: Done) -> CandidateReport:
    """The report that lies beside a point's figures."""
    return CandidateReport.model_validate_json((done.folder / REPORT).read_text())
