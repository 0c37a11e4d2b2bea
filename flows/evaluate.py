"""Judges every parcel through the predictor that serves.

The cheapest that is not worse is chosen and goes through its gates.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.closed_loop import closed_loop, loop_code
from flows.compress import PARCEL
from flows.options import UsageError
from flows.package import parcel_folder
from flows.session import Session
from flows.steps import Done, key_of, once
from flows.train import competitors
from infra.promotion import standing
from infra.refs import ModelRef
from models import catalog
from models.artifact.manifest import Manifest as ParcelManifest
from models.artifact.manifest import read_and_verify
from models.artifact.predictor import Predictor
from models.data.snapshot import Snapshot
from models.judging import gates
from models.judging.closed_loop import ClosedLoop, champion_gate, loop_gate
from models.judging.gates import GateResult, Verdict
from models.judging.measure import measure
from models.judging.record import CandidateReport, Judged
from models.judging.report import judge
from models.judging.select import Candidate, Choice, choose
from models.recipe import Recipe

CODE = ("data", "artifact", "judging")
CHAMPION = "champion"


@dataclass(frozen=True)
class Evaluation:
    """What the judging found, read from its step's folder. `parcels` are the digests of the candidates."""

    done: Done
    parcels: Mapping[str, str]

    @cached_property
    def record(self) -> dict[str, Any]:
        return json.loads((self.done.folder / "evaluation.json").read_text())  # type: ignore[no-any-return]

    @property
    def choice(self) -> Choice:
        return Choice.model_validate(self.record["choice"])

    @property
    def verdict(self) -> Verdict:
        return Verdict.model_validate(self.record["verdict"])

    @property
    def test(self) -> dict[str, CandidateReport]:
        return {name: CandidateReport.model_validate(item) for name, item in self.record["test"].items()}

    @property
    def chosen(self) -> CandidateReport:
        return self.test[self.choice.name]

    @property
    def judged_against(self) -> str | None:
        """Parcel of the champion that it was compared with, if one was live."""
        return self.record["champion"]  # type: ignore[no-any-return]

    @property
    def digest(self) -> str:
        """Of the evidence."""
        return str(self.done.notes["digest"])


def evaluate(session: Session, packed: Mapping[str, Done], choice: Choice | None = None) -> Evaluation:
    """Judge all parcels on validation and test; computed anew only when a parcel, the rules or the champion changed.

    choice: made already, by a search under its own budget; else the cheapest that is not worse is chosen here
    """
    recipe, shop = session.recipe, session.shop
    parcels = {name: done.notes["digest"] for name, done in packed.items()}
    live = standing(shop.ledger.entries(recipe.product)).live
    champion = live if live and live.digest not in parcels.values() else None
    key = key_of(
        parcels, recipe.judge.model_dump(), champion.digest if champion else "", sorted(competitors(recipe)),
        recipe.data.name, catalog.code_digest(*CODE), *([choice.model_dump(mode="json")] if choice else []),
        *loop_code(recipe.task),
    )  # fmt: skip

    def compute(folder: Path) -> dict[str, Any]:
        with session.tracked("evaluate", key, recipe.judge.model_dump()) as run:
            folders = {name: done.folder / PARCEL for name, done in packed.items()}
            record, judged = _judge_all(session, folders, champion, choice)
            for name, one in judged.items():
                one.errors.save(folder / f"errors_{name}.npy")
            evidence = json.dumps(record, indent=1, sort_keys=True)
            (folder / "evaluation.json").write_text(evidence)
            from flows.figures import draw

            draw(session, folder, record, folders)
            _log(session, run.run_id, record, folder)
            return {"digest": key_of(evidence), "run_id": run.run_id}

    done = session.note("evaluate", once(shop, "evaluate", key, compute))
    return Evaluation(done, parcels)


def judge_parcel(folder: Path, snapshot: Snapshot, recipe: Recipe, split: str) -> Judged:
    """One parcel on one split, opened and verified first; the cost is measured on validation samples."""
    predictor = Predictor.open(folder)
    return judge(
        predictor,
        snapshot.samples(split),
        measure(predictor, snapshot.samples("val")),
        split=split,
        data_digest=snapshot.manifest.digest,
        confidence=recipe.judge.confidence,
        num_resamples=recipe.judge.num_resamples,
        node_class=snapshot.manifest.node_class,
    )


