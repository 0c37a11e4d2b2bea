"""The pictures and the card that a reviewer looks at, drawn from an evaluation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from flows.session import Session
from models.artifact.intervals import quantiles
from models.artifact.predictor import Predictor
from models.data.windows import Windows
from models.judging import figures
from models.judging.card import Lineage, model_card
from models.judging.closed_loop import ClosedLoop
from models.judging.gates import Verdict
from models.judging.loop_views import loop_figure
from models.judging.record import CandidateReport
from models.judging.select import Choice

NUM_NODES = 3  # shown in the forecast against actual


def draw(session: Session, folder: Path, record: Mapping[str, Any], folders: Mapping[str, Path]) -> None:
    """Write `figures/*.png` and `card.md` into the evaluation's folder."""
    reports = [CandidateReport.model_validate(item) for item in record["test"].values()]
    choice = Choice.model_validate(record["choice"])
    chosen = next(report for report in reports if report.name == choice.name)
    predictor = Predictor.open(folders[choice.name])
    place = folder / "figures"
    figures.tradeoff_figure(place / "size_accuracy_latency.png", reports, choice.name)
    if session.recipe.task == "forecast":
        figures.horizon_figure(place / "error_by_horizon.png", reports, choice.name)
        figures.hour_figure(place / "error_by_hour.png", reports, choice.name)
        _forecast(session, predictor, chosen, place / "forecast_against_actual.png")
    elif session.recipe.task == "classify":
        figures.confusion_figure(place / "confusion_matrix.png", chosen)
    _learning(session, place / "learning.png")
    lineage = Lineage(
        run_id=session.parent.run_id,
        code_commit=session.commit,
        recipe=session.recipe.name,
        recipe_digest=session.recipe.digest(),
        parcel_digest=chosen.parcel_digest,
    )
    verdict = Verdict.model_validate(record["verdict"])
    data, folds = session.snapshot.manifest, record["folds"] or {"folds": ()}
    losses = [fold["val_loss"] for fold in folds["folds"]]
    loop = ClosedLoop.model_validate(record["closed_loop"]) if record["closed_loop"] else None
    if loop is not None:
        loop_figure(place / "closed_loop.png", loop)
    card = model_card(predictor.manifest, verdict, choice, reports, data, lineage, losses, loop)
    (folder / "card.md").write_text(card)


def _forecast(session: Session, predictor: Predictor, report: CandidateReport, target: Path) -> None:
    """The last day of the test split: the nodes whose target varies most, spread over the series."""
    windows = session.snapshot.samples("test")
    if not isinstance(windows, Windows):
        return
    slots = session.snapshot.series.slots_per_day
    last = np.arange(max(len(windows) - slots, 0), len(windows))
    batch, step = windows.take(last), report.judged_step - 1
    actual = np.where(batch.target_mask[:, step] > 0, batch.target[:, step], np.nan)  # [S, N]
    answer = predictor.predict(batch.inputs)  # [S, H, N]
    forecast, band = answer[:, step], None
    if predictor.manifest.intervals is not None:
        band = quantiles(predictor.manifest, answer)[:, [0, -1], step].swapaxes(0, 1)  # [2, S, N]
    varied = np.argsort(-np.nan_to_num(np.nanstd(actual, axis=0)))[: max(NUM_NODES, actual.shape[1] // 3)]
    shown = np.sort(varied)[np.linspace(0, len(varied) - 1, min(NUM_NODES, len(varied))).astype(int)]
    time = windows.times(last) + np.timedelta64(round(report.judged_min * 60), "s")
    names = [predictor.manifest.nodes[node] for node in shown]
    shown_band = None if band is None else band[:, :, shown]
    figures.forecast_figure(target, time, actual[:, shown], forecast[:, shown], names, report, shown_band)


def _learning(session: Session, target: Path) -> None:
    """Loss by epoch of every candidate that was trained for more than one."""
    from models.training.checkpoint import read_history

    histories = {
        name.partition(" ")[2]: read_history(step.folder)
        for name, step in session.steps.items()
        if name.startswith("fit ")
    }
    trained: dict[str, Any] = {name: epochs for name, epochs in histories.items() if len(epochs) > 1}
    if trained:
        figures.learning_figure(target, trained)
