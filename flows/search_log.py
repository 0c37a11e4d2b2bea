"""The search in MLflow: one run, under it one for every point, with its teacher.

Points on the front are logged as models, and their parcels lie in the store by digest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Any

import numpy as np

from flows.compress import PARCEL
from flows.search_front import Decision
from flows.search_outcome import SearchOutcome, markdown
from flows.search_point import Tried, found
from flows.session import Session
from infra.tracking import TrackedRun
from models.artifact.predictor import Predictor
from models.compression.space import Point
from models.judging.pareto import Budget
from models.judging.pareto_figure import pareto_figure

TEACHER_TAG, PARCEL_TAG = "roadworthy.teacher", "roadworthy.parcel"
EPOCHS = ("number", "train_loss", "val_loss", "learning_rate", "seconds")


class SearchSession(Session):
    """A session whose run is that of a search."""

    @cached_property
    def parent(self) -> TrackedRun:
        """The search's run in MLflow, found again by its key after a kill."""
        recipe = self.recipe
        tags = {
            "roadworthy.data": self.prepared.ref.digest,
            "roadworthy.commit": self.commit,
            "roadworthy.search": "yes",
        }
        name = f"search {recipe.name} on {recipe.data.name} {self.key[:6]}"
        return self.shop.tracking.lifecycle_run(recipe.product, self.key, recipe.model_dump(mode="json"), tags, name)


def log_point(session: Session, one: Tried, teacher_digest: str, loss: float) -> str:
    """The run of one point; logged once, its id."""
    tracking = session.shop.tracking
    params = {**one.point.model_dump(mode="json"), "parcel": one.digest, "num_parameters": one.num_parameters}
    tags = {TEACHER_TAG: teacher_digest, PARCEL_TAG: one.digest, "mlflow.note.content": one.point.words()}
    run = tracking.step_run(session.parent, f"point {one.name}", one.judged, params, tags)
    if run.finished:
        return run.run_id
    from models.training.checkpoint import read_history

    history = [asdict(epoch) for epoch in read_history(found(session.shop, "fit", one.fitted).folder)]
    tracking.log_epochs(run.run_id, [{name: epoch[name] for name in EPOCHS} for epoch in history])
    tracking.log_metrics(run.run_id, {**_numbers(one.figures.model_dump()), "loss": loss, "seconds": one.seconds})
    tracking.finish(run.run_id)
    return run.run_id


def log_failed(session: Session, point: Point, reason: str) -> None:
    """The run of a point that could not be tried."""
    tracking = session.shop.tracking
    run = tracking.step_run(session.parent, f"point {point.name}", point.name, point.model_dump(mode="json"))
    tracking.set_tags(run.run_id, {"mlflow.note.content": reason})
    tracking.finish(run.run_id, "FAILED")


def keep_front(
    session: Session, decision: Decision, tried: Sequence[Tried], teacher_digest: str, tests: Mapping[str, float]
) -> dict[str, str]:
    """Parcels of the front to the store, each logged as a model of its point's run; addresses by name."""
    from infra.tracked_model import log_model_parcel

    shop, addresses = session.shop, {}
    inputs = session.snapshot.samples("val").take(np.arange(2)).inputs
    for one in tried:
        if one.name not in decision.front:
            continue
        folder = found(shop, "parcel", one.parcel).folder / PARCEL
        shop.store.put_folder(f"parcels/{one.digest}", folder)
        run_id = log_point(session, one, teacher_digest, decision.losses[one.name])
        run = TrackedRun(
            run_id=run_id, step=f"point {one.name}", key=one.judged, finished=True,
            experiment_id=session.parent.experiment_id,
        )  # fmt: skip
        figures = _numbers(decision.points[one.name].model_dump()) | {"loss": decision.losses[one.name]}
        addresses[one.name] = log_model_parcel(
            shop.tracking, run, folder, name=one.name, digest=one.digest, inputs=inputs,
            outputs=Predictor.open(folder).predict(inputs),
            params={"teacher": teacher_digest, "what": one.point.words()},
            metrics={**figures, "test_error": tests[one.name]}, task=session.recipe.task,
        )  # fmt: skip
    return addresses


def log_search(session: Session, outcome: SearchOutcome, decision: Decision, budget: Budget) -> None:
    """Picture, tables, description and figures of the whole search."""
    tracking, run_id = session.shop.tracking, session.parent.run_id
    picture = session.shop.home / "work" / "search" / session.key / "figures" / "pareto.png"
    pareto_figure(
        picture, list(decision.points.values()), decision.teacher, decision.front, decision.best, budget,
        outcome.judged, outcome.unit,
    )  # fmt: skip
    tracking.log_figures(run_id, picture.parent)
    tracking.log_table(run_id, "points", outcome.trials)
    tracking.log_table(run_id, "front", [row for row in outcome.trials if row["name"] in outcome.front])
    figures = {f"teacher_{name}": value for name, value in _numbers(outcome.teacher).items()}
    figures |= {f"best_{name}": value for name, value in _numbers(outcome.best or {}).items()}
    tracking.log_metrics(run_id, {**figures, "num_tried": outcome.num_tried, "num_front": len(outcome.front)})
    bounds = {f"budget.{name}": str(value) for name, value in outcome.budget.items() if value is not None}
    tags = {TEACHER_TAG: outcome.teacher["digest"], "verdict": outcome.verdict, **bounds}
    tracking.set_tags(run_id, {**tags, "mlflow.note.content": markdown(outcome)})


def _numbers(row: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}
