"""Takes raw data to a promoted, packaged model, or to a refusal with its reasons.

This is the main job on one screen.
"""

import time
from collections.abc import Callable
from typing import Any, TypeVar

from prefect import flow, task

from flows.closed_loop import need_simulator
from flows.compress import pack, pack_int8, quantised
from flows.evaluate import evaluate, refuse_other_question
from flows.finished import keep_outcome
from flows.folds import cross_validated
from flows.package import package_live
from flows.prepare import build_recipe, prepare_data
from flows.promote import promote
from flows.publish import Publisher, is_transient
from flows.session import Session, lifecycle_key
from flows.summary import outcome_of
from flows.train import fit, variants
from flows.workshop import open_workshop

T = TypeVar("T")
PAUSES_S = [5.0, 10.0, 20.0, 40.0, 60.0]  # a server that was killed is back within them


def step(name: str, function: Callable[..., T], *arguments: Any) -> T:
    """Run one step as a Prefect task; only a server that cannot be reached is tried again, for two minutes."""

    @task(name=name, retries=len(PAUSES_S), retry_delay_seconds=PAUSES_S, retry_condition_fn=is_transient)
    def run() -> T:
        return function(*arguments)

    return run()


@flow(name="lifecycle", flow_run_name="{recipe} on {data}")
def lifecycle(
    recipe: str,
    data: str | None = None,
    settings: dict[str, Any] | None = None,
    product: str = "",
    until: str = "package",
) -> dict[str, Any]:
    """Raw data to a promoted, packaged model, or a refusal with its reasons.

    1. prepare: fetch, check the contract, mask, split, scale: an immutable snapshot
    2. train: the baselines and the teacher
    3. compress: students with and without the teacher, pruned, exported with parity, int8
    4. evaluate: every parcel through the predictor that serves; the cheapest that is not worse; its gates
    5. promote: registered with its evidence; on the road only if every gate was passed
    6. package: the Bento of what is live
    """
    began = time.perf_counter()
    shop = open_workshop()
    full = build_recipe(shop, recipe, data, settings, product)
    need_simulator(full)
    prepared = step("prepare", prepare_data, shop, full)
    session = Session(shop, full, prepared, lifecycle_key(full, prepared.done.key, shop.config.watermark_owner))
    session.note("prepare", prepared.done)
    if until in ("evaluate", "package"):
        refuse_other_question(session)
    candidates = [
        one for one in variants(full) if until != "train" or (one.role == "plain" and "student" not in one.name)
    ]
    with Publisher(session, len(candidates)) as publisher:
        session.watch = publisher
        for variant in candidates:
            step(f"fit {variant.name}", fit, session, variant)
        if until == "train":
            return publisher.steps_done()
        parcels = {one.name: step(f"export {one.name}", pack, session, one) for one in candidates}
        for name, origin in quantised(session):
            parcels[name] = step(f"quantise {name}", pack_int8, session, name, origin, parcels[origin])
        if until == "compress":
            return publisher.steps_done()
        if full.train.num_folds:
            step("folds", cross_validated, session)
        evaluation = step("evaluate", evaluate, session, parcels)
        promotion = step("promote", promote, session, evaluation) if until == "package" else None
        bento = step("package", package_live, shop, full.product) if promotion and promotion.promoted else None
        outcome = outcome_of(session, evaluation, promotion, bento, round(time.perf_counter() - began, 3))
        if until == "package":
            keep_outcome(shop, session.key, outcome)
        publisher.publish(outcome, evaluation)
        session.finish()
    return outcome.model_dump(mode="json")
