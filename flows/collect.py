"""Garbage collection: marks from the roots, sets aside what is left, removes it later.

Young things stay whoever owns them: a run under way has made what nothing refers to yet. What was set aside comes back
with `roadworthy gc --restore DATE`. It never runs beside a backup, and a promotion that comes meanwhile waits.
"""

import shutil
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from filelock import FileLock

from flows.collect_roots import Roots, find_roots, owner
from flows.steps import MARKER
from flows.workshop import Workshop, now
from infra.collect import CollectError, bring_back, collecting, modified, move_aside, purge, reclaim, set_aside
from infra.tracking_store import SQLITE

PARCELS, STEPS, SNAPSHOTS = KINDS = ("parcels", "steps", "snapshots")
BENTOS, WORK, CACHED, ARTIFACTS = "bentos", "work", "cached parcels and steps", "artifacts of runs"
QUARANTINE_DAYS = 14
COLLECT = "collect"


def collect(shop: Workshop, *, days: float = 14.0, dry_run: bool = False) -> dict[str, Any]:
    """Set aside everything without an owner that is older than `days`; how many owned and unowned of each kind.

    Raises CollectError when what is live is not in the store: then no mark can be trusted; LedgerError, StorageError.
    """
    moment = now()
    limit, date = moment - timedelta(days=days), f"{moment:%Y-%m-%d}"
    with collecting(shop.home), FileLock(shop.ledger.path.with_name("promotion.lock")):
        roots = _settled_roots(shop)
        objects = {kind: _unowned_objects(shop, kind, roots, limit) for kind in KINDS}
        files = {BENTOS: _unowned_bentos(shop, roots, limit), WORK: _unowned_work(shop, roots, limit)}
        files[ARTIFACTS] = _unowned_artifacts(shop, limit)
        rows = [_row(kind, *found) for kind, found in {**objects, **files}.items()]
        num_unowned = sum(row["unowned"] for row in rows)
        if dry_run:
            return {"date": date, "dry_run": True, "kinds": rows, "missing": roots.missing, "purged": []}
        if num_unowned:
            shop.ledger.append(COLLECT, "", date=date, unowned={row["kind"]: row["unowned"] for row in rows})
        keys = [key for _, groups in objects.values() for group in groups.values() for key in group]
        set_aside(shop.store, keys, date)
        move_aside(shop.home, [path for _, paths in files.values() for path in paths], date)
        _forget_cached(shop, roots, limit)
        purged = purge(shop.home, shop.store, moment, QUARANTINE_DAYS)
    return {"date": date, "dry_run": False, "kinds": rows, "missing": roots.missing, "purged": purged}


def _settled_roots(shop: Workshop) -> Roots:
    """The roots, after what they need was brought back from the quarantine. Raises CollectError."""
    roots = find_roots(shop)
    if roots.missing and reclaim(shop.store, lambda key: owner(key) in roots.addresses):
        return _settled_roots(shop)
    if roots.lost:
        raise CollectError(f"expected what is live in {shop.store.uri}, missing: {roots.lost[0]}; roadworthy doctor")
    return roots


def undo(shop: Workshop, date: str) -> dict[str, Any]:
    """Bring back what was set aside on a date. Raises CollectError."""
    with collecting(shop.home):
        num_objects, num_files = bring_back(shop.home, shop.store, date)
    shop.ledger.append("collect_undone", "", date=date)
    return {"date": date, "objects": num_objects, "files": num_files}


def _row(kind: str, num_owned: int, unowned: Any) -> dict[str, Any]:
    return {"kind": kind, "owned": num_owned, "unowned": len(unowned), "names": sorted(map(str, unowned))[:1000]}


def _unowned_objects(shop: Workshop, kind: str, roots: Roots, limit: datetime) -> tuple[int, dict[str, list[str]]]:
    """How many addresses of this kind stay; those that do not, each with its objects."""
    groups: dict[str, list[str]] = {}
    youngest: dict[str, datetime] = {}
    for key, at in modified(shop.config, shop.store, kind).items():
        groups.setdefault(owner(key), []).append(key)
        youngest[owner(key)] = max(at, youngest.get(owner(key), at))
    unowned = {name: keys for name, keys in groups.items() if name not in roots.addresses and youngest[name] < limit}
    return len(groups) - len(unowned), unowned


def _unowned_bentos(shop: Workshop, roots: Roots, limit: datetime) -> tuple[int, list[Path]]:
    """Bentos of versions that are neither live nor kept for a rollback, nor deployed; they can be packed again."""
    needed = {f"v{ref.version}-{ref.digest[:12]}" for ref in roots.live}
    found = [path for path in (shop.home / "bentoml" / "bentos").glob("*/*") if path.is_dir()]
    unowned = [
        path for path in found if path.name not in needed and path not in roots.bentos and _written(path) < limit
    ]
    return len(found) - len(unowned), unowned


def _unowned_work(shop: Workshop, roots: Roots, limit: datetime) -> tuple[int, list[Path]]:
    """Folders of steps: finished ones are in the store if they matter, unfinished ones are resumed while young."""
    found = [path for path in (shop.home / "work").glob("*/*") if path.is_dir()]
    unowned = [
        path
        for path in found
        if f"steps/{path.parent.name}/{path.name}" not in roots.addresses and _written(_mark(path)) < limit
    ]
    return len(found) - len(unowned), unowned


def _unowned_artifacts(shop: Workshop, limit: datetime) -> tuple[int, list[Path]]:
    """Artifact folders of runs and models that MLflow does not know any more; behind a server it is not our disk."""
    if not shop.config.mlflow_uri.startswith(SQLITE):
        return 0, []
    from infra.tracking_owners import known_ids

    known = known_ids(shop.tracking.client)
    folder = shop.home / "mlflow" / "artifacts"
    found = [path for path in (*folder.glob("*/*"), *folder.glob("*/models/*")) if path.is_dir()]
    owners = [path for path in found if path.name != "models"]
    unowned = [path for path in owners if path.name not in known and _written(path) < limit]
    return len(owners) - len(unowned), unowned


def _forget_cached(shop: Workshop, roots: Roots, limit: datetime) -> None:
    """Copies of objects on this disk; they can be fetched again from where they were set aside or are."""
    for path in (shop.home / "cache" / "store").glob("parcels/*"):
        if f"parcels/{path.name}" not in roots.addresses and _written(path) < limit:
            shutil.rmtree(path, ignore_errors=True)


def _mark(folder: Path) -> Path:
    return folder / MARKER if (folder / MARKER).exists() else folder


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(max(_times(path)), UTC)


def _times(path: Path) -> Iterable[float]:
    yield path.lstat().st_mtime
    if path.is_dir():
        yield from (below.lstat().st_mtime for below in path.rglob("*"))
