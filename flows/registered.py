"""A registered version that may meet clients: known, not deleted, and past its gates."""

from flows.live import live_model
from flows.options import UsageError
from flows.workshop import Workshop
from infra.promotion import DELETE, REGISTER, PromotionRefused, check_approvals, entry_ref, standing
from infra.refs import ModelRef


def registered_version(shop: Workshop, product: str, version: int | None) -> ModelRef:
    """A registered version that passed its gates; by default what the registry calls live.

    Raises UsageError for one that is not registered, PromotionRefused for one that failed.
    """
    if version is None:
        return live_model(shop, product)
    entries = shop.ledger.entries(product)
    gone = {entry.details["version"] for entry in entries if entry.action == DELETE}
    known = {e.details["version"]: e for e in entries if e.action == REGISTER and e.details["version"] not in gone}
    if version not in known:
        listed = ", ".join(map(str, sorted(known))) or "none"
        raise UsageError(f"product '{product}' version {version}: not registered; known versions: {listed}")
    if not known[version].details["passed"]:
        reasons = "; ".join(known[version].details["reasons"]) or "no reason"
        raise PromotionRefused(f"{product} version {version}: failed its gates: {reasons}")
    ref = entry_ref(known[version])
    if ref not in standing(entries).were_live:
        check_approvals(entries, known[version])
    return ref
