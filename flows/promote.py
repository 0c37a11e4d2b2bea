"""Registration with evidence, promotion by the gates' verdict, and what is or was live."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from flows.closed_loop import closed_loop
from flows.compress import PARCEL
from flows.evaluate import Evaluation, driven_gates, judge_parcel
from flows.options import UsageError
from flows.package import live_products, parcel_folder, snapshot_of
from flows.prepare import Prepared
from flows.session import Session
from flows.steps import Done, fetch_folder, key_of
from flows.workshop import Workshop
from infra.ledger import Entry
from infra.promotion import (
    DELETE,
    REGISTER,
    ApprovalMissing,
    ChampionChanged,
    Evidence,
    entry_ref,
    latest_evidence,
    num_approvals,
    standing,
    tenures,
)
from infra.refs import DataRef, ModelRef
from models.artifact.manifest import read_and_verify
from models.artifact.predictor import Predictor
from models.judging import gates
from models.judging.gates import Verdict
from models.recipe import Recipe

Word = Literal["promoted", "refused", "awaiting approval"]
PROMOTED: Word = "promoted"
REFUSED: Word = "refused"
AWAITING: Word = "awaiting approval"


@dataclass(frozen=True)
class Promotion:
    """The registered version, and whether it is on the road; `waiting`: for which approvals."""

    ref: ModelRef
    promoted: bool
    waiting: str = ""

    @property
    def verdict(self) -> Word:
        """In one word."""
        return PROMOTED if self.promoted else AWAITING if self.waiting else REFUSED


def promote(session: Session, evaluation: Evaluation) -> Promotion:
    """Register the chosen parcel with its evidence; put it on the road if it passed every gate. Idempotent.

    Where the recipe asks for approvals it waits for them, registered.
    """
    shop, recipe = session.shop, session.recipe
    digest = evaluation.chosen.parcel_digest
    live = standing(shop.ledger.entries(recipe.product)).live
    if live is not None and live.digest == digest and evaluation.verdict.passed:
        shop.registry.reconcile(recipe.product)
        return Promotion(live, promoted=True)
    name = evaluation.choice.name
    folder = next(
        step.folder
        for key, step in session.steps.items()
        if key.endswith(f" {name}") and (step.folder / PARCEL).exists()
    )
    for item in session.steps.values():
        if (item.folder / PARCEL).is_dir():  # the baselines too: a version judged again is held against them
            shop.store.put_folder(f"parcels/{item.notes['digest']}", item.folder / PARCEL)
    evidence = _evidence(session, evaluation, live)
    with session.tracked("promote", key_of(digest, evaluation.digest), {"candidate": name}) as run:
        source = _log_model(session, folder / PARCEL, evaluation, run)
        card = (evaluation.done.folder / "card.md").read_text()
        shop.tracking.log_files(run.run_id, evaluation.done.folder / "card.md")
        tags = {"candidate": name, "sentence": evaluation.choice.sentence, "lifecycle": session.parent.run_id}
        ref = shop.registry.register(
            recipe.product, digest=digest, source=source, run_id=session.parent.run_id, evidence=evidence,
            description=card, tags={**tags, "roadworthy.evaluation": evaluation.done.address},
        )  # fmt: skip
        return _promoted(shop, ref, evidence)


def _evidence(session: Session, evaluation: Evaluation, live: ModelRef | None) -> Evidence:
    report, verdict = evaluation.chosen, evaluation.verdict
    beside = live.digest if live and live.digest in evaluation.parcels.values() else ""
    return Evidence(
        digest=evaluation.digest,
        passed=verdict.passed,
        reasons=verdict.reasons,
        metrics={item.name + "_" + item.convention.replace("-", "_"): item.value for item in report.metrics},
        data_digest=session.prepared.ref.digest,
        code_commit=session.commit,
        num_approvals=session.recipe.judge.num_approvals,
        against=evaluation.judged_against or beside,
    )


def _promoted(shop: Workshop, ref: ModelRef, evidence: Evidence) -> Promotion:
    """On the road, unless a gate, an approval or, in the meantime, another champion is in the way."""
    if not evidence.passed:
        return Promotion(ref, promoted=False)
    try:
        shop.registry.promote(ref, evidence.digest)
    except ApprovalMissing as waiting:
        return Promotion(ref, promoted=False, waiting=str(waiting))
    except ChampionChanged:
        record = promote_version(shop, ref.product, ref.version)
        is_waiting = record["verdict"] == AWAITING
        return Promotion(ref, record["verdict"] == PROMOTED, record["reasons"][0] if is_waiting else "")
    return Promotion(ref, promoted=True)


def promote_version(shop: Workshop, product: str, version: int | None, asked: str = "") -> dict[str, Any]:
    """Judge a registered version again, against what is live now, and promote it if it passes.

    What people approved is promoted as they saw it: judged again only where another champion is live by now, and then
    it waits for approvals of that. asked: who or what asked, for the ledger. Raises UsageError for a version that is
    not registered.
    """
    ref = registered(shop, product, version)
    entries = shop.ledger.entries(product)
    live, known = standing(entries).live, latest_evidence(entries, ref)
    verdict = None
    if known and _was_seen(known, live):
        evidence = str(known.details["evidence"])
    else:
        verdict = judge_again(shop, ref, live)
        evidence = _witnessed(shop, ref, live, verdict, num_approvals(known) if known else 0)
    word, reasons = PROMOTED, list(verdict.reasons) if verdict else []
    if verdict and not verdict.passed:
        word = REFUSED
    else:
        try:
            shop.registry.promote(ref, evidence, asked)
        except ApprovalMissing as waiting:
            word, reasons = AWAITING, [str(waiting)]
    return {
        "product": product,
        "version": ref.version,
        "verdict": word,
        "reasons": reasons,
        "gates": [gate.model_dump(mode="json") for gate in verdict.results] if verdict else [],
    }


def _was_seen(known: Entry, live: ModelRef | None) -> bool:
    """Whether people approve, or approved, this very evidence, and it still holds against what is live."""
    is_current = known.details.get("against") == (live.digest if live else "")
    return bool(num_approvals(known) and known.details["passed"] and is_current)


def _witnessed(shop: Workshop, ref: ModelRef, live: ModelRef | None, verdict: Verdict, needed: int) -> str:
    """The digest of this verdict as evidence, which the ledger has by now."""
    against = live.digest if live else ""
    digest = key_of(ref.digest, verdict.model_dump(mode="json"), against)
    evidence = Evidence(digest, verdict.passed, verdict.reasons, num_approvals=needed, against=against)
    shop.registry.judged_again(ref, evidence)
    return digest


def judge_again(shop: Workshop, ref: ModelRef, live: ModelRef | None) -> Verdict:
    """The gates' verdict on a registered version today: the same snapshot and baselines, the present champion."""
    folder = parcel_folder(shop, ref.digest)
    manifest = read_and_verify(folder)
    snapshot = snapshot_of(shop, manifest.data_digest)
    record = evaluation_of(shop, ref)
    recipe = Recipe.model_validate(record["recipe"])
    candidate = judge_parcel(folder, snapshot, recipe, "test")
    references = {
        name: judge_parcel(parcel_folder(shop, record["parcels"][name]), snapshot, recipe, "test")
        for name in record["baselines"]
    }
    champion = judge_parcel(parcel_folder(shop, live.digest), snapshot, recipe, "test") if live else None
    session = session_from(shop, record)
    loop = closed_loop(session, candidate.report.name, folder, ref.digest)
    rival = live if live and live.digest != ref.digest else None
    return gates.judge(candidate, references, champion, recipe.judge, driven_gates(session, loop, rival))


