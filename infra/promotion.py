"""What the ledger says is on the road: pure reading of its entries, no MLflow, no disk.

The ledger is the truth and the alias its shadow. Everything here is a function of entries, so `history`, `live` and
the refusal of a promotion need no server and answer in milliseconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from infra.ledger import Entry
from infra.refs import ModelRef

REGISTER, PROMOTE, ROLLBACK, DELETE, ALIAS_RESTORED = "register", "promote", "rollback", "delete", "alias_restored"
CHAMPION, CHALLENGER = "champion", "challenger"
ROLLBACK_WINDOW = 3  # so many versions, the last ones live, cannot be deleted


class PromotionRefused(Exception):  # noqa: N818 — an answer, not a fault
    """The version may not go on the road, or not leave it; the message says why."""


@dataclass(frozen=True)
class Evidence:
    """What the judging found: kept on the version's page, and its digest and verdict in the ledger."""

    digest: str
    passed: bool
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    data_digest: str = ""
    code_commit: str = ""


@dataclass(frozen=True)
class Standing:
    """Who is live; `before`: what rollbacks return to; `were_live`: each version once. The latest comes last."""

    live: ModelRef | None = None
    before: tuple[ModelRef, ...] = ()
    were_live: tuple[ModelRef, ...] = ()
    deleted: frozenset[int] = frozenset()
    last_seq: int = 0

    @property
    def challenger(self) -> ModelRef | None:
        """The version live just before the live one."""
        return next((ref for ref in reversed(self.were_live) if ref != self.live), None)

    @property
    def protected(self) -> tuple[ModelRef, ...]:
        """Not to be deleted: the last versions live, latest first, and the target of the next rollback."""
        latest = self.were_live[::-1][:ROLLBACK_WINDOW]
        return (*latest, *(ref for ref in self.before[-1:] if ref not in latest))

    @property
    def aliases(self) -> dict[str, int | None]:
        """Where the aliases belong."""
        champion, challenger = self.live, self.challenger
        return {
            CHAMPION: champion.version if champion else None,
            CHALLENGER: challenger.version if challenger else None,
        }


def standing(entries: Iterable[Entry], at: datetime | None = None) -> Standing:
    """The standing of one product after its `entries`, or after those written until the aware time `at`."""
    if at is not None and at.tzinfo is None:
        raise ValueError(f"at: expected a time with its zone, got {at.isoformat()}; add +00:00 for UTC")
    state = Standing()
    for entry in entries:
        if at is not None and datetime.fromisoformat(entry.time) > at:
            break
        state = _after(state, entry)
    return state


def _after(state: Standing, entry: Entry) -> Standing:
    if entry.action == ALIAS_RESTORED:
        return replace(state, last_seq=entry.seq)
    if entry.action == REGISTER:  # a number comes back only where someone removed the whole product from MLflow
        return replace(state, deleted=state.deleted - {int(entry.details["version"])})
    if entry.action == DELETE:
        gone = state.deleted | {int(entry.details["version"])}
        before = tuple(ref for ref in state.before if ref.version not in gone)
        were_live = tuple(ref for ref in state.were_live if ref.version not in gone)
        return Standing(state.live, before, were_live, gone, entry.seq)
    if entry.action not in (PROMOTE, ROLLBACK):
        return state
    live = entry_ref(entry)
    if entry.action == PROMOTE:
        before = (*state.before, state.live) if state.live else state.before
    else:
        before = state.before[:-1]
    were_live = (*(ref for ref in state.were_live if ref != live), live)
    return Standing(live, before, were_live, state.deleted, entry.seq)


def entry_ref(entry: Entry) -> ModelRef:
    """The version that an entry is about."""
    return ModelRef(product=entry.product, version=entry.details["version"], digest=entry.details["digest"])


def check_evidence(entries: Sequence[Entry], ref: ModelRef, evidence_digest: str) -> Entry:
    """The entry that registered `ref` with this evidence. Raises PromotionRefused when there is none or it failed."""
    name = f"{ref.product} version {ref.version}"
    registered = [entry for entry in entries if entry.action == REGISTER and entry_ref(entry) == ref]
    if not registered:
        raise PromotionRefused(f"{name}: expected to be registered by Roadworthy with parcel {ref.digest[:12]}, is not")
    if ref.version in standing(entries).deleted:
        raise PromotionRefused(f"{name}: was deleted")
    fitting = [entry for entry in registered if evidence_digest and entry.details["evidence"] == evidence_digest]
    if not fitting:
        known = ", ".join(entry.details["evidence"][:12] for entry in registered)
        raise PromotionRefused(f"{name}: expected evidence {known}, got {evidence_digest[:12] or 'none'}")
    if not fitting[-1].details["passed"]:
        raise PromotionRefused(f"{name}: failed its gates: {'; '.join(fitting[-1].details['reasons']) or 'no reason'}")
    return fitting[-1]


def tenures(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What was live from when until when (None: still), oldest first: one JSON record per promotion or rollback."""
    moves = [entry for entry in entries if entry.action in (PROMOTE, ROLLBACK)]
    untils = [*(entry.time for entry in moves[1:]), None]
    return [
        {
            "version": move.details["version"],
            "since": move.time,
            "until": until,
            "action": move.action,
            "digest": move.details["digest"],
            "evidence": move.details["evidence"],
        }
        for move, until in zip(moves, untils, strict=False)
    ]
