"""People's approval of what passed its gates; the last one that is needed promotes.

A recipe asks for so many (`judge.num_approvals`). An approval is an entry of the ledger by the name of a key whose role
may promote; tags in MLflow count for nothing, since anybody can edit them. It holds for exactly the evidence that was
there to be looked at: where another champion went live since, the version is judged again and approved anew.
"""

from pathlib import Path
from typing import Any

from argon2.exceptions import InvalidHashError, VerificationError

from flows.access import keys_file
from flows.live import live_products
from flows.local_key import NAME as HOMES_OWN
from flows.options import UsageError
from flows.workshop import Workshop, now
from infra.api_keys import ANY, HASHER, ApiKeyError, KeyFile, KeyRecord
from infra.key_ring import SHAPE
from infra.ledger import Entry
from infra.promotion import REGISTER, approvals, entry_ref, latest_evidence, standing
from infra.promotion import num_approvals as _asked
from infra.refs import ModelRef
from infra.roles import includes

NEEDED_ROLE = "promoter"
CHANGED = "another version went live since it was judged: it was judged again; look at that, then approve it"
HOW = 'roadworthy key create "THEIR NAME" --role promoter'


def approve(
    shop: Workshop, product: str, version: int | None, raw_key: str, note: str = "", plan: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Enter a person's approval; with the last one the version is promoted, packaged and rolled out.

    Repeated, it goes on where it was interrupted. Raises UsageError, ApiKeyError, PromotionRefused.
    """
    known = _waiting_evidence(shop, product, version)
    person = approver(shop, raw_key, product)
    from flows.on_the_road import on_the_road
    from flows.promote import promote_version  # imports torch

    ref, live = entry_ref(known), standing(shop.ledger.entries(product)).live
    if not _is_current(known, live):
        record = promote_version(shop, product, ref.version)  # which judges it again, and finds nobody's approval
        return {**record, "reasons": [CHANGED, *record["reasons"]], "approved_by": [], "num_approvals": _asked(known)}
    shop.registry.approve(ref, known.details["evidence"], person.name.casefold(), key=person.id, note=note)
    names = [one.details["who"] for one in approvals(shop.ledger.entries(product), known)]
    record = promote_version(shop, product, ref.version, f"approved by {', '.join(names)}")
    record |= {"approved_by": names, "num_approvals": _asked(known)}
    if record["verdict"] == "promoted":
        record["road"] = on_the_road(shop, product, plan)
    return record


def approver(shop: Workshop, raw_key: str, product: str) -> KeyRecord:
    """Whose key it is. Raises ApiKeyError for one that is wrong, over, of too low a role, or of no person."""
    match = SHAPE.fullmatch(raw_key.strip())
    if match is None:
        raise ApiKeyError(f"expected a key, rw_…, got something else; an operator makes one: {HOW}")
    record = KeyFile(keys_file(shop.home)).one(match[1])
    name = f"key {record.id} of {record.name}"
    if not _matches(record.hash, match[2]):
        raise ApiKeyError(f"key {record.id}: expected its secret, got another")
    if record.revoked or (record.expires and record.expires <= now()):
        raise ApiKeyError(f"{name}: expected a valid key, it is {'revoked' if record.revoked else 'expired'}")
    if not includes(record.role or "", NEEDED_ROLE):
        raise ApiKeyError(f"{name}: expected role {NEEDED_ROLE} or above, got {record.role or 'none'}; {HOW}")
    if record.name == HOMES_OWN:
        raise ApiKeyError(f"{name}: expected a person's key, this is the home's own; {HOW}")
    if not {ANY, product} & set(record.models):
        raise ApiKeyError(f"{name}: expected a key for {product}, got one for {', '.join(record.models)}")
    return record


def waiting(shop: Workshop) -> list[dict[str, Any]]:
    """The versions that passed their gates and wait for people: what is asked for, and who approved."""
    rows = []
    for product in sorted({entry.product for entry in shop.ledger.entries() if entry.action == REGISTER}):
        entries = shop.ledger.entries(product)
        state = standing(entries)
        refs = {entry_ref(entry): None for entry in entries if entry.action == REGISTER}
        for ref in refs:
            known = latest_evidence(entries, ref)
            if known and known.details["passed"] and ref not in state.were_live and ref.version not in state.deleted:
                rows += _row(entries, known, state.live)
    return rows


def _row(entries: list[Entry], known: Entry, live: ModelRef | None) -> list[dict[str, Any]]:
    names = [one.details["who"] for one in approvals(entries, known)]
    if len(names) >= _asked(known):
        return []
    return [
        {
            "product": known.product,
            "version": known.details["version"],
            "approved_by": names,
            "num_approvals": _asked(known),
            "evidence": known.details["evidence"],
            "is_current": _is_current(known, live),
            "since": known.time,
        }
    ]


def _is_current(known: Entry, live: ModelRef | None) -> bool:
    return bool(known.details.get("against") == (live.digest if live else ""))


def read_key(file: Path) -> str:
    """The key in a file, which is not put on a command line where others can see it. Raises UsageError."""
    if not file.is_file():
        raise UsageError(f"--key-file {file}: expected a file with the approver's key, got none")
    return file.read_text(encoding="utf-8").strip()


def _waiting_evidence(shop: Workshop, product: str, version: int | None) -> Entry:
    """The latest evidence of the version, by default the newest that waits. Raises UsageError."""
    entries = shop.ledger.entries(product)
    rows = [row["version"] for row in waiting(shop) if row["product"] == product]
    wanted = version if version is not None else max(rows, default=None)
    refs = {e.details["version"]: entry_ref(e) for e in entries if e.action == REGISTER}
    live = standing(entries).live
    known = latest_evidence(entries, refs[wanted]) if wanted in refs else None
    name = f"{product} version {wanted}"
    if known is None:
        held = f"waiting: {', '.join(map(str, rows))}" if rows else "nothing waits"
        products = "" if entries else f"; live products: {', '.join(live_products(shop)) or 'none'}"
        raise UsageError(f"product '{product}' version {wanted or ''}: nothing to approve; {held}{products}")
    if live == entry_ref(known):
        raise UsageError(f"{name}: nothing to approve, it is live")
    if not _asked(known):
        raise UsageError(f"{name}: its recipe asks for no approvals; put it on the road: roadworthy promote {product}")
    return known


def _matches(stored: str, secret: str) -> bool:
    try:  # argon2 says no by raising
        return HASHER.verify(stored, secret)
    except (VerificationError, InvalidHashError):
        return False
