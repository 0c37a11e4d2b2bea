"""Holds aliases, ledger, parcels and runs against each other.

With `fix`, what was moved is moved back and recorded.
"""

from dataclasses import asdict
from typing import Any

from flows.steps import MARKER
from flows.workshop import Workshop
from infra.ledger import LedgerError
from models import catalog

PARCELS = "parcels"


def examine(shop: Workshop, *, fix: bool = False) -> dict[str, Any]:
    """One record per check; `ok` is whether all is well (now, where `fix` mended it)."""
    checks = [_ledger(shop), _catalog(), _space(shop)]
    problems = shop.registry.audit(fix=fix, parcel_exists=lambda digest: shop.store.has_folder(f"{PARCELS}/{digest}"))
    checks += [
        {
            "check": problem.kind,
            "ok": problem.fixed,
            "detail": f"{problem.product} {problem.what}: expected {problem.expected}, got {problem.got}"
            + ("; put right and recorded" if problem.fixed else ""),
        }
        for problem in problems
    ]
    if not problems:
        checks.append(
            {"check": "registry", "ok": True, "detail": "aliases, versions, parcels and runs are as recorded"}
        )
    return {
        "ok": all(check["ok"] for check in checks),
        "checks": checks,
        "problems": [asdict(problem) for problem in problems],
    }


def _ledger(shop: Workshop) -> dict[str, Any]:
    try:
        shop.ledger.verify()
    except LedgerError as error:
        return {"check": "ledger", "ok": False, "detail": str(error)}
    return {"check": "ledger", "ok": True, "detail": f"{len(shop.ledger.entries())} entries, the chain holds"}


def _catalog() -> dict[str, Any]:
    detail = f"{len(catalog.all_families())} families, {len(catalog.datasets())} data sets"
    return {"check": "catalog", "ok": True, "detail": detail}


def _space(shop: Workshop) -> dict[str, Any]:
    work = shop.home / "work"
    steps = list(work.glob(f"*/*/{MARKER}"))
    unfinished = [path for path in work.glob("*/*") if path.is_dir() and not (path / MARKER).exists()]
    detail = f"{len(steps)} finished steps, {len(unfinished)} to be resumed by a rerun"
    return {"check": "work", "ok": True, "detail": detail}
