"""Who may call what is served, and what the ledgers say about it.

Keys made and revoked, audit trails verified.

A key is in the ledger before it opens anything, a revocation before it takes effect.
"""

import re
from collections import deque
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import chain
from pathlib import Path
from typing import Any, cast

from flows.options import UsageError
from flows.workshop import Workshop, now
from infra.api_keys import ANY, VERBS, KeyFile, KeyRecord, Verb, issue
from infra.ledger import Entry, Ledger, LedgerError
from infra.roles import ROLES, VERBS_OF, Role

UNITS = {"m": "minutes", "h": "hours", "d": "days"}
MAX_AGE = timedelta(days=3650)
VERBS_ALONE = ("predict", "explain", "read")  # of a key without a role


def keys_file(home: Path) -> Path:
    """Where a home keeps the hashes of its keys."""
    return home / "keys" / "api_keys.json"


def create_key(
    shop: Workshop, name: str, *, models: str = ANY, verbs: str | None = None, expires: str = "90d", tenant: str = "",
    per_minute: int = 0, max_body_bytes: int = 0, role: str = "",
) -> dict[str, Any]:  # fmt: skip
    """The new key's record, and under `key` the key itself, which nobody can show again.

    models, verbs: comma-separated; without verbs: those of the role, else VERBS_ALONE; expires: 30d, 12h, 15m or never.
    Raises UsageError, ApiKeyError, LedgerError.
    """
    created, known_role = now(), parse_role(role)
    allowed = parse_verbs(",".join(VERBS_OF.get(role, VERBS_ALONE)) if verbs is None else verbs)
    record, key = issue(
        name, allowed, created, role=known_role, models=_words(models), tenant=tenant, expires=ends(expires, created),
        requests_per_minute=per_minute, max_body_bytes=max_body_bytes,
    )  # fmt: skip
    file = KeyFile(keys_file(shop.home))
    file.records()  # a broken file is said before the ledger names a key that could not be stored
    shop.ledger.append("key.created", "", **record.public())
    file.add(record)
    return {"key": key, **record.public()}


def list_keys(shop: Workshop) -> list[dict[str, Any]]:
    """Every key, oldest first, with its `state`: valid, expired or revoked."""
    return [_shown(record) for record in KeyFile(keys_file(shop.home)).records()]


def revoke_key(shop: Workshop, key_id: str) -> dict[str, Any]:
    """Revoke a key: running services refuse it from their next request on. Raises ApiKeyError, LedgerError."""
    file = KeyFile(keys_file(shop.home))
    if file.one(key_id).revoked is None:
        shop.ledger.append("key.revoked", "", id=key_id)
    return _shown(file.revoke(key_id, now()))


def make_operator(shop: Workshop, key_id: str) -> None:
    """Let this home's own key, made before there were roles, act as an operator. Raises ApiKeyError, LedgerError."""
    file = KeyFile(keys_file(shop.home))
    if file.one(key_id).role is None:
        shop.ledger.append("key.role", "", id=key_id, role="operator")
        file.give_role(key_id, "operator")


def parse_role(text: str) -> Role | None:
    """`promoter` as a role, None for nothing. Raises UsageError naming those that exist."""
    found = next((role for role in ROLES if role == text), None)
    if text and found is None:
        raise UsageError(f"--role {text}: expected one of {', '.join(ROLES)}")
    return found


def parse_verbs(text: str) -> list[Verb]:
    """`predict,read` as verbs. Raises UsageError naming those that exist."""
    words = _words(text)
    if unknown := sorted(set(words) - set(VERBS)):
        raise UsageError(f"--verbs {text}: expected some of {', '.join(VERBS)}, got {', '.join(unknown)}")
    return cast("list[Verb]", words)


def ends(text: str, start: datetime) -> datetime | None:
    """When `30d`, `12h` or `15m` after `start` is over; None for `never`. Raises UsageError."""
    if text == "never":
        return None
    match = re.fullmatch(r"([1-9][0-9]{0,6})([mhd])", text)
    length = timedelta(**{UNITS[match[2]]: int(match[1])}) if match else timedelta(0)
    if not timedelta(0) < length <= MAX_AGE:
        raise UsageError(f"--expires {text}: expected e.g. 30d, 12h or 15m, at most {MAX_AGE.days}d, or never")
    return start + length


def audit_ledgers(shop: Workshop) -> list[Path]:
    """Every ledger of this home, also one of which only the head is left: the main one first."""
    from infra.seals import SEALS

    folder = shop.home / "audit"
    found = chain(folder.rglob("*.jsonl"), (head.with_suffix(".jsonl") for head in folder.rglob("*.head")))
    return [shop.ledger.path, *sorted(set(found) - {shop.home / SEALS})]


def verify_audit(shop: Workshop) -> dict[str, Any]:
    """Walk every ledger and hold it against its signed seals; `ok`, and per ledger entries, seals and the error."""
    from flows.trust import verify_seals

    rows = [_verified(shop.home, path) for path in audit_ledgers(shop)]
    record: dict[str, Any] = {"ok": True, "ledgers": rows, "seals": "hold"}
    try:  # the seals' own chain is one more thing that may be broken, and must not hide the rest
        checks = {check.ledger: check for check in verify_seals(shop)}
    except LedgerError as error:
        checks, record["seals"] = {}, str(error)
    for row in rows:
        if check := checks.pop(row["ledger"], None):
            row |= {"num_seals": check.num_seals, "sealed_until": check.sealed_until}
            row["error"] = row["error"] or check.reason
    gone = [check.reason for check in checks.values() if check.reason]  # sealed once, and nowhere now
    record["seals"] = "; ".join(gone) or record["seals"]
    for row in rows:
        row["ok"] = not row["error"]
    record["ok"] = record["seals"] == "hold" and all(row["ok"] for row in rows)
    return record


def last_entries(shop: Workshop, last: int) -> list[dict[str, Any]]:
    """The latest entries of all ledgers, oldest first, each with its ledger's name. Raises LedgerError."""
    latest = chain.from_iterable(_tail(path, last) for path in audit_ledgers(shop))
    ordered = sorted(latest, key=lambda pair: pair[1].moment)
    return [{"ledger": name, **entry.model_dump(mode="json")} for name, entry in ordered[-last:]]


def _verified(home: Path, path: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"ledger": path.relative_to(home).as_posix(), "entries": 0, "num_seals": 0, "sealed_until": 0}
    try:  # each ledger is judged on its own
        return row | {"entries": Ledger(path).verify(), "error": ""}
    except LedgerError as error:
        return row | {"error": str(error)}


def _tail(path: Path, last: int) -> Iterable[tuple[str, Entry]]:
    return ((path.stem, entry) for entry in deque(Ledger(path).entries(), maxlen=last))


def _shown(record: KeyRecord) -> dict[str, Any]:
    is_over = record.expires is not None and record.expires <= now()
    state = "revoked" if record.revoked else "expired" if is_over else "valid"
    return {**record.public(), "state": state}


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