def _judge_all(
    session: Session, folders: Mapping[str, Path], champion: ModelRef | None, choice: Choice | None
) -> tuple[dict[str, Any], dict[str, Judged]]:
    recipe, snapshot = session.recipe, session.snapshot
    val, test = {}, {}
    for place, (name, folder) in enumerate(folders.items(), 1):
        session.watch("evaluate", place / len(folders), name)
        val[name] = judge_parcel(folder, snapshot, recipe, "val")
        test[name] = _with_cost(judge_parcel(folder, snapshot, recipe, "test"), val[name])
    choice = choice or _choose(recipe, snapshot, val)
    live = _judge_champion(session, champion) if champion else None
    known = catalog.families(recipe.task)
    references = {name: one for name, one in test.items() if name in known}
    loop = closed_loop(session, choice.name, folders[choice.name], test[choice.name].report.parcel_digest)
    driven = driven_gates(session, loop, champion)
    verdict = gates.judge(test[choice.name], references, live, recipe.judge, driven)
    record = {
        "recipe": recipe.model_dump(mode="json"),
        "data": session.prepared.ref.model_dump(),
        "parcels": {name: one.report.parcel_digest for name, one in test.items()},
        "choice": choice.model_dump(mode="json"),
        "verdict": verdict.model_dump(mode="json"),
        "champion": champion.digest if champion else None,
        "val": {name: one.report.model_dump(mode="json") for name, one in val.items()},
        "test": {name: one.report.model_dump(mode="json") for name, one in test.items()},
        "baselines": sorted(references),
        "folds": session.steps["folds"].notes if "folds" in session.steps else None,
        "closed_loop": loop.model_dump(mode="json") if loop else None,
    }
    return record, {**test, **({CHAMPION: live} if live else {})}


def driven_gates(session: Session, loop: ClosedLoop | None, champion: ModelRef | None) -> list[GateResult]:
    """What driving showed: against the best reference, and against what is live."""
    if loop is None:
        return []
    rival = None
    if champion is not None:
        folder = parcel_folder(session.shop, champion.digest)
        rival = closed_loop(session, CHAMPION, folder, champion.digest)
    return [loop_gate(loop), champion_gate(loop, rival, session.recipe.judge.confidence)]


def _choose(recipe: Recipe, snapshot: Snapshot, val: Mapping[str, Judged]) -> Choice:
    wanted = competitors(recipe) or set(val)
    candidates = [
        Candidate(name, one.report.judged.value, one.report.cost.num_bytes, one.report.cost.latency_p99_ms)
        for name, one in val.items()
        if name in wanted
    ]
    first = next(iter(val.values())).report
    return choose(
        candidates,
        tolerance=recipe.judge.tolerance,
        max_bytes=recipe.judge.max_bytes,
        max_latency_ms=recipe.judge.max_latency_ms,
        metric=first.judged_name,
        unit=first.unit,
        resolution=1.0 / len(snapshot.samples("val")) if recipe.task == "classify" else 0.0,
    )


def refuse_other_question(session: Session) -> None:
    """Raises UsageError when what is live answers another question: known before anything is trained."""
    live = standing(session.shop.ledger.entries(session.recipe.product)).live
    if live is not None:
        _check_question(session, live, read_and_verify(parcel_folder(session.shop, live.digest)))


def _judge_champion(session: Session, champion: ModelRef) -> Judged:
    """The live model on the same test split. Raises UsageError when it answers another question."""
    folder = parcel_folder(session.shop, champion.digest)
    _check_question(session, champion, read_and_verify(folder))
    return judge_parcel(folder, session.snapshot, session.recipe, "test")


def _check_question(session: Session, champion: ModelRef, theirs: ParcelManifest) -> None:
    data = session.snapshot.manifest
    asked = (data.task, data.nodes, data.channels, data.past_steps, data.horizon_steps, data.classes, data.inputs)
    past_steps, horizon_steps = theirs.past_steps or data.past_steps, theirs.horizon_steps or data.horizon_steps
    if asked != (
        theirs.task, theirs.nodes, theirs.channels, past_steps, horizon_steps, theirs.classes, theirs.inputs
    ):  # fmt: skip
        raise UsageError(
            f"product {champion.product}: version {champion.version} is live for other sensors, channels, steps or "
            "classes, so the new model cannot be held against it; choose another name: --product NAME"
        )


def _with_cost(judged: Judged, measured: Judged) -> Judged:
    """One measurement of cost per candidate, whichever split is looked at."""
    return Judged(judged.report.model_copy(update={"cost": measured.report.cost}), judged.errors)


def _log(session: Session, run_id: str, record: Mapping[str, Any], folder: Path) -> None:
    tracking = session.shop.tracking
    tests = {name: CandidateReport.model_validate(item) for name, item in record["test"].items()}
    chosen = tests[record["choice"]["name"]].flat()
    tracking.log_metrics(run_id, chosen)
    tracking.log_metrics(session.parent.run_id, chosen)
    rows = [{"candidate": name, **report.flat()} for name, report in tests.items()]
    loop = record["closed_loop"]
    for run in (run_id, session.parent.run_id):
        tracking.log_table(run, "candidates", rows)
        if loop:
            tracking.log_table(run, "closed_loop", loop["scenarios"])
        tracking.log_figures(run, folder / "figures")
        tracking.set_tags(run, {"mlflow.note.content": (folder / "card.md").read_text()})
    tracking.log_files(run_id, folder / "evaluation.json")