def evaluation_of(shop: Workshop, ref: ModelRef) -> dict[str, Any]:
    """What the evaluation of a registered version found: its recipe, data, parcels and reports.

    Raises UsageError where the version's page names none of this parcel: anybody can edit tags.
    """
    address = shop.registry.version_tags(ref).get("roadworthy.evaluation", "")
    record = json.loads((fetch_folder(shop, address) / "evaluation.json").read_text()) if address else {"parcels": {}}
    if ref.digest not in record["parcels"].values():
        raise UsageError(
            f"{ref.product} version {ref.version}, tag roadworthy.evaluation: expected the address of an evaluation of "
            f"parcel {ref.digest[:12]}, got {address or 'none'}; put the tag right, or train it again"
        )
    return dict(record)


def session_from(shop: Workshop, record: Mapping[str, Any]) -> Session:
    """The session that an evaluation was part of, its snapshot fetched when it is not here."""
    ref = DataRef.model_validate(record["data"])
    done = Done("prepare", ref.key.rpartition("/")[2], fetch_folder(shop, ref.key), {}, 0.0, was_cached=True)
    recipe, parcels = Recipe.model_validate(record["recipe"]), record["parcels"]
    return Session(shop, recipe, Prepared(ref, done), key_of(parcels), parcels=parcels)


def roll_back(shop: Workshop, product: str) -> dict[str, Any]:
    """The version that was live before is live again. Raises PromotionRefused when there is none."""
    replaced = standing(shop.ledger.entries(product)).live
    ref = shop.registry.rollback(product)
    return {
        "product": product,
        "version": ref.version,
        "digest": ref.digest,
        "replaced": replaced.version if replaced else None,
    }


def what_is_live(shop: Workshop, product: str, at: str | None) -> list[dict[str, Any]]:
    """Product, version, digest and since when, of all products or one, now or at a time. Raises UsageError."""
    moment = _moment(at) if at else None
    rows = []
    for name in [product] if product else live_products(shop):
        held = tenures(shop.ledger.entries(name))
        begun = [one for one in held if moment is None or datetime.fromisoformat(one["since"]) <= moment]
        rows += [{"product": name, **{key: begun[-1][key] for key in ("version", "digest", "since")}}] if begun else []
    return rows


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"--at {text}: expected an ISO time, e.g. 2026-11-22T02:30:00") from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def registered(shop: Workshop, product: str, version: int | None) -> ModelRef:
    """A registered version, by default the newest. Raises UsageError naming those that are known."""
    entries = shop.ledger.entries(product)
    gone = {entry.details["version"] for entry in entries if entry.action == DELETE}
    known = {
        e.details["version"]: entry_ref(e) for e in entries if e.action == REGISTER and e.details["version"] not in gone
    }
    wanted = version if version is not None else max(known, default=0)
    if wanted not in known:
        listed = ", ".join(map(str, sorted(known))) or "none"
        raise UsageError(f"product '{product}' version {wanted or ''}: not registered; known versions: {listed}")
    return known[wanted]


def _log_model(session: Session, folder: Path, evaluation: Evaluation, run: Any) -> str:
    from infra.tracked_model import log_model_parcel

    predictor = Predictor.open(folder)
    samples = session.snapshot.samples("val")
    inputs = samples.take(np.arange(min(2, len(samples)))).inputs
    return log_model_parcel(
        session.shop.tracking, run, folder, name=session.recipe.product, digest=evaluation.chosen.parcel_digest,
        inputs=inputs, outputs=predictor.predict(inputs), params={"recipe": session.recipe.digest()},
        metrics=evaluation.chosen.flat(), task=session.recipe.task,
    )  # fmt: skip
