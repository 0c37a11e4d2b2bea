"""Keeps the model registry.

It registers with evidence, promotes and rolls back as transactions, and deletes under guard.

A transaction's commit point is its ledger entry, on the disk before any alias moves. Killed before it, the old state
holds; killed after it, `reconcile` (run at the start of everything that follows) finishes the new one. Transactions
are generators of their steps, so a test can be killed at each.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from filelock import FileLock

from infra import aliases, promotion, registry_audit, tracking_store, version_page
from infra.aliases import PRODUCT, MovedAlias, RegistryError
from infra.ledger import Entry, Ledger
from infra.promotion import Evidence, PromotionRefused
from infra.refs import ModelRef
from infra.registry_audit import Problem
from infra.settings import Settings
from infra.tracking import Tracking
from infra.tracking_store import PARCEL

if TYPE_CHECKING:
    from mlflow import MlflowClient

EVIDENCE = "roadworthy.evidence"
NO_REASONS: Mapping[str, str] = {}


def check_product(product: str) -> str:
    """The name itself. Raises RegistryError for one that is not a plain name."""
    if not re.fullmatch(r"[a-z0-9_][a-z0-9_-]*", product):
        raise RegistryError(f"product: expected a-z, 0-9, _ and - (not first), got {product!r}")
    return product


class Registry:
    """`history` and `live` read the ledger alone; everything else imports MLflow (seconds) at its first use."""

    def __init__(self, config: Settings, ledger: Ledger) -> None:
        self.config = config
        self.ledger = ledger
        self._lock = FileLock(ledger.path.with_name("promotion.lock"))

    @cached_property
    def client(self) -> MlflowClient:
        return tracking_store.connect(self.config)

    def live(self, product: str, at: datetime | None = None) -> ModelRef | None:
        """What is live, or was live at the aware time `at`. From the ledger."""
        return promotion.standing(self.history(product), at).live

    def history(self, product: str) -> list[Entry]:
        """Every registration, promotion, rollback, deletion and restored alias of the product. From the ledger."""
        return self.ledger.entries(check_product(product))

    def protected(self, product: str) -> tuple[ModelRef, ...]:
        """The versions whose parcels must stay: live, rollback window, rollback target. From the ledger."""
        return promotion.standing(self.history(product)).protected

    def register(
        self,
        product: str,
        *,
        digest: str,
        source: str,
        run_id: str,
        evidence: Evidence,
        description: str = "",
        tags: Mapping[str, str] | None = None,
    ) -> ModelRef:
        """Register the parcel `digest`, logged as `source` (`models:/m-…`), with what the judging found.

        The same parcel with the same evidence gives the same version. `description`: markdown for the version's page.
        """
        with self._locked():
            self._ensure_product(check_product(product))
            pages = aliases.look(self.client, product).versions
            wanted = (digest, evidence.digest)
            same = [v for v, page in pages.items() if (page.tags.get(PARCEL), page.tags.get(EVIDENCE)) == wanted]
            own = self._tags(digest, evidence, tags or {})
            version = min(same) if same else self._create(product, source, run_id, own, description)
            ref = ModelRef(product=product, version=version, digest=digest)
            self._witness(ref, evidence, run_id)
        return ref

    def _create(self, product: str, source: str, run_id: str, tags: Mapping[str, str], description: str) -> int:
        cut = {name: value[: version_page.MAX_CHARACTERS] for name, value in tags.items()}
        model_id = source.removeprefix("models:/") if source.startswith("models:/m-") else None
        tracking_store.bind(self.config)
        made = self.client.create_model_version(
            product, source, run_id=run_id, tags=cut, description=version_page.cut(description), model_id=model_id
        )
        return int(made.version)

    def _ensure_product(self, product: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self.client.create_registered_model(product, tags={PRODUCT: product})
        except MlflowException as error:
            if error.error_code != tracking_store.EXISTS:
                raise
            self.client.set_registered_model_tag(product, PRODUCT, product)

    @staticmethod
    def _tags(digest: str, evidence: Evidence, tags: Mapping[str, str]) -> dict[str, str]:
        return {
            **{f"metric.{name}": f"{value:.6g}" for name, value in evidence.metrics.items()},
            "roadworthy.verdict": "passed" if evidence.passed else "failed",
            "roadworthy.reasons": "; ".join(evidence.reasons),
            "roadworthy.data": evidence.data_digest,
            "roadworthy.commit": evidence.code_commit,
            **tags,
            PARCEL: digest,
            EVIDENCE: evidence.digest,
        }

    def judged_again(self, ref: ModelRef, evidence: Evidence) -> None:
        """Add new evidence to a registered version: what it was judged to be today, against today's champion."""
        with self._locked():
            self._must_exist(ref)
            entries = self.history(ref.product)
            first = next(e for e in entries if e.action == promotion.REGISTER and promotion.entry_ref(e) == ref)
            self._witness(ref, evidence, first.details["run_id"])

    def version_tags(self, ref: ModelRef) -> dict[str, str]:
        """The tags of a version's page. Raises PromotionRefused when the registry lost it."""
        self._must_exist(ref)
        return dict(aliases.look(self.client, ref.product).versions[ref.version].tags)

    def _witness(self, ref: ModelRef, evidence: Evidence, run_id: str) -> None:
        """Tags can be edited by anyone, so the verdict that a promotion asks for is in the ledger."""
        for entry in self.ledger.entries(ref.product):
            is_register = entry.action == promotion.REGISTER and promotion.entry_ref(entry) == ref
            if is_register and entry.details["evidence"] == evidence.digest:
                return
        self.ledger.append(
            promotion.REGISTER, ref.product, version=ref.version, digest=ref.digest, run_id=run_id, **evidence.entry()
        )

    def approve(self, ref: ModelRef, evidence_digest: str, who: str, **details: str) -> Entry | None:
        """Enter that this person approves the version with this evidence; None where they did so before.

        Raises PromotionRefused for a version without this evidence, or that failed its gates.
        """
        with self._locked():
            entries = self.history(ref.product)
            registered = promotion.check_evidence(entries, ref, evidence_digest)
            names = [one.details["who"] for one in promotion.approvals(entries, registered)]
            if who in names:
                return None
            entry = self.ledger.append(
                promotion.APPROVE, ref.product, version=ref.version, digest=ref.digest, evidence=evidence_digest,
                who=who, **details,
            )  # fmt: skip
            version_page.approved(self.client, ref, [*names, who], promotion.num_approvals(registered))
            return entry

    def promote(self, ref: ModelRef, evidence_digest: str, asked: str = "") -> ModelRef:
        """Put a registered version that passed its gates on the road; the live one again changes nothing.

        asked: who or what asked for it, for the ledger. Raises PromotionRefused without evidence, with a failed
        verdict or one against another champion, without enough approvals, or when the registry lost the version.
        """
        for _ in self.promotion_steps(ref, evidence_digest, asked):
            pass
        version_page.clear(self.client, ref.product, ref.version)
        return ref

    def promotion_steps(self, ref: ModelRef, evidence_digest: str, asked: str = "") -> Iterator[str]:
        """The steps of `promote`, each named when it is done."""
        with self._locked():
            self._reconcile(ref.product, wished=ref.version)
            yield "reconciled"
            entries = self.history(ref.product)
            registered = promotion.check_evidence(entries, ref, evidence_digest)
            state = promotion.standing(entries)
            if state.live != ref:
                promotion.check_champion(registered, state.live)
                promotion.check_approvals(entries, registered)
                self._must_exist(ref)
                yield "checked"
                run_id, more = registered.details["run_id"], {"asked": asked} if asked else {}
                yield from self._move(promotion.PROMOTE, ref, evidence_digest, run_id, state.live, **more)

    def rollback(self, product: str) -> ModelRef:
        """Put the version live before this one back on the road. Raises PromotionRefused when there is none."""
        for _ in self.rollback_steps(product):
            pass
        live = self.live(product)
        if live is None:
            raise RegistryError(f"{product}: expected a live version after a rollback, got none")
        return live

    def rollback_steps(self, product: str) -> Iterator[str]:
        """The steps of `rollback`, each named when it is done."""
        with self._locked():
            self._reconcile(check_product(product))
            yield "reconciled"
            entries = self.history(product)
            state = promotion.standing(entries)
            if not state.before:
                raise PromotionRefused(f"{product}: nothing to roll back to: no version was live before this one")
            ref = state.before[-1]
            self._must_exist(ref)
            yield "checked"
            last = [e for e in entries if e.action == promotion.PROMOTE and promotion.entry_ref(e) == ref][-1]
            yield from self._move(promotion.ROLLBACK, ref, last.details["evidence"], last.details["run_id"], state.live)

    def _move(
        self, action: str, ref: ModelRef, evidence: str, run_id: str, live: ModelRef | None, **more: str
    ) -> Iterator[str]:
        self.ledger.append(
            action, ref.product, version=ref.version, digest=ref.digest, evidence=evidence, run_id=run_id,
            previous=live.version if live else None, **more,
        )  # fmt: skip
        yield "ledger"
        yield from aliases.project(self.client, ref.product, self.ledger.entries(ref.product))

    def _must_exist(self, ref: ModelRef) -> None:
        if ref.version not in aliases.look(self.client, ref.product).versions:
            raise PromotionRefused(f"{ref.product} version {ref.version}: expected it in the registry, it is gone")

    def delete(self, product: str, version: int) -> None:
        """Delete a version. Raises PromotionRefused for one that is live or kept for a rollback."""
        with self._locked():
            self._reconcile(check_product(product))
            protected = [ref.version for ref in self.protected(product)]
            if version in protected:
                raise PromotionRefused(
                    f"{product} version {version}: live or kept for a rollback ({', '.join(map(str, protected))}); "
                    "promote others first"
                )
            known = aliases.look(self.client, product).versions
            if version not in known:
                raise RegistryError(f"{product} version {version}: not in the registry; known: {sorted(known)}")
            self.ledger.append(promotion.DELETE, product, version=version, digest=known[version].tags.get(PARCEL, ""))
            self._project(product)

    def moved(self, product: str) -> list[MovedAlias]:
        """The aliases that others moved, unfinished promotions of our own left out. Raises RegistryError."""
        with self._locked():
            return aliases.moved(self.ledger.entries(check_product(product)), aliases.look(self.client, product))

    def reconcile(self, product: str, reasons: Mapping[str, str] | None = None) -> list[Problem]:
        """Make MLflow show what the ledger says: finish what a kill interrupted; undo and record moved aliases.

        reasons: by alias, why it is put back, for the ledger and for the page of the version that it concerns
        """
        with self._locked():
            return self._reconcile(check_product(product), reasons or NO_REASONS)

    def _reconcile(
        self, product: str, reasons: Mapping[str, str] = NO_REASONS, wished: int | None = None
    ) -> list[Problem]:
        """A champion that was moved to the version `wished` stays: it is about to be promoted, or refused."""
        every = aliases.moved(self.ledger.entries(product), aliases.look(self.client, product))
        found = [one for one in every if wished is None or (one.alias, one.found) != (promotion.CHAMPION, wished)]
        for one in found:
            why = {"reason": reasons[one.alias]} if one.alias in reasons else {}
            version_page.put_back(self.client, product, one, **why)
            details = {"alias": one.alias, "found": one.found, "expected": one.expected}
            self.ledger.append(promotion.ALIAS_RESTORED, product, **details, **why)
        if found == every:
            self._project(product)
        return [registry_audit.alias_problem(product, one, fixed=True) for one in found]

    def refuse(self, product: str, version: int, reason: str) -> None:
        """Enter why a version that somebody asked for is not on the road, and say it on its page."""
        with self._locked():
            self.ledger.append(promotion.REFUSE, check_product(product), version=version, reason=reason)
            if version in aliases.look(self.client, product).versions:
                version_page.refused(self.client, product, version, reason)

    def _project(self, product: str) -> None:
        for _ in aliases.project(self.client, product, self.ledger.entries(product)):
            pass

    def audit(self, fix: bool = False, parcel_exists: Callable[[str], bool] | None = None) -> list[Problem]:
        """All that is not as the ledger says, and runs left by dead processes; `fix` undoes what can be undone."""
        tracking, reconcile = Tracking(self.config), self._reconcile if fix else None
        with self._locked():
            return list(registry_audit.audit(self.ledger, tracking, parcel_exists, reconcile))

    def _locked(self) -> FileLock:
        self.ledger.path.parent.mkdir(parents=True, exist_ok=True)
        return self._lock
