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
APPROVE, REFUSE = "approve", "refuse"
CHAMPION, CHALLENGER = "champion", "challenger"
ROLLBACK_WINDOW = 3  # so many versions, the last ones live, cannot be deleted


class PromotionRefused(Exception):  # noqa: N818 — an answer, not a fault
    """The version may not go on the road, or not leave it; the message says why."""


class ApprovalMissing(PromotionRefused):
    """The version passed its gates, and not enough people have approved it yet."""


class ChampionChanged(PromotionRefused):
    """The evidence is held against another champion than the live one: the version must be judged again."""


@dataclass(frozen=True)
class Evidence:
    """What the judging found: kept on the version's page, and its digest and verdict in the ledger.

    num_approvals: people who must approve it before it goes on the road. against: digest of the champion it was held
    against, empty where nothing was live, None where that is not known.
    """

    digest: str
    passed: bool
    reasons: tuple[str, ...] = ()
    metrics: Mapping[str, float] = field(default_factory=dict)
    data_digest: str = ""
    code_commit: str = ""
    num_approvals: int = 0
    against: str | None = None

    def entry(self) -> dict[str, Any]:
        """What of it the ledger keeps."""
        kept = {"evidence": self.digest, "passed": self.passed, "reasons": list(self.reasons)}
        asked = {"num_approvals": self.num_approvals} if self.num_approvals else {}
        return {**kept, **asked, **({} if self.against is None else {"against": self.against})}


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


def check_approvals(entries: Sequence[Entry], registered: Entry) -> None:
    """Raises ApprovalMissing where fewer people approved this parcel with this evidence than its recipe asks for."""
    needed, names = num_approvals(registered), [one.details["who"] for one in approvals(entries, registered)]
    if len(names) < needed:
        product, version = registered.product, registered.details["version"]
        raise ApprovalMissing(
            f"{product} version {version}: {needed - len(names)} of {needed} approvals are missing (approved by: "
            f"{', '.join(names) or 'nobody'}); a person with a key: roadworthy approve {product} --version {version}"
        )


def check_champion(registered: Entry, live: ModelRef | None) -> None:
    """Raises ChampionChanged where the evidence is held against another champion than the live one."""
    against, digest = registered.details.get("against"), live.digest if live else ""
    if against not in (None, digest):
        raise ChampionChanged(
            f"{registered.product} version {registered.details['version']}: judged against {against[:12] or 'nothing'},"
            f" live is {digest[:12] or 'nothing'}; judge it again: roadworthy promote {registered.product} "
            f"--version {registered.details['version']}"
        )


def is_unsettled(entries: Iterable[Entry], version: int) -> bool:
    """Whether somebody made `version` champion in MLflow, and it was put back without having been judged."""
    waiting = False
    for entry in entries:
        details = entry.details
        if entry.action == ALIAS_RESTORED and (details["alias"], details["found"]) == (CHAMPION, version):
            waiting = "reason" not in details
        elif entry.action in (PROMOTE, REFUSE) and details["version"] == version:
            waiting = False
    return waiting


def latest_evidence(entries: Iterable[Entry], ref: ModelRef) -> Entry | None:
    """The entry with the latest evidence of a version; None where it was never registered."""
    found = [entry for entry in entries if entry.action == REGISTER and entry_ref(entry) == ref]
    return found[-1] if found else None


def num_approvals(registered: Entry) -> int:
    """So many people must approve the version with this evidence."""
    return int(registered.details.get("num_approvals", 0))


def approvals(entries: Iterable[Entry], registered: Entry) -> list[Entry]:
    """The approvals of exactly this parcel with exactly this evidence, one for each person."""
    ref, evidence = entry_ref(registered), registered.details["evidence"]
    found = (one for one in entries if one.action == APPROVE and entry_ref(one) == ref)
    return list({one.details["who"]: one for one in found if one.details["evidence"] == evidence}.values())


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
