"""Keeps MLflow bounded: old runs that nothing needs go, in two stages.

First they are deleted as in the UI, where they can be brought back; some days later rows and artifacts go for good,
which MLflow leaves to its `gc` and we do through the same store methods, each run checked once more. A lifecycle goes
as a whole or not at all: its parent run, the runs of its steps and the models that they logged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from infra.ledger import Entry
from infra.postgres import MLFLOW, dsn
from infra.settings import Settings
from infra.tracking import PARENT, STEP, Tracking
from infra.tracking_store import SQLITE, artifact_folder, every_page

if TYPE_CHECKING:
    from mlflow.entities import Run

RUN_ID = re.compile(r"\b[0-9a-f]{32}\b")
MONITOR = "monitor"  # the step of a monitoring run
AT_ONCE = 1000


@dataclass(frozen=True)
class Removed:
    """What went for good."""

    runs: tuple[str, ...]
    models: tuple[str, ...]


def named_in(entries: Iterable[Entry]) -> frozenset[str]:
    """Every run that the ledger names."""
    return frozenset(found for entry in entries for found in RUN_ID.findall(entry.model_dump_json()))


def needed(tracking: Tracking, entries: Iterable[Entry]) -> frozenset[str]:
    """The lifecycles that the ledger or a registered version names, by their parent run."""
    versions = every_page(tracking.client.search_model_versions, max_results=AT_ONCE)
    named = named_in(entries) | {version.run_id for version in versions if version.run_id}
    return named | {_root(run) for run in _search(tracking, "") if run.info.run_id in named}


def old_runs(tracking: Tracking, keep: frozenset[str], before: datetime, monitor_before: datetime) -> list[str]:
    """Runs of lifecycles that ended before `before` (of monitoring: `monitor_before`) and are not in `keep`."""
    families: dict[str, list[Run]] = {}
    for run in _search(tracking, ""):
        families.setdefault(_root(run), []).append(run)
    old = []
    for root, runs in families.items():
        limit = monitor_before if any(run.data.tags.get(STEP) == MONITOR for run in runs) else before
        if root not in keep and all(_ended_before(run, limit) for run in runs):
            old += [run.info.run_id for run in runs]
    return old


def delete(tracking: Tracking, run_ids: Iterable[str]) -> int:
    """The first stage: deleted as in the UI, with the models that they logged; returns how many runs."""
    gone = set(run_ids)
    if not gone:
        return 0
    for model in every_page(partial(tracking.client.search_logged_models, _experiments(tracking))):
        if model.source_run_id in gone:
            tracking.client.delete_logged_model(model.model_id)
    for run_id in gone:
        tracking.client.delete_run(run_id)
    return len(gone)


def deleted(tracking: Tracking, keep: frozenset[str], before: datetime) -> Removed | None:
    """What the second stage would remove: deleted before `before`, not of a lifecycle in `keep`.

    None: the database belongs to somebody else's MLflow server, who has to run `mlflow gc` there.
    """
    store = _store(tracking.config)
    if store is None:
        return None
    older_ms = int((datetime.now(before.tzinfo) - before).total_seconds() * 1000)
    models = (store.get_logged_model(one, allow_deleted=True) for one in store._get_deleted_logged_models(older_ms))
    return Removed(
        tuple(run_id for run_id in store._get_deleted_runs(older_ms) if not _is_kept(store, run_id, keep)),
        tuple(model.model_id for model in models if not _is_kept(store, model.source_run_id, keep)),
    )


def remove(tracking: Tracking, found: Removed) -> None:
    """The second stage: artifacts, then rows. Interrupted, it goes on with the next call."""
    store = _store(tracking.config)
    if store is None:
        return
    for model_id in found.models:
        model = store.get_logged_model(model_id, allow_deleted=True)
        _remove_artifacts(model.artifact_location)
        store._hard_delete_logged_model(model_id)
    for run_id in found.runs:
        _remove_artifacts(store.get_run(run_id).info.artifact_uri)
        store._hard_delete_run(run_id)


def _remove_artifacts(uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    repository: Any = get_artifact_repository(uri)
    repository.delete_artifacts()


def _store(config: Settings) -> Any:
    """The database itself: HTTP can delete, but not remove."""
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    uri = dsn(config, MLFLOW, driver="psycopg") if config.is_services else config.mlflow_uri
    if not config.is_services and not uri.startswith(SQLITE):
        return None
    return SqlAlchemyStore(uri, artifact_folder(config).as_uri())  # type: ignore[no-untyped-call]


def _is_kept(store: Any, run_id: str | None, keep: frozenset[str]) -> bool:
    """Whether this run, deleted or not, belongs to a lifecycle in `keep`."""
    from mlflow.exceptions import MlflowException

    if not run_id or run_id in keep:
        return bool(run_id)
    try:
        return _root(store.get_run(run_id)) in keep
    except MlflowException:  # removed before its models were
        return False


def _search(tracking: Tracking, wanted: str) -> Iterator[Run]:
    yield from every_page(partial(tracking.client.search_runs, _experiments(tracking)), wanted, max_results=AT_ONCE)


def _experiments(tracking: Tracking) -> list[str]:
    return [one.experiment_id for one in every_page(tracking.client.search_experiments)]


def _root(run: Run) -> str:
    return str(run.data.tags.get(PARENT, run.info.run_id))


def _ended_before(run: Run, limit: datetime) -> bool:
    moment_ms = run.info.end_time or run.info.start_time or 0
    return run.info.status != "RUNNING" and moment_ms < limit.timestamp() * 1000
