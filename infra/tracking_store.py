"""Opens the MLflow store: SQLite under HOME, made whole or not at all, or an HTTP server.

MLflow's 67 migrations on SQLite cost seconds of fsync, and a kill among them leaves a database that never opens again.
So a new store is made beside its place, without syncing, and put there by one rename.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from infra.atomic import sync_folder
from infra.settings import Settings

if TYPE_CHECKING:
    from mlflow import MlflowClient

SQLITE = "sqlite:///"
PARCEL = "roadworthy.parcel"  # the tag, on models and on their versions, with the parcel's digest
MISSING = "RESOURCE_DOES_NOT_EXIST"
EXISTS = "RESOURCE_ALREADY_EXISTS"
UNWELL = ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE")


def connect(config: Settings) -> MlflowClient:
    """A client of the store and registry at `config.mlflow_uri`. Imports MLflow (seconds); makes a missing store."""
    from mlflow import MlflowClient

    for noisy in ("mlflow.store.db.utils", "mlflow.store.db.base", "alembic"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    uri = config.mlflow_uri
    if uri.startswith(SQLITE):
        make_store(Path(uri.removeprefix(SQLITE)), artifact_folder(config))
    bind(config)
    return MlflowClient(tracking_uri=uri, registry_uri=uri)


def bind(config: Settings) -> None:
    """Point MLflow's global address here: inside, `create_model_version` asks a client of its own without an address.

    Left alone, that client makes an `mlflow.db` in the current folder.
    """
    import mlflow

    mlflow.set_tracking_uri(config.mlflow_uri)
    mlflow.set_registry_uri(config.mlflow_uri)


def artifact_folder(config: Settings) -> Path:
    """Where artifacts lie when no server decides it."""
    return config.folder / "mlflow" / "artifacts"


def artifact_location(config: Settings, product: str) -> str | None:
    """The artifact location of a product's experiment; None: the server decides."""
    is_server = config.mlflow_uri.startswith(("http://", "https://"))
    return None if is_server else (artifact_folder(config) / product).as_uri()


def make_store(path: Path, artifacts: Path) -> None:
    """Put an empty, migrated SQLite store at `path` unless one is there. Safe against kills and other processes."""
    if path.exists():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if path.exists():
            return
        new = path.with_suffix(".new")
        for leftover in path.parent.glob(f"{new.name}*"):
            leftover.unlink()
        _migrate(new, artifacts)
        with new.open("rb") as written:
            os.fsync(written.fileno())
        new.replace(path)
        sync_folder(path.parent)


def _migrate(path: Path, artifacts: Path) -> None:
    import sqlalchemy
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    def do_not_sync(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA synchronous=OFF")

    # These two are MLflow's own first steps on an empty database, without types and without a public name.
    engine = create_sqlalchemy_engine(f"{SQLITE}{path}")  # type: ignore[no-untyped-call]
    sqlalchemy.event.listen(engine, "connect", do_not_sync)
    _initialize_tables(engine)  # type: ignore[no-untyped-call]
    with engine.connect() as connection:  # readers (the UI) and the writer no longer wait for each other
        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    engine.dispose()
    # Its default experiment lies under HOME too, not in the folder where the first command was typed.
    store = SqlAlchemyStore(f"{SQLITE}{path}", artifacts.as_uri())  # type: ignore[no-untyped-call]
    store.engine.dispose()


def is_unreachable(error: object) -> bool:
    """Whether a call failed because the server could not be reached or was not well, not for what was asked."""
    from mlflow.exceptions import MlflowException

    return isinstance(error, MlflowException) and error.error_code in UNWELL


def every_page(search: Callable[..., Any], wanted: str | None = None, **options: Any) -> list[Any]:
    """All results of one of the client's `search_…` methods, page after page."""
    found: list[Any] = []
    token = None
    while True:
        page = search(filter_string=wanted, page_token=token, **options)
        found.extend(page)
        token = page.token
        if not token:
            return found
