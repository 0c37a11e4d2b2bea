"""Registration with evidence, promotion by the gates' verdict, and what is or was live."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
from infra.promotion import DELETE, REGISTER, Evidence, entry_ref, standing, tenures
from infra.refs import DataRef, ModelRef
from models.artifact.manifest import read_and_verify
from models.artifact.predictor import Predictor
from models.judging import gates
from models.judging.gates import Verdict
from models.recipe import Recipe


@dataclass(frozen=True)
class Promotion:
    """The registered version, and whether it is on the road."""

    ref: ModelRef
    promoted: bool


def promote(session: Session, evaluation: Evaluation) -> Promotion:
    """Register the chosen parcel with its evidence; put it on the road if it passed every gate. Idempotent."""
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
    verdict = evaluation.verdict
    report = evaluation.chosen
    evidence = Evidence(
        digest=evaluation.digest,
        passed=verdict.passed,
        reasons=verdict.reasons,
        metrics={item.name + "_" + item.convention.replace("-", "_"): item.value for item in report.metrics},
        data_digest=session.prepared.ref.digest,
        code_commit=session.commit,
    )
    with session.tracked("promote", key_of(digest, evaluation.digest), {"candidate": name}) as run:
        source = _log_model(session, folder / PARCEL, evaluation, run)
        card = (evaluation.done.folder / "card.md").read_text()
        shop.tracking.log_files(run.run_id, evaluation.done.folder / "card.md")
        tags = {"candidate": name, "sentence": evaluation.choice.sentence, "lifecycle": session.parent.run_id}
        ref = shop.registry.register(
            recipe.product, digest=digest, source=source, run_id=session.parent.run_id, evidence=evidence,
            description=card, tags={**tags, "roadworthy.evaluation": evaluation.done.address},
        )  # fmt: skip
        if verdict.passed:
            shop.registry.promote(ref, evidence.digest)
    return Promotion(ref, verdict.passed)


def promote_version(shop: Workshop, product: str, version: int | None) -> dict[str, Any]:
    """Judge a registered version again, against what is live now, and promote it if it passes.

    Raises UsageError for a version that is not registered.
    """
    ref = _registered(shop, product, version)
    live = standing(shop.ledger.entries(product)).live
    verdict = judge_again(shop, ref, live)
    evidence = Evidence(
        digest=key_of(ref.digest, verdict.model_dump(mode="json"), live.digest if live else ""),
        passed=verdict.passed,
        reasons=verdict.reasons,
    )
    shop.registry.judged_again(ref, evidence)
    if verdict.passed:
        shop.registry.promote(ref, evidence.digest)
    return {
        "product": product,
        "version": ref.version,
        "verdict": "promoted" if verdict.passed else "refused",
        "reasons": list(verdict.reasons),
        "gates": [gate.model_dump(mode="json") for gate in verdict.results],
    }


def judge_again(shop: Workshop, ref: ModelRef, live: ModelRef | None) -> Verdict:
    """The gates' verdict on a registered version today: the same snapshot and baselines, the present champion."""
    folder = parcel_folder(shop, ref.digest)
    manifest = read_and_verify(folder)
    snapshot = snapshot_of(shop, manifest.data_digest)
    tags = shop.registry.version_tags(ref)
    evaluation = fetch_folder(shop, tags["roadworthy.evaluation"])
    record = json.loads((evaluation / "evaluation.json").read_text())
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


def _registered(shop: Workshop, product: str, version: int | None) -> ModelRef:
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
