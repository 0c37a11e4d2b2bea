"""An alias set by hand in MLflow: judged and put on the road, or put back with the reason.

Nobody becomes champion by an alias alone: who sets one asks for a promotion. What the alias shows now is the wish; the
event that told of it is only a hint, so an event may be lost, late or doubled.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow

from flows.options import UsageError
from flows.workshop import Workshop, open_workshop
from infra.aliases import MovedAlias
from infra.ledger import Entry
from infra.promotion import CHALLENGER, CHAMPION, PromotionRefused, is_unsettled, standing

NOTHING = "nothing"
ASKED = "alias champion set in MLflow"
WHY = {
    CHAMPION: "the live version is taken off the road by promoting another one, or by: roadworthy rollback",
    CHALLENGER: "it names the version that was live before this one; set champion to ask for a promotion",
}


# What was done before a server died is found again, so the whole may be tried again.
@flow(name="promote-from-ui", flow_run_name="{product} {alias} {version}", retries=3, retry_delay_seconds=20)
def promote_from_ui(
    product: str, alias: str = CHAMPION, version: int | None = None, plan: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Settle the aliases of a product that somebody moved in MLflow.

    1. look: where is the alias, where does the ledger put it
    2. judge: the same gates, evidence, approvals and ledger as `roadworthy promote`
    3. promoted: package, roll out where the product is deployed; a roll-out that goes back takes the registry back
    4. else: the alias goes back, and the version's page says why
    """
    return settle(open_workshop(), product, version if alias == CHAMPION else None, plan)


def settle_aliases(shop: Workshop) -> list[dict[str, Any]]:
    """The same for every product: what events did not tell. One record for each product where something was moved."""
    products = sorted({entry.product for entry in shop.ledger.entries() if entry.product})
    records = [settle(shop, product, patience_s=0.0) for product in products]
    return [one for one in records if one["verdict"] != NOTHING]


def settle(
    shop: Workshop, product: str, version: int | None = None, plan: dict[str, Any] | None = None,
    patience_s: float = -1.0,
) -> dict[str, Any]:  # fmt: skip
    """Make ledger, MLflow and road one again; `verdict`: promoted, refused, awaiting approval, put back or nothing.

    version: the one that was asked for; where it is live by now and not on the road, its roll-out goes on. One process
    at a time settles a product; another waits for it `patience_s` (below 0: as long as it takes), then does nothing.
    """
    file = shop.ledger.path.with_name(f"settle-{product}.lock")
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(file, timeout=patience_s):
            return _settle(shop, product, version, plan)
    except Timeout:
        return {"product": product, "version": version, "verdict": NOTHING, "reasons": ["another process is at it"]}


def _settle(shop: Workshop, product: str, version: int | None, plan: dict[str, Any] | None) -> dict[str, Any]:
    entries = shop.ledger.entries(product)
    moved = {one.alias: one for one in shop.registry.moved(product)} if entries else {}
    live = standing(entries).live
    if wish := _wish(moved, entries, version):
        return _judged(shop, product, wish, plan)
    if moved:
        why = {alias: WHY[alias] for alias in moved}
        shop.registry.reconcile(product, why)
        return {"product": product, "version": None, "verdict": "put back", "reasons": list(why.values())}
    if version is None or live is None or live.version != version:
        return {"product": product, "version": version, "verdict": NOTHING, "reasons": []}
    return _followed(shop, {"product": product, "version": version, "verdict": "promoted", "reasons": []}, plan)


def _wish(moved: Mapping[str, MovedAlias], entries: Sequence[Entry], version: int | None) -> int | None:
    """The version that somebody wants to be champion; also where another command put the alias back meanwhile."""
    if CHAMPION in moved:
        return moved[CHAMPION].found
    return version if version is not None and is_unsettled(entries, version) else None


def _judged(shop: Workshop, product: str, version: int, plan: dict[str, Any] | None) -> dict[str, Any]:
    from flows.promote import promote_version  # imports torch and MLflow
    from models.artifact.manifest import ParcelError

    try:
        record = promote_version(shop, product, version, ASKED)
    except (UsageError, PromotionRefused, ParcelError) as error:
        record = {"product": product, "version": version, "verdict": "refused", "reasons": [str(error)]}
    if record["verdict"] == "promoted":
        return _followed(shop, record, plan)
    reason = "; ".join(record["reasons"])
    put_back = shop.registry.reconcile(product, {**WHY, CHAMPION: reason})
    if not any(CHAMPION in problem.what for problem in put_back):  # another command was faster
        shop.registry.refuse(product, version, reason)
    return record


def _followed(shop: Workshop, record: dict[str, Any], plan: dict[str, Any] | None) -> dict[str, Any]:
    """With what came of it on the road."""
    from flows.on_the_road import on_the_road

    road = on_the_road(shop, record["product"], plan)
    if road["verdict"] != "rolled back":
        return {**record, "road": road}
    reason = f"its roll-out went back: {road['reason']}"
    shop.registry.refuse(record["product"], record["version"], reason)
    return {**record, "verdict": "refused", "reasons": [reason], "road": road}
