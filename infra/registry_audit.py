"""Finds what is not as the ledger says.

Moved aliases, lost versions and parcels, a broken chain, runs of dead processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infra import aliases, promotion, tracking_store
from infra.aliases import MovedAlias, RegistryError
from infra.ledger import Ledger, LedgerError
from infra.tracking import Tracking

if TYPE_CHECKING:
    from mlflow import MlflowClient

Exists = Callable[[str], bool]


@dataclass(frozen=True)
class Problem:
    """One finding of the audit; `kind` is for programs, the rest for people."""

    kind: str
    product: str
    what: str
    expected: str
    got: str
    fixed: bool = False


def alias_problem(product: str, one: MovedAlias, fixed: bool) -> Problem:
    """An alias moved behind our back, as a finding."""
    expected, got = (f"version {v}" if v is not None else "no such alias" for v in (one.expected, one.found))
    return Problem("alias_moved", product, f"alias '{one.alias}'", expected, got, fixed)


def audit(
    ledger: Ledger, tracking: Tracking, parcel_exists: Exists | None, reconcile: Callable[[str], object] | None
) -> Iterator[Problem]:
    """The findings, undone where `reconcile` is given. With a broken ledger nothing about aliases is known or fixed."""
    try:
        ledger.verify()
    except LedgerError as error:
        yield Problem("ledger_broken", "", "the chain of the ledger", "unbroken", str(error))
    else:
        for product in _products(tracking.client, ledger):
            yield from _audit_product(tracking.client, ledger, product, parcel_exists, reconcile)
    for run in tracking.stale_runs():
        if reconcile:
            tracking.mark_failed(run)
        what = f"run {run.run_id} ({run.step})"
        yield Problem("stale_run", run.product, what, "its process at work", f"{run.owner} is gone", bool(reconcile))


def _products(client: MlflowClient, ledger: Ledger) -> list[str]:
    models = tracking_store.every_page(client.search_registered_models)
    ours = {model.name for model in models if aliases.PRODUCT in model.tags}
    return sorted(ours | {entry.product for entry in ledger.entries() if entry.action == promotion.REGISTER})


def _audit_product(
    client: MlflowClient,
    ledger: Ledger,
    product: str,
    parcel_exists: Exists | None,
    reconcile: Callable[[str], object] | None,
) -> Iterator[Problem]:
    entries, shown, fixed = ledger.entries(product), aliases.look(client, product), reconcile is not None
    try:
        found = aliases.moved(entries, shown)
    except RegistryError as error:
        yield Problem("ledger_behind", product, "the ledger", "all that the registry has seen", str(error))
        return
    state = promotion.standing(entries)
    if reconcile:
        reconcile(product)
    yield from (alias_problem(product, one, fixed) for one in found)
    yield from _lost(state, shown, parcel_exists, fixed)
    if shown.exists and shown.projected != state.last_seq and not found:
        got = f"entry {shown.projected}, then interrupted"
        yield Problem("unfinished", product, "registry shows the ledger", f"entry {state.last_seq}", got, fixed)


def _lost(
    state: promotion.Standing, shown: aliases.Shown, parcel_exists: Exists | None, fixed: bool
) -> Iterator[Problem]:
    """Versions that must be there and are not, whose page names another parcel, or whose parcel is gone."""
    for ref in state.protected:
        what = f"version {ref.version}" + (" (live)" if ref == state.live else " (kept for a rollback)")
        page = shown.versions.get(ref.version)
        if page is None:
            yield Problem("version_missing", ref.product, what, "in the registry", "not there")
        elif page.tags.get(tracking_store.PARCEL) != ref.digest:
            got = page.tags.get(tracking_store.PARCEL, "none")
            yield Problem("parcel_changed", ref.product, f"parcel tag of {what}", ref.digest, got, fixed)
        if parcel_exists is not None and not parcel_exists(ref.digest):
            yield Problem("parcel_missing", ref.product, f"parcel of {what}", f"{ref.digest} in the store", "not there")
